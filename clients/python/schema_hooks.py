"""What schemathesis must know of Rollcall and OpenAPI has no words for.

A valid request may be refused for a reason that lies in the state of the server or in the
combination of its parameters. Each such reason is one line of `is_justified`, and is checked
against the request; every other refusal of a valid request is a failure.
"""

import schemathesis
from schemathesis.openapi.checks import RejectedPositiveData

# Known from the story that the test sends, for the one call that ends a directory: the rest of
# the run needs the directory of the examples.
DISPOSABLE_DIRECTORY = "directory_01K6W8HNYTZ0W1J2CRAY6VQP6A"

# Fields whose upper bound is the log's size or the server's clock.
BOUND_BY_STATE = {"size", "seq", "after_seq", "from", "to", "effective_from"}

# The calls whose cursors name something that must be in the log.
CURSORS_IN_LOG = {"/events", "/rollcall/v1/changes"}

# The kinds of things that belong to what these parameters of a search by name are about.
KINDS_WITHIN = {
    "directory": {"user", "group"},
    "organization_id": {"user", "group", "directory"},
}

DOCUMENT = {}


@schemathesis.hook
def after_load_schema(context, schema):
    DOCUMENT.update(schema.raw_schema)


def declared(case_or_operation):
    """The path as the document has it, and its call."""
    operation = getattr(case_or_operation, "operation", case_or_operation)
    return operation.path, DOCUMENT["paths"][operation.path][operation.method.lower()]


def parameters(call):
    return {parameter["name"]: parameter for parameter in call.get("parameters", [])}


def is_id(parameter):
    """A parameter that takes any text. Replacing one by its example cannot make it invalid."""
    schema = parameter["schema"]
    return schema.get("type") == "string" and "pattern" not in schema and "enum" not in schema


@schemathesis.serializer("application/x-ndjson")
def lines(context, value):
    """Writes the lines of an import as they are."""
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else str(value).encode()


@schemathesis.hook
def map_case(context, case):
    """Makes more of the valid requests answerable: drops what cannot be combined, and has some
    texts and ids be of things that exist. Requests that are meant to be invalid stay as they are."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return case
    _, call = declared(case)
    query = case.query or {}
    for name, parameter in parameters(call).items():
        if any(name in query and other in query for other in parameter.get("x-not-with", [])):
            del query[name]
        elif is_id(parameter) and is_chosen(query.get(name)):
            query[name] = parameter["example"]
    for parameter in DOCUMENT["paths"][case.operation.path].get("parameters", []):
        if is_chosen((case.path_parameters or {}).get(parameter["name"])):
            case.path_parameters[parameter["name"]] = parameter["example"]
    return case


def is_chosen(value):
    """Chooses about every second text."""
    return isinstance(value, str) and value and len(value) % 2 == 0


@schemathesis.hook
def before_call(context, case, kwargs):
    """Spares the directory of the examples, and does not wait long for changes."""
    if case.method == "DELETE" and case.path_parameters.get("id", "").startswith("directory_01"):
        case.path_parameters["id"] = DISPOSABLE_DIRECTORY
    wait = (case.query or {}).get("wait")
    if isinstance(wait, int) and 1 < wait <= 30:
        case.query["wait"] = 1


def is_justified(error, case, code):
    path, call = declared(case)
    query, field = case.query or {}, error["field"]
    described = parameters(call).get(field, {})
    needed = call.get("x-needs-one-of", [])
    return (
        any(other in query for other in described.get("x-not-with", []))
        or (field in needed and not any(name in query for name in needed))
        or (field == "range_end" and "range_start" in query)
        or (field in BOUND_BY_STATE and error["code"] == "out_of_range")
        or code in ("as_of_in_future", "known_at_out_of_range")
        or (code == "cursor_invalid" and path in CURSORS_IN_LOG)
        # A text of JSON Schema is rarely an event a line.
        or (path == "/rollcall/v1/import" and (field == "body" or field.startswith("line ")))
        or (
            path == "/rollcall/v1/names"
            and error["code"] == "exclusive"
            and query.get("kind") not in KINDS_WITHIN.get(field, {query.get("kind")})
        )
        # With `highest_priority`, `priority` must have every role of the mapping.
        or (field == "mapping.priority" and error["code"] == "required")
        # JSON Schema counts characters, a mapping bytes; and all roles of its rules together.
        or (field.startswith("mapping") and error["code"] == "too_long")
    )


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """Drops refusals of valid requests that have a reason."""
    if not isinstance(failure, RejectedPositiveData):
        return True
    if response.status_code == 412:
        # A version that is not the latest, or `*` before the first mapping.
        return "If-Match" not in (case.headers or {})
    if response.status_code != 422:
        return True
    problem = response.json()
    return not all(is_justified(error, case, problem["code"]) for error in problem["errors"])
