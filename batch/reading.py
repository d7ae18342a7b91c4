"""What stands where in a file of rows, read in bounded memory: the lines of JSONL, or the elements of `requests` in one JSON object."""

import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from batch.states import Fault

CHUNK = 1 << 20
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|["\[\]{},]', re.S)
_BEGIN = re.compile(rb'\s*\{\s*"requests"\s*:\s*\[')
_BLANK = b" \t\r\n"
NOT_REQUESTS = Fault("invalid_request", "the body must be a JSON object whose only member is the array `requests`")


class Piece(NamedTuple):
    """One row's bytes and where they begin. `line`: from 1."""

    line: int
    at: int
    data: bytes


class Unreadable(Exception):
    """The file is not what it should be; nothing after that place can be told apart."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


def lines(file: BinaryIO, limit: int) -> Iterator[Piece]:
    """Those that are not blank. Raises Unreadable for one that is longer than `limit` bytes."""
    at, line = 0, 0
    while data := file.readline(limit + 2):
        line += 1
        if len(data) > limit + 1 and not data.endswith(b"\n"):
            raise Unreadable(Fault("line_too_long", f"the line is longer than {limit} bytes", line))
        if data.strip(_BLANK):
            yield Piece(line, at, data)
        at += len(data)


def elements(file: BinaryIO, limit: int) -> Iterator[Piece]:
    """Of the array `requests`, the body's only member. Raises Unreadable."""
    buffer = file.read(CHUNK)
    begin = _BEGIN.match(buffer)
    if begin is None:
        raise Unreadable(NOT_REQUESTS)
    base, start, line = 0, begin.end(), 0  # of the buffer in the file; of the element in the buffer
    seek, depth = start, 0
    while True:
        token = _TOKEN.search(buffer, seek)
        if token is None or (token[0] == b'"'):  # nothing more is in hand, or a string that goes on
            if len(buffer) - start > limit:
                raise Unreadable(Fault("request_too_long", f"the request is longer than {limit} bytes", line + 1))
            more = file.read(CHUNK)
            if not more:
                raise Unreadable(Fault("invalid_json", "the body ends before its JSON does", line + 1))
            seek = (len(buffer) if token is None else token.start()) - start
            base, buffer, start = base + start, buffer[start:] + more, 0
            continue
        seek = token.end()
        sign = token[0]
        if sign in (b"{", b"["):
            depth += 1
        elif depth and sign in (b"}", b"]"):
            depth -= 1
        elif not depth and sign in (b",", b"]", b"}"):
            data = buffer[start : token.start()]
            if data.strip(_BLANK):
                line += 1
                blank = len(data) - len(data.lstrip(_BLANK))
                yield Piece(line, base + start + blank, data.strip(_BLANK))
            elif line or sign != b"]":
                raise Unreadable(Fault("invalid_json", "the array `requests` has an empty place", line + 1))
            start = seek
            if sign != b",":
                break
    if (buffer[seek:] + file.read(CHUNK)).strip(_BLANK) != b"}" or sign != b"]":
        raise Unreadable(NOT_REQUESTS)
