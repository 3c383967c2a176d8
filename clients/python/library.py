"""The library under test, and where its versions differ from the API's words.

LIBRARY is 10 or 5; ROLLCALL_URL and ROLLCALL_API_KEY are the server's.
"""

import json
import os

import workos

VERSION = int(os.environ["LIBRARY"])
URL = os.environ["ROLLCALL_URL"]


def client(api_key=os.environ["ROLLCALL_API_KEY"]):
    """A client as an application makes it; only the address and the key are Rollcall's."""
    if VERSION >= 10:
        return workos.WorkOSClient(api_key=api_key, base_url=URL)
    return workos.WorkOSClient(api_key=api_key, client_id="client_of_the_application", base_url=URL + "/")


# Parameters that this library's methods do not have; a question with one of them is left out.
NOT_SENT = {"directories": [], "users": [], "groups": [], "events": []}
if VERSION == 5:
    NOT_SENT = {"directories": ["domain"], "users": ["email", "idp_id"], "groups": [], "events": []}

# Version 5 has other names for these.
NAMES = {"directory": "directory_id", "group": "group_id", "user": "user_id"} if VERSION == 5 else {}


def offers(kind, parameters):
    return not any(name in NOT_SENT[kind] for name in parameters)


def listing(workos_client, kind, parameters):
    """Lists through the library's own method; `parameters` are in the API's words."""
    options = {NAMES.get(name, name): value for name, value in parameters.items()}
    sync = workos_client.directory_sync
    methods = {"directories": sync.list_directories, "users": sync.list_users, "groups": sync.list_groups}
    return methods.get(kind, workos_client.events.list_events)(**options)


def getting(workos_client, kind, id):
    sync = workos_client.directory_sync
    return {"directory": sync.get_directory, "user": sync.get_user, "group": sync.get_group}[kind](id)


def page_data(page):
    """The items of one page: iterating version 5's page would fetch the following ones."""
    return list(page.data)


# Keys that the library's objects do not have, by the kind of object.
DROPPED = {"organization_domain": ["organization_id"]}
if VERSION == 5:
    DROPPED |= {"directory_user": ["name"], "event": ["context"]}


def identity(event):
    """The id and name of an event. Version 10 hands out the raw object of a type that it does not know."""
    raw = getattr(event, "raw_data", None)
    return (raw["id"], raw["event"]) if raw else (event.id, event.event)


def says(seen, expected, because):
    """Sees that the library's object says what the API's object says."""
    seen = seen.to_dict() if VERSION >= 10 else seen.model_dump()
    same(part(seen, expected), without_dropped(expected), because)


def shown(directory):
    """Over REST a directory's state has other names in version 5; in events it has not."""
    states = {"linked": "active", "unlinked": "inactive"} if VERSION == 5 else {}
    return {**directory, "state": states.get(directory["state"], directory["state"])}


def kept(expected):
    return [name for name in expected if name not in DROPPED.get(expected.get("object"), [])]


def without_dropped(expected):
    if isinstance(expected, list):
        return [without_dropped(item) for item in expected]
    if isinstance(expected, dict):
        return {name: without_dropped(expected[name]) for name in kept(expected)}
    return expected


def part(seen, expected):
    """What `seen` has under the keys of `expected`."""
    if isinstance(expected, list) and isinstance(seen, (list, tuple)) and len(seen) == len(expected):
        return [part(*pair) for pair in zip(seen, expected)]
    if isinstance(expected, dict) and isinstance(seen, dict):
        return {name: part(seen.get(name, "(missing)"), expected[name]) for name in kept(expected)}
    return seen


def same(seen, expected, because):
    """An assertion that prints both sides."""
    assert seen == expected, f"{because}\n  expected {expected!r}\n  and saw  {seen!r}"


def lines(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def failure(call):
    """Runs `call`, which must fail; its exception."""
    try:
        answer = call()
    except Exception as error:  # whatever it is, the test looks at it
        return error
    raise AssertionError(f"it should have failed, and answered {answer!r}")
