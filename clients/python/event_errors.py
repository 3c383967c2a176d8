"""The errors of the list of events."""

from library import VERSION, client, failure, same

if VERSION >= 10:
    from workos import BadRequestError as Nameless
    from workos import UnprocessableEntityError as Invalid
else:
    from workos.exceptions import BadRequestException as Nameless

    Invalid = Nameless

events = client().events
nameless = failure(lambda: events.list_events(events=[]))
assert type(nameless) is Nameless, repr(nameless)
same((nameless.response.status_code, nameless.code), (400, "invalid_events_request"), "no names")
same(nameless.message, "One or more event names (e.g. dsync.user.created) must be provided using the events parameter.", "no names")

for options, code in [
    ({"after": "event_unheard_of"}, "cursor_invalid"),
    ({"range_start": "2026-02-01T00:00:00Z", "range_end": "2026-01-01T00:00:00Z"}, "validation_failed"),
]:
    error = failure(lambda: events.list_events(events=["dsync.user.created"], **options))
    assert type(error) is Invalid, repr(error)
    same((error.response.status_code, error.code), (422, code), f"{options}")
