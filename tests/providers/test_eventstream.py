"""Amazon's event stream is read as botocore reads it, however it is cut; what is broken is never taken for a message."""

import json
import struct
from typing import Any
from zlib import crc32

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.errors import MalformedResponse
from providers.eventstream import MESSAGE_LIMIT, EventStreamDecoder, EventStreamMessage
from tests.providers.eventstream_bytes import event, framed, header, message

HELLO = event("contentBlockDelta", contentBlockIndex=0, delta={"text": "Grüße 🦀"})
STOP = event("messageStop", stopReason="end_turn")
STREAM = HELLO + message({}, b"") + STOP
_values = {
    0: st.none(),
    1: st.none(),
    2: st.integers(-128, 127),
    3: st.integers(-(1 << 15), (1 << 15) - 1),
    4: st.integers(-(1 << 31), (1 << 31) - 1),
    5: st.integers(-(1 << 63), (1 << 63) - 1),
    6: st.binary(max_size=40),
    7: st.text(max_size=20).map(str.encode),
    8: st.integers(0, 1 << 62),
    9: st.binary(min_size=16, max_size=16),
}
_value = st.integers(0, 9).flatmap(lambda kind: st.tuples(st.just(kind), _values[kind]))
_headers = st.dictionaries(st.text(min_size=1, max_size=12), _value, max_size=5)
_messages = st.lists(st.tuples(_headers, st.binary(max_size=200)), max_size=5)


def fed(data: bytes, size: int) -> list[EventStreamMessage]:
    decoder = EventStreamDecoder()
    found = [message for at in range(0, len(data), size) for message in decoder.feed(data[at : at + size])]
    assert decoder.whole
    return found


def by_botocore(data: bytes) -> list[EventStreamMessage]:
    """What Amazon's own client reads; of its headers the strings."""
    buffer: Any = EventStreamBuffer()
    buffer.add_data(data)
    return [EventStreamMessage({name: v for name, v in each.headers.items() if isinstance(v, str)}, each.payload) for each in buffer]


def written(messages: list[tuple[dict[str, tuple[int, Any]], bytes]]) -> bytes:
    return b"".join(framed(b"".join(header(name, *value) for name, value in headers.items()), payload) for headers, payload in messages)


def test_a_message_is_read_with_its_headers_and_payload() -> None:
    found = fed(HELLO, len(HELLO))
    assert found[0].headers == {":event-type": "contentBlockDelta", ":content-type": "application/json", ":message-type": "event"}
    assert json.loads(found[0].payload)["delta"] == {"text": "Grüße 🦀"}


@settings(max_examples=150, deadline=None)
@given(_messages, st.integers(1, 70))
def test_messages_are_read_as_botocore_reads_them_however_they_are_sliced(
    messages: list[tuple[dict[str, tuple[int, Any]], bytes]], size: int
) -> None:
    data = written(messages)
    headers = [{n: v[1].decode() for n, v in given.items() if v[0] == 7} for given, _ in messages]
    strings = [EventStreamMessage(told, payload) for told, (_, payload) in zip(headers, messages, strict=True)]
    assert fed(data, size) == strings == by_botocore(data)


@pytest.mark.parametrize("size", [1, 2, 3, 11, 12, 13, len(STREAM)])
def test_a_stream_is_the_same_in_pieces_of_any_size(size: int) -> None:
    assert fed(STREAM, size) == by_botocore(STREAM)


def test_a_stream_that_is_cut_at_any_byte_gives_the_whole_messages_before_it_and_is_whole_only_between_two() -> None:
    ends = [len(HELLO), len(HELLO) + 16, len(STREAM)]
    for cut in range(len(STREAM) + 1):
        decoder = EventStreamDecoder()
        assert len(decoder.feed(STREAM[:cut])) == sum(end <= cut for end in ends)
        assert decoder.whole == (cut in (0, *ends))


def test_a_flipped_bit_anywhere_is_found() -> None:
    for at in range(len(HELLO)):
        broken = bytearray(HELLO)
        broken[at] ^= 1 << (at % 8)
        decoder = EventStreamDecoder()
        with pytest.raises(MalformedResponse):
            decoder.feed(bytes(broken))


def test_a_wrong_checksum_of_the_prelude_is_found_before_the_message_has_come() -> None:
    with pytest.raises(MalformedResponse, match="checksum"):
        EventStreamDecoder().feed(HELLO[:8] + b"\0\0\0\0")


def test_a_wrong_checksum_of_the_message_is_found() -> None:
    with pytest.raises(MalformedResponse, match="checksum"):
        EventStreamDecoder().feed(HELLO[:-1] + bytes([HELLO[-1] ^ 1]))


def test_what_came_before_a_broken_message_is_given_first() -> None:
    decoder = EventStreamDecoder()
    assert len(decoder.feed(HELLO + STOP + b"\xff" * 16)) == 2
    assert not decoder.whole
    for _ in range(2):
        with pytest.raises(MalformedResponse):
            decoder.feed(HELLO)


def prelude(total: int, headers: int) -> bytes:
    head = struct.pack(">II", total, headers)
    return head + struct.pack(">I", crc32(head))


@pytest.mark.parametrize("given", [(MESSAGE_LIMIT + 1, 0), (0xFFFFFFFF, 0), (15, 0), (0, 0), (32, 17), (64, 0xFFFFFFFF)])
def test_an_impossible_length_is_refused_by_its_prelude_alone(given: tuple[int, int]) -> None:
    with pytest.raises(MalformedResponse, match="length"):
        EventStreamDecoder().feed(prelude(*given))


def test_a_message_of_the_largest_size_is_read() -> None:
    data = message({}, b"x" * (MESSAGE_LIMIT - 16))
    assert [len(each.payload) for each in fed(data, 1 << 20)] == [MESSAGE_LIMIT - 16]


BROKEN_HEADERS = [
    b"\x05ab",  # shorter than its name
    b"\x01a",  # no type
    b"\x01a\x0a",  # a type that is none
    b"\x01a\x07\x00\x05abc",  # shorter than its value
    b"\x01a\x07\x00",  # shorter than its length
    b"\x01a\x09abc",
    b"\x01a\x05abc",
    b"\x01\xff\x07\x00\x01a",  # not UTF-8
    b"\x01a\x07\x00\x01\xff",
]


@pytest.mark.parametrize("headers", BROKEN_HEADERS)
def test_headers_that_cannot_be_read_are_refused(headers: bytes) -> None:
    with pytest.raises(MalformedResponse, match="header"):
        EventStreamDecoder().feed(framed(headers, b"{}"))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    decoder = EventStreamDecoder()
    try:
        assert decoder.feed(data) == [] or decoder.whole
    except MalformedResponse as error:
        assert error.reason == "upstream_invalid_response"


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.binary(max_size=20))
def test_any_headers_are_read_or_refused(headers: bytes, payload: bytes) -> None:
    try:
        assert EventStreamDecoder().feed(framed(headers, payload))[0].payload == payload
    except MalformedResponse as error:
        assert "header" in error.message
