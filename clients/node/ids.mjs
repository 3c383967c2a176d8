// Ids with a slash, a space and a per cent sign, in paths and in queries: ids.mjs <directory> <user> <group>

import assert from "node:assert/strict";
import { client, failure, library, version } from "./library.mjs";

const [directory, user, group] = process.argv.slice(2);
const { directorySync } = client();

const ids = (page) => page.data.map((item) => item.id);
assert.deepEqual(ids(await directorySync.listUsers({ directory })), [user]);
assert.deepEqual(ids(await directorySync.listUsers({ group })), [user]);
assert.deepEqual(ids(await directorySync.listGroups({ user })), [group]);

const reads = [
  [() => directorySync.getDirectory(directory), directory],
  [() => directorySync.getUser(user), user],
  [() => directorySync.getGroup(group), group],
];
for (const [read, id] of reads) {
  if (version >= 11) {
    assert.equal((await read()).id, id);
  } else {
    // These versions put the id into the path as it is: a slash makes it another path.
    const error = await failure(read);
    assert.ok(error instanceof library.NotFoundException, error.stack);
    assert.equal(error.code, "not_found");
  }
}
