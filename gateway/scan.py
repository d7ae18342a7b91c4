"""What a long body's strings show, found in one pass: how deep it nests, and which short strings stand in it.

To search a body of 100 KB for one name after another costs more than all else that is done with its request.
"""

import re

import msgspec

LONG = 4096  # bytes, from which on one pass is cheaper than a search for each name
SHORT = 24  # bytes of a string, below which it may be a name
PARTS = {  # what in a body shows that it holds such a part
    "images": (b'"image_url"', b'"input_image"', b'"image"'),
    "audio": (b'"input_audio"',),
    "files": (b'"input_file"', b'"file"', b'"document"'),
}
SCHEMA = b'"json_schema"'
SIGNS = (*(sign for signs in PARTS.values() for sign in signs), SCHEMA)
MANY_ESCAPES = 24  # bytes to an escape, below which it is not: text in \u escapes, say
_ESCAPED = re.compile(rb'\\["\\]')  # what may hide a quote, or the end of a string


class Scan(msgspec.Struct, frozen=True):
    """Of valid JSON. `outside`: all that stands in no string. `names`: the strings in it shorter than SHORT. `longest`: bytes of the longest string.

    Escaped quotes and backslashes are left out of both.
    """

    outside: bytes
    names: frozenset[bytes]
    longest: int


def scan(body: bytes) -> Scan | None:
    """None: it is short, or of a kind that is sooner searched."""
    if len(body) < LONG:
        return None
    if body.find(b"\\") >= 0:  # many bodies hold none, and to count them costs as much as half of the rest
        if body.count(b"\\") * MANY_ESCAPES > len(body):
            return None
        body = _ESCAPED.sub(b"", body)  # what is left of the quotes begins or ends a string
    pieces = body.split(b'"')
    strings = pieces[1::2]
    return Scan(b"".join(pieces[::2]), frozenset([string for string in strings if len(string) < SHORT]), max(map(len, strings), default=0))
