"""A receiver as the guides teach it: the library verifies the webhook, then reads the directory's users.

Only the address, the key and the secret are Rollcall's. It prints its own URL; GET / tells what it has.
"""

import json
import os
from http.server import BaseHTTPRequestHandler, HTTPServer

from library import VERSION, client

workos = client()
secret = os.environ["WEBHOOK_SECRET"]
people = {}
refusals = []


def users_of(directory):
    if VERSION >= 10:
        return workos.directory_sync.list_users(directory=directory, limit=100).auto_paging_iter()
    return workos.directory_sync.list_users(directory_id=directory, limit=100).data


def take(body, signature):
    webhook = workos.webhooks.verify_event(event_body=body, event_signature=signature, secret=secret)
    # Version 10 has no `event` on a type that it does not know.
    name = getattr(webhook, "event", "")
    if name == "dsync.activated":
        people[webhook.data.id] = []
    if name.startswith("dsync.user."):
        directory = webhook.data.directory_id
        people[directory] = [
            {"id": user.id, "email": user.email, "state": user.state, "groups": [group.name for group in user.groups]}
            for user in users_of(directory)
        ]


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            take(body, self.headers["WorkOS-Signature"])
            self.answer(200, b"")
        except Exception as error:  # told at GET /
            refusals.append(repr(error))
            self.answer(400, b"")

    def do_GET(self):
        self.answer(200, json.dumps({"people": people, "refusals": refusals}).encode())

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), Receiver)
print(f"http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
