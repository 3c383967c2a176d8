"""Reads the events with these names that come after one of them, to the end: tail.py <names, by commas> [<id of the last one read>]

Prints a JSON array of [id, name].
"""

import json
import sys

from library import client, identity

names = sys.argv[1].split(",")
after = sys.argv[2] if len(sys.argv) > 2 else None
events = client().events
read = []
while True:
    page = events.list_events(events=names, after=after, limit=7)
    for event in page.data:
        read.append(identity(event))
        after, _ = identity(event)
    if page.list_metadata.after is None:
        break
print(json.dumps(read))
