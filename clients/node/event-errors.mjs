// The errors of the list of events.

import assert from "node:assert/strict";
import { client, failure, library, version } from "./library.mjs";

const { GenericServerException, UnprocessableEntityException } = library;
const workos = client();
const events = ["dsync.user.created"];

const nameless = await failure(() => workos.events.listEvents({ events: [] }));
assert.ok(nameless instanceof GenericServerException, nameless.stack);
assert.equal(nameless.status, 400);
assert.equal(nameless.message, "One or more event names (e.g. dsync.user.created) must be provided using the events parameter.");
assert.equal(nameless.rawData.code, "invalid_events_request");
if (version >= 11) assert.match(nameless.requestID, /^req_[0-9a-f]{16}$/);

for (const [options, code] of [
  [{ events, after: "event_unheard_of" }, "cursor_invalid"],
  [{ events, rangeStart: "2026-02-01T00:00:00Z", rangeEnd: "2026-01-01T00:00:00Z" }, "validation_failed"],
]) {
  const error = await failure(() => workos.events.listEvents(options));
  assert.ok(error instanceof UnprocessableEntityException, error.stack);
  assert.equal(error.code, code);
}
