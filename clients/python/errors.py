"""Every error as the library's own exception: its class, its message, and the request's id."""

import re

import workos

from library import VERSION, client, failure, same

if VERSION >= 10:
    from workos._errors import APIError, AuthenticationError, NotFoundError, UnprocessableEntityError

    UNAUTHORIZED, NOT_FOUND, INVALID, OTHER = AuthenticationError, NotFoundError, UnprocessableEntityError, APIError
else:
    from workos.exceptions import AuthenticationException, BadRequestException, NotFoundException

    # This version has one exception for all others below 500.
    UNAUTHORIZED, NOT_FOUND, INVALID, OTHER = AuthenticationException, NotFoundException, BadRequestException, BadRequestException

assert workos.WorkOSClient


def check(error, exception, status, message, code):
    assert type(error) is exception, f"{exception} was expected, and this came: {error!r}"
    same(error.response.status_code, status, "the status")
    same(error.message, message, "the message")
    same(error.code, code, "the code")
    assert re.fullmatch("req_[0-9a-f]{16}", error.request_id), error.request_id


sync = client().directory_sync
check(failure(lambda: client("sk_wrong").directory_sync.list_directories()), UNAUTHORIZED, 401, "Unauthorized", "unauthorized")
for call, kind in [(sync.get_directory, "Directory"), (sync.get_user, "Directory User"), (sync.get_group, "Directory Group")]:
    check(failure(lambda: call("nobody")), NOT_FOUND, 404, f"{kind} not found: 'nobody'.", "entity_not_found")
for call, first, second in [(sync.list_users, "directory", "group"), (sync.list_groups, "directory", "user")]:
    error = failure(call)
    check(error, INVALID, 422, "Validation failed", "validation_failed")
    rule = f'Please provide either "{first}" or "{second}" parameters.'
    same(list(error.errors), [{"field": first, "code": rule}, {"field": second, "code": rule}], "what is missing")
check(failure(lambda: sync.list_directories(limit=101)), INVALID, 422, "Validation failed", "validation_failed")

if VERSION >= 10:
    error = failure(lambda: client().request("post", ("directories",), body={}))
else:
    error = failure(lambda: sync._http_client.request("directories", method="post", json={}))
check(error, OTHER, 405, "method not allowed", "method_not_allowed")
