"""Auto-pagination: pages.py <directory> <JSON file of the ids that were sent>"""

import json
import sys

from library import VERSION, client, failure, same

directory, path = sys.argv[1:]
with open(path, encoding="utf-8") as file:
    sent = json.load(file)
sync = client().directory_sync

if VERSION >= 10:
    newest_first = sync.list_users(directory=directory).auto_paging_iter()
    same([user.id for user in newest_first], sent[::-1], "each once, the newest first")
    oldest_first = sync.list_users(directory=directory, order="asc", limit=100).auto_paging_iter()
    same([user.id for user in oldest_first], sent, "each once, the oldest first")
else:
    import workos.exceptions

    # This version forgets the directory on the second page. A list without a scope is refused, and not guessed from the cursor.
    read = []
    error = failure(lambda: read.extend(user.id for user in sync.list_users(directory_id=directory)))
    assert isinstance(error, workos.exceptions.BadRequestException), repr(error)
    same((error.response.status_code, error.code), (422, "validation_failed"), "the second page has no scope")
    same(read, sent[:-11:-1], "the first page was read")

    # Page by page, with the scope in each call, it reads them all.
    read, after = [], None
    while True:
        page = sync.list_users(directory_id=directory, limit=100, after=after)
        read.extend(user.id for user in page.data)
        after = page.list_metadata.after
        if after is None:
            break
    same(read, sent[::-1], "each once, the newest first")

    # Other lists keep their scope.
    directories = [found.id for found in sync.list_directories()]
    same(directories, [directory], "the one directory")
