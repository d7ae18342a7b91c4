"""Events of a stream that differ in one string alone, as most of chat's do: read as that string, without decoding what they have in common."""

import re

import msgspec

from providers.sse import BETWEEN

MEMBERS = ("content", "reasoning_content", "reasoning")  # of a delta
FIRST = 2  # events of a read that are read before a frame is looked for: the first one is often of its own kind
MOST_FRAMES = 4  # that a stream may have before its events are taken for ones without any
_MEMBER = {name: re.compile(rb'"%b"\s*:\s*("(?:[^"\\]++|\\.)++")' % name.encode()) for name in MEMBERS}
BEFORE, AFTER = b"data: {", b"}\n\n"  # of an event that holds an object
_QUOTE = 34
_string = msgspec.json.Decoder(str)
_strings = msgspec.json.Decoder(list[str])


class Frame:
    """Events whose data are one line with a JSON object. `head`, `tail`: what stands before the string and behind it, without the object's braces."""

    __slots__ = ("_after", "_before")

    def __init__(self, head: bytes, tail: bytes) -> None:
        self._before, self._after = BEFORE + head, tail + AFTER

    def with_string(self, told: bytes) -> bytes:
        """An event's data that holds this one; so that its reader can look whether it is read from here."""
        return b"{%b%b%b}" % (self._before[len(BEFORE) :], told, self._after[: -len(AFTER)])

    def string(self, event: bytes) -> tuple[bytes, str] | None:
        """The string of these bytes, as it came and decoded, if they are one event with this frame."""
        before, after = self._before, self._after
        if not event.startswith(before) or not event.endswith(after):
            return None
        found = event[len(before) : -len(after)]
        if found.find(b"\n") >= 0 or found[:1] != b'"' or found[-1:] != b'"':
            return None
        try:
            return found, _string.decode(found)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None

    def strings(self, chunk: bytes, at: int, objects: list[bytes]) -> tuple[list[bytes], list[str]]:
        """The strings, as they came and decoded, of the first of these events; none where not all of them up to the last one with this frame have it.

        `objects`: as `SseDecoder.objects` gives them. `at`: where in the chunk the first of them begins.
        """
        before, after = self._before, self._after
        head, tail = before[len(BEFORE) :], after[: -len(AFTER)]
        end = len(objects)
        while end and not (objects[end - 1].startswith(head) and objects[end - 1].endswith(tail)):
            end -= 1
        first, last = len(head), -len(tail)
        found = [told[first:last] for told in (objects if end == len(objects) else objects[:end])]
        joined = (tail + BETWEEN + head).join(found)
        inside = at + len(before)
        if not found or not (chunk.startswith(before, at) and chunk.startswith(joined, inside) and chunk.startswith(after, inside + len(joined))):
            return [], []
        array = b"[%b]" % b",\n".join(found)  # no string holds a line end, so that each line of it is one value or does not decode
        if array[1] != _QUOTE or array[-2] != _QUOTE or array.count(b'",\n"') != end - 1:
            return [], []
        try:
            decoded = _strings.decode(array)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return [], []
        return (found, decoded) if len(decoded) == end else ([], [])


def frame_around(told: bytes, member: str) -> Frame | None:
    """The frame of an object, without its braces, around the string that seems to be its member of that name."""
    place = _MEMBER[member].search(told)
    if place is None:
        return None
    tail = told[place.end(1) :]
    return Frame(told[: place.start(1)], tail) if tail else None
