"""A multipart form taken in as it comes: small fields in memory, its one file to the disk. Sans-IO but for the file (RFC 7578)."""

import re
from typing import Protocol

from contract.errors import InvalidRequest, RequestTooLarge, UnsupportedMediaType

MAX_HEAD = 16 << 10  # of one part
MAX_FIELD = 16 << 10
MAX_FIELDS = 32
_BOUNDARY = re.compile(r'^multipart/form-data\s*;.*?boundary=(?:"([^"]{1,70})"|([^\s;,"]{1,70}))', re.I | re.S)
_NAME = re.compile(rb'[;\s]name="((?:[^"\\]|\\.)*)"', re.I)
_FILENAME = re.compile(rb'[;\s]filename="((?:[^"\\]|\\.)*)"', re.I)


class Sink(Protocol):
    """What takes the file's bytes."""

    def write(self, data: bytes, /) -> int: ...


class Form:
    """`feed` it until the body ends, then `end`. `fields`, and the `filename` of what went to the sink; None: there was no file."""

    def __init__(self, content_type: str, sink: Sink, limit: int) -> None:
        found = _BOUNDARY.match(content_type)
        if found is None:
            raise UnsupportedMediaType("the body must be a multipart form; send `content-type: multipart/form-data`")
        self._mark = b"\r\n--" + (found[1] or found[2]).encode()
        self._sink = sink
        self._limit = limit
        self._buffer = bytearray(b"\r\n")  # the first boundary has no line before it
        self._state = "preamble"
        self._name = ""
        self._field = bytearray()
        self._skip = 0  # bytes that are not the part's
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self.size = 0

    def feed(self, data: bytes) -> None:
        """Raises InvalidRequest, RequestTooLarge."""
        self._buffer += data
        while self._step():
            pass

    def end(self) -> None:
        """Raises InvalidRequest for a form that is not whole."""
        if self._state != "over":
            raise InvalidRequest("the form ends before its last boundary")

    def _step(self) -> bool:
        """Whether something came of it."""
        if self._state == "head":
            return self._head()
        if self._state == "over":
            self._buffer.clear()
            return False
        at = self._buffer.find(self._mark)
        if at < 0:
            self._take(max(0, len(self._buffer) - len(self._mark)))
            return False
        if len(self._buffer) < at + len(self._mark) + 2:
            return False
        self._take(at)
        if self._state == "field":
            self.fields[self._name] = self._field.decode("utf-8", "replace")
        ending = self._buffer[len(self._mark) : len(self._mark) + 2]
        del self._buffer[: len(self._mark) + 2]
        if ending == b"--":
            self._state = "over"
        elif ending == b"\r\n":
            self._state = "head"
        else:
            raise InvalidRequest("the form's boundary is followed by something else than a line's end")
        return True

    def _head(self) -> bool:
        at = self._buffer.find(b"\r\n\r\n")
        if at < 0:
            if len(self._buffer) > MAX_HEAD:
                raise InvalidRequest("a part of the form has a head that is too long")
            return False
        head = bytes(self._buffer[:at])
        del self._buffer[: at + 2]  # the line's end before the part stays: of an empty part it is the boundary's
        self._skip = 2
        name, filename = _NAME.search(head), _FILENAME.search(head)
        if name is None:
            raise InvalidRequest("a part of the form has no name")
        self._name = name[1].decode("utf-8", "replace")
        if filename is not None:
            if self.filename is not None or self._name != "file":
                raise InvalidRequest("the form must hold one file, in its field `file`", param="file")
            self.filename = filename[1].decode("utf-8", "replace")
            self._state = "file"
        else:
            if len(self.fields) >= MAX_FIELDS:
                raise InvalidRequest(f"the form has more than {MAX_FIELDS} fields")
            self._field.clear()
            self._state = "field"
        return True

    def _take(self, size: int) -> None:
        """The next bytes of whatever part this is."""
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        if self._skip and data:
            data, self._skip = data[self._skip :], max(0, self._skip - size)
        if self._state == "file":
            self.size += len(data)
            if self.size > self._limit:
                raise RequestTooLarge(f"the file is larger than the {self._limit} bytes that this gateway takes")
            self._sink.write(data)
        elif self._state == "field":
            self._field += data
            if len(self._field) > MAX_FIELD:
                raise InvalidRequest(f"the form's field `{self._name[:40]}` is too long", param=self._name[:40])
