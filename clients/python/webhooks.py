"""Webhooks signed by `rollcall send`, verified by the library: webhooks.py <JSON file of {secret, deliveries, stale}>"""

import json
import sys

from library import VERSION, client, failure, identity, same

with open(sys.argv[1], encoding="utf-8") as file:
    sent = json.load(file)
webhooks = client().webhooks


def verify(delivery, body=None):
    body = delivery["body"] if body is None else body
    return webhooks.verify_event(event_body=body.encode(), event_signature=delivery["header"], secret=sent["secret"])


def refused(delivery, body, message):
    error = failure(lambda: verify(delivery, body))
    assert isinstance(error, ValueError), repr(error)
    same(str(error), message, "why it is refused")


for delivery in sent["deliveries"]:
    event, body = verify(delivery), json.loads(delivery["body"])
    same(identity(event), (body["id"], body["event"]), "what the event says")
    # These versions have no type of their own for it.
    if body["event"] != "dsync.deactivated":
        typed = "Untyped" not in type(event).__name__ and "Unknown" not in type(event).__name__
        assert typed, f"version {VERSION} reads it as {type(event).__name__}: {delivery['body']}"
    changed = delivery["body"].replace("2026", "2027", 1)
    refused(delivery, changed, "Signature hash does not match the expected signature hash for payload")
refused(sent["stale"], sent["stale"]["body"], "Timestamp outside the tolerance zone")
