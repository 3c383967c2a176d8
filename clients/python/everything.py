"""Prints all there is, as JSON: the directories, the users and groups of each, the members of each group."""

import json

from library import client

sync = client().directory_sync


def every(page):
    return [item.id for item in page.auto_paging_iter()]


everything = {"directories": every(sync.list_directories()), "users": {}, "groups": {}, "members": {}}
for directory in everything["directories"]:
    everything["users"][directory] = every(sync.list_users(directory=directory, limit=100))
    everything["groups"][directory] = every(sync.list_groups(directory=directory, limit=100))
    for group in everything["groups"][directory]:
        everything["members"][group] = every(sync.list_users(group=group, limit=100))
print(json.dumps(everything))
