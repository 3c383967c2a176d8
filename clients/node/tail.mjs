// Reads the events with these names that come after one of them, to the end: tail.mjs <names, by commas> [<id of the last one read>]
// Prints a JSON array of [id, name].

import assert from "node:assert/strict";
import { client } from "./library.mjs";

const events = process.argv[2].split(",");
let after = process.argv[3];
const workos = client();
const read = [];
for (;;) {
  const page = await workos.events.listEvents({ events, after, limit: 7 });
  for (const event of page.data) {
    assert.ok(event?.id && event.data, `an event that the library could not read: ${JSON.stringify(event)}`);
    read.push([event.id, event.event]);
    after = event.id;
  }
  if (!page.listMetadata.after) break;
}
console.log(JSON.stringify(read));
