// Webhooks signed by `rollcall send`, verified by the library: webhooks.mjs <JSON file of {secret, deliveries, stale}>

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { client, failure, library, version } from "./library.mjs";

const { secret, deliveries, stale } = JSON.parse(readFileSync(process.argv[2], "utf8"));
const { webhooks } = client();

// Version 7 takes the parsed body and signs what JSON.stringify makes of it; later ones take the raw one as well.
const forms = version >= 10 ? [(body) => body, (body) => Buffer.from(body), JSON.parse] : [JSON.parse];

async function refused(sigHeader, payload, message) {
  const error = await failure(() => webhooks.constructEvent({ payload, sigHeader, secret }));
  assert.ok(error instanceof library.SignatureVerificationException, error.stack);
  assert.equal(error.message, message);
}

for (const { header, body } of deliveries) {
  const sent = JSON.parse(body);
  for (const form of forms) {
    const event = await webhooks.constructEvent({ payload: form(body), sigHeader: header, secret });
    assert.deepEqual([event.id, event.event], [sent.id, sent.event]);
  }
  const changed = body.replace("2026", "2027");
  assert.notEqual(changed, body);
  await refused(header, forms[0](changed), "Signature hash does not match the expected signature hash for payload");
}
await refused(stale.header, forms[0](stale.body), "Timestamp outside the tolerance zone");
