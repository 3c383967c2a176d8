"""A directory is deleted, twice, and is gone with all in it: deletion.py <directory> <user>"""

import sys

from library import client, failure, listing, page_data, same

directory, user = sys.argv[1:]
workos = client()
sync = workos.directory_sync

same(sync.get_user(user).directory_id, directory, "where the user is")
sync.delete_directory(directory)
sync.delete_directory(directory)
for call, id in [(sync.get_directory, directory), (sync.get_user, user), (sync.delete_directory, "directory_nobody")]:
    error = failure(lambda: call(id))
    same(error.response.status_code, 404, "the status")
    same(error.code, "entity_not_found", "the code")
same(page_data(listing(workos, "users", {"directory": directory})), [], "who is left")
