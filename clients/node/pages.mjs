// Auto-pagination: pages.mjs <directory> <JSON file of the ids that were sent>

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { client } from "./library.mjs";

const [directory, file] = process.argv.slice(2);
const sent = JSON.parse(readFileSync(file, "utf8"));
const workos = client();

const newestFirst = await (await workos.directorySync.listUsers({ directory })).autoPagination();
assert.deepEqual(newestFirst.map((user) => user.id), [...sent].reverse(), "each once, the newest first");

const oldestFirst = await (await workos.directorySync.listUsers({ directory, order: "asc" })).autoPagination();
assert.deepEqual(oldestFirst.map((user) => user.id), sent, "each once, the oldest first");
