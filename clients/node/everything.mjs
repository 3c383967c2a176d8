// Prints all there is, as JSON: the directories, the users and groups of each, the members of each group.

import { client } from "./library.mjs";

const { directorySync } = client();
const all = async (list) => (await (await list).autoPagination()).map((item) => item.id);

const everything = { directories: await all(directorySync.listDirectories()), users: {}, groups: {}, members: {} };
for (const directory of everything.directories) {
  everything.users[directory] = await all(directorySync.listUsers({ directory }));
  everything.groups[directory] = await all(directorySync.listGroups({ directory }));
  for (const group of everything.groups[directory]) everything.members[group] = await all(directorySync.listUsers({ group }));
}
console.log(JSON.stringify(everything));
