"""Lists and items, with every filter that the library sends: reads.py <table of questions and answers>"""

import sys

from library import client, getting, lines, listing, offers, page_data, same, says, shown

workos = client()
asked = 0
for question in lines(sys.argv[1]):
    because = question["because"]
    if "get" in question:
        expected = shown(question["is"]) if question["get"] == "directory" else question["is"]
        says(getting(workos, question["get"], question["id"]), expected, because)
    elif offers(question["list"], question["with"]):
        page = listing(workos, question["list"], question["with"])
        asking = f"{question['list']} {question['with']}: {because}"
        same([item.id for item in page_data(page)], question["ids"], asking)
        if "after" in question:
            same(page.list_metadata.after, question["after"], asking)
        for item, expected in zip(page_data(page), question.get("is", [])):
            says(item, expected, asking)
    else:
        continue
    asked += 1
assert asked > 5, f"only {asked} questions were asked"
