"""Amazon's event stream, sans-IO: bytes in, whole messages out, both checksums checked.

A message: total length, length of its headers, CRC of these eight bytes; headers; payload; CRC of all before it
(https://docs.aws.amazon.com/AmazonS3/latest/API/RESTSelectObjectAppendix.html; smithy.io/2.0/aws/amazon-eventstream.html).
"""

import struct
from zlib import crc32

import msgspec

from contract.errors import MalformedResponse

MESSAGE_LIMIT = 4 << 20  # as an event of any other stream; Amazon's own limit is 24 MiB
PRELUDE = struct.Struct(">III")
_WORD = struct.Struct(">I")
_HALF = struct.Struct(">H")
_FIXED_LENGTHS = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}  # value types whose length their type says
_BYTES, _STRING = 6, 7


class EventStreamMessage(msgspec.Struct, frozen=True):
    """`headers` holds those whose value is a string."""

    headers: dict[str, str]
    payload: bytes


class EventStreamDecoder:
    """Holds back what is not yet a whole message. Raises MalformedResponse for a wrong checksum, length or header, after the good ones before it."""

    def __init__(self) -> None:
        self._rest = b""
        self._bad: MalformedResponse | None = None

    def feed(self, chunk: bytes) -> list[EventStreamMessage]:
        """The messages that this chunk completes."""
        if self._bad is not None:
            raise self._bad
        data = self._rest + chunk if self._rest else chunk
        messages: list[EventStreamMessage] = []
        at = 0
        try:
            while len(data) - at >= PRELUDE.size:
                length = _length(data, at)
                if len(data) - at < length:
                    break
                messages.append(_message(data[at : at + length]))
                at += length
        except MalformedResponse as error:
            if not messages:
                raise
            self._bad = error
        self._rest = data[at:]
        return messages

    def end(self) -> None:
        """Raises what was wrong after the last whole message; there is nothing more to give."""
        self.feed(b"")

    @property
    def whole(self) -> bool:
        """Whether the stream may end here: between two messages."""
        return not self._rest and self._bad is None


def _length(data: bytes, at: int) -> int:
    total, headers, checksum = PRELUDE.unpack_from(data, at)
    if crc32(data[at : at + 8]) != checksum:
        raise MalformedResponse("the upstream's event stream has a wrong checksum")
    if total > MESSAGE_LIMIT or total < PRELUDE.size + 4 + headers:
        raise MalformedResponse("the upstream's event stream has a message of an impossible length")
    return int(total)


def _message(data: bytes) -> EventStreamMessage:
    if crc32(data[:-4]) != _WORD.unpack_from(data, len(data) - 4)[0]:
        raise MalformedResponse("the upstream's event stream has a wrong checksum")
    end = PRELUDE.size + _WORD.unpack_from(data, 4)[0]
    return EventStreamMessage(_headers(data[PRELUDE.size : end]), data[end:-4])


def _headers(data: bytes) -> dict[str, str]:
    headers: dict[str, str] = {}
    at = 0
    try:
        while at < len(data):
            size = data[at]
            name = data[at + 1 : at + 1 + size].decode()
            kind = data[at + 1 + size]
            at += 2 + size
            if kind in (_BYTES, _STRING):
                length = _HALF.unpack_from(data, at)[0]
                if kind == _STRING:
                    headers[name] = data[at + 2 : at + 2 + length].decode()
                at += 2 + length
            else:
                at += _FIXED_LENGTHS[kind]
    except (IndexError, KeyError, struct.error, UnicodeDecodeError) as exc:
        raise MalformedResponse("the upstream's event stream has a header that cannot be read") from exc
    if at != len(data):
        raise MalformedResponse("the upstream's event stream has a header that cannot be read")
    return headers
