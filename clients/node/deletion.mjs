// A directory is deleted, twice, and is gone with all in it: deletion.mjs <directory> <user>

import assert from "node:assert/strict";
import { client, failure, library } from "./library.mjs";

const [directory, user] = process.argv.slice(2);
const { directorySync } = client();

assert.equal((await directorySync.getUser(user)).directoryId, directory);
await directorySync.deleteDirectory(directory);
await directorySync.deleteDirectory(directory);
for (const read of [() => directorySync.getDirectory(directory), () => directorySync.getUser(user)]) {
  const error = await failure(read);
  assert.ok(error instanceof library.NotFoundException, error.stack);
  assert.equal(error.code, "entity_not_found");
}
assert.deepEqual((await directorySync.listUsers({ directory })).data, []);

const unknown = await failure(() => directorySync.deleteDirectory("directory_nobody"));
assert.ok(unknown instanceof library.NotFoundException, unknown.stack);
