"""Server-sent events: the decoder agrees with another implementation, keeps every byte, and does not care how the bytes were cut."""

import time

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from contract.errors import MalformedResponse
from providers.backend import ProviderSpec
from providers.sse import BOM, EVENT_LIMIT, SseDecoder, SseEvent
from tests.providers.sse_oracle import events_of

TEXT = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=12)
FIELDS = st.sampled_from(["data", "data", "data", "event", "id", "retry", "", "Data", "data2", "unknown"])
COLONS = st.sampled_from([":", ": ", ":  ", ": :"])
LINES = st.one_of(st.builds("{}{}{}".format, FIELDS, COLONS, TEXT), FIELDS.filter(bool), st.just(': keep-alive"'), st.just("data: [DONE]"))
BLOCKS = st.lists(LINES, max_size=4)
ENDS = ["\n", "\r\n", "\r"]


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Blocks of lines, each closed by a blank line; one kind of line end throughout, or a new one for every line. The last is a comment."""
    one = draw(st.sampled_from([*ENDS, None]))
    ends = st.sampled_from(ENDS) if one is None else st.just(one)
    lines = [line for block in draw(st.lists(BLOCKS, min_size=1, max_size=5)) for line in [*block, ""]]
    text = "".join(line + draw(ends) for line in lines)
    return draw(st.sampled_from([b"", BOM])) + text.encode() + b": end\n\n"


def fed(*chunks: bytes) -> list[SseEvent]:
    decoder = SseDecoder()
    return [event for chunk in chunks for event in decoder.feed(chunk)]


def shown(events: list[SseEvent]) -> list[tuple[str, str]]:
    """As the oracle shows them: a nameless event is a `message`, and what has neither name nor data is none."""
    pairs = [((event.name or b"message").decode(), (event.data or b"").decode()) for event in events]
    return [pair for pair in pairs if pair != ("message", "")]


@given(streams())
@example(BOM + "data: é\r\rdata: a\r\ndata:b\n\r: c\r\n\r\nevent: x\r\ndata\r\n\n: end\n\n".encode())
@settings(max_examples=400, deadline=None)
def test_data_and_name_of_every_event_equal_those_of_another_decoder(stream: bytes) -> None:
    assert shown(fed(stream)) == events_of(stream)


@given(streams())
@settings(max_examples=200, deadline=None)
def test_the_raw_bytes_of_all_events_are_the_stream(stream: bytes) -> None:
    assert b"".join(event.raw for event in fed(stream)) == stream


@given(streams())
@settings(max_examples=60, deadline=None)
def test_the_same_events_come_however_the_bytes_were_cut(stream: bytes) -> None:
    whole = fed(stream)
    assert fed(*[stream[at : at + 1] for at in range(len(stream))]) == whole
    for at in range(len(stream) + 1):
        assert fed(stream[:at], stream[at:]) == whole


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1023, 4096])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=repr)
@pytest.mark.parametrize("blank", ["\n", "\r\n", "\r"], ids=repr)
def test_the_same_large_events_come_however_the_bytes_were_cut(size: int, end: str, blank: str) -> None:
    event = "".join(f"data: {number}{'é' * 700}{end}" for number in range(4)) + blank
    stream = (event * 2 + "data: x\n\n: end\n\n").encode()
    assert fed(*[stream[at : at + size] for at in range(0, len(stream), size)]) == fed(stream)


@pytest.mark.parametrize(
    ("stream", "data", "name"),
    [
        (b"data: x\n\n", b"x", None),
        (b"data:x\n\n", b"x", None),
        (b"data:  x \n\n", b" x ", None),
        (b"data\n\n", b"", None),
        (b"data:\n\n", b"", None),
        (b"data: a\ndata: b\n\n", b"a\nb", None),
        (b"data: a\r\n\r\n", b"a", None),
        (b"event: error\ndata: {}\n\n", b"{}", b"error"),
        (b"data: {}\nevent:error\n\n", b"{}", b"error"),
        (b": comment\n\n", None, None),
        (b": comment\ndata: x\n\n", b"x", None),
        (b"id: 7\nretry: 5\n\n", None, None),
        (b"\n\n", None, None),
        (BOM + b"data: x\n\n", b"x", None),
        (b"data: a:b: c\n\n", b"a:b: c", None),
    ],
)
def test_one_event_is_read_as_the_standard_says(stream: bytes, data: bytes | None, name: bytes | None) -> None:
    assert fed(stream) == [SseEvent(stream, data, name)]


def test_a_mark_of_byte_order_is_taken_off_the_first_event_only() -> None:
    assert [event.data for event in fed(BOM + b"data: a\n\n" + BOM + b"data: b\n\n")] == [b"a", None]


@pytest.mark.parametrize("stream", [b"data: x", b"data: x\n", b"data: x\r", b"data: x\r\n", b"event: e\ndata: x", b"data: x\r\r"])
def test_the_last_event_needs_no_blank_line(stream: bytes) -> None:
    decoder = SseDecoder()
    assert decoder.feed(b"data: before\n\n" + stream) == [SseEvent(b"data: before\n\n", b"before")]
    last = decoder.end()
    assert last is not None and last.data == b"x"
    assert last.raw == stream.rstrip(b"\r\n") + b"\n\n"
    assert decoder.end() is None


@pytest.mark.parametrize("stream", [b"", b"\n", b"\r\n", b"data: x\n\n", b"data: x\n\n\n", b"data: x\r\n\r\n"])
def test_nothing_is_left_at_the_end_of_a_whole_stream(stream: bytes) -> None:
    decoder = SseDecoder()
    decoder.feed(stream)
    assert decoder.end() is None


LIMIT = 1 << 20  # of these tests
LONG_LINE = b"data: " + b"x" * LIMIT
LARGE_EVENT = (b"data: " + b"x" * 1000 + b"\n") * (LIMIT // 1000)


def test_an_event_may_be_as_large_as_a_whole_answer() -> None:
    (most,) = [field.default for field in msgspec.structs.fields(ProviderSpec) if field.name == "max_body"]
    assert most == EVENT_LIMIT


@pytest.mark.parametrize("tail", [b"", b"\n", b"\n\n", b"\r\n\r\n", b"\ndata: y\n\n"])
@pytest.mark.parametrize("size", [1 << 16, 1 << 30], ids=["in pieces", "whole"])
@pytest.mark.parametrize("event", [LONG_LINE, LARGE_EVENT], ids=["one line", "many lines"])
def test_an_event_beyond_its_limit_is_malformed(event: bytes, tail: bytes, size: int) -> None:
    stream, decoder = event + tail, SseDecoder(LIMIT)
    with pytest.raises(MalformedResponse, match="event"):
        for at in range(0, len(stream), size):
            decoder.feed(stream[at : at + size])


@pytest.mark.parametrize("size", [1 << 16, 1 << 30], ids=["in pieces", "whole"])
def test_an_event_at_its_limit_passes(size: int) -> None:
    stream, decoder = LONG_LINE[: LIMIT - 2] + b"\n\n", SseDecoder(LIMIT)
    assert sum(len(decoder.feed(stream[at : at + size])) for at in range(0, len(stream), size)) == 1


def test_many_events_in_one_chunk_may_be_larger_than_one_event() -> None:
    assert len(fed(b"data: x\n\n" * 600_000)) == 600_000


@pytest.mark.parametrize("line", [b"data: " + b"x" * 1000 + b"\n", b"\n: x", b"\r\n: x", b"data: x\r"])
def test_an_event_without_end_in_small_pieces_costs_no_more_than_its_bytes(line: bytes) -> None:
    decoder, stream = SseDecoder(4 * LIMIT), line * (4 * LIMIT // len(line) + 5000)
    began = time.process_time()
    with pytest.raises(MalformedResponse, match="event"):
        for at in range(0, len(stream), 4096):
            decoder.feed(stream[at : at + 4096])
    assert time.process_time() - began < 2.0  # it takes a fraction; minutes, where each piece has all before it read again


@pytest.mark.parametrize("bad", [LONG_LINE, LONG_LINE + b"\n\n", LONG_LINE + b"\r\n\r\n", LARGE_EVENT + b"\n"])
def test_the_good_events_before_one_beyond_its_limit_are_given_first(bad: bytes) -> None:
    decoder = SseDecoder(LIMIT)
    assert [event.data for event in decoder.feed(b"data: good\n\n" + bad)] == [b"good"]
    with pytest.raises(MalformedResponse):
        decoder.feed(b"data: more\n\n")
    with pytest.raises(MalformedResponse):
        decoder.end()
