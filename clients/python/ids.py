"""Ids with a slash, a space and a per cent sign, in paths and in queries: ids.py <directory> <user> <group>"""

import sys

from library import VERSION, client, failure, listing, page_data, same

directory, user, group = sys.argv[1:]
workos = client()
sync = workos.directory_sync


def ids(kind, **parameters):
    return [item.id for item in page_data(listing(workos, kind, parameters))]


same(ids("users", directory=directory), [user], "by directory")
same(ids("users", group=group), [user], "by group")
same(ids("groups", user=user), [group], "by user")

for read, id in [(sync.get_directory, directory), (sync.get_user, user), (sync.get_group, group)]:
    if VERSION >= 10:
        same(read(id).id, id, "in the path")
    else:
        # This version puts the id into the path as it is: a slash makes it another path.
        error = failure(lambda: read(id))
        same((type(error).__name__, error.code), ("NotFoundException", "not_found"), "in the path")
