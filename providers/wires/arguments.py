"""A tool call's arguments as the JSON object that most formats want them to be."""

import msgspec
from msgspec import Raw

EMPTY = Raw(b"{}")


def as_object(arguments: str) -> Raw:
    """The text itself where it is an object; none for none; what is no object becomes a member of one, so that nothing is lost."""
    if not arguments.strip():
        return EMPTY
    try:
        decoded = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, RecursionError):
        return Raw(msgspec.json.encode({"_arguments": arguments}))
    return Raw(arguments.encode()) if isinstance(decoded, dict) else Raw(msgspec.json.encode({"_arguments": decoded}))
