"""Events that differ in one string alone: read as that string, they give what they give when each is decoded."""

import json
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from contract.errors import AttemptError
from contract.events import Event
from providers.wires.openai_chat.alike import Frame, frame_around
from providers.wires.openai_chat.stream import ChatStreamDecoder
from providers.wires.openai_chat.tap import ChatStreamTap
from tests.providers.wires.chat_streams import DONE, FINISH, ROLE, USAGE, chunk, delta, texts

HEAD, TAIL = b'"id":"a","content":', b',"n":1'


def raw(content: bytes, more: bytes = b"") -> bytes:
    """A compact event, as most providers send it."""
    return b'data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":%b%b}}]}\n\n' % (content, more)


STRINGS = [b'" word"', b'""', b'"a"', b'"\\u00e9\\n"', '"é"'.encode(), b'"\\"content\\":\\""', b'"a long one, that is several tokens"']
NO_STRINGS = [b'"a","content":"b"', b'"a" "b"', b'"a', b"a", b"null", b"7", b'["a"]', b'"\xff"', b'"\x01"', b'"\\ud800"', b'"\\q"', b' "a" ', b""]
ODD = [
    ROLE,
    USAGE,
    FINISH,
    DONE,
    b": ping\n\n",
    b"data: \n\n",
    b"event: error\ndata: {}\n\n",
    b'data: {"id":"c",\ndata: "choices":[]}\n\n',
    b'data: {"error":{"message":"x","code":429}}\n\n',
    b"data: {nothing}\n\n",
    raw(b'"x"').replace(b"\n", b"\r\n"),
    raw(b'"x"', b',"content":"y"'),
    raw(b'"x"', b',"reasoning":"y"'),
    raw(b'"x"', b',"tool_calls":[{"index":0,"extra_content":{"google":{"thought_signature":"abc"}}}]'),
    raw(b'"x"', b',"obfuscation":"1"'),
    raw(b'"x"', b',"obfuscation":"22"'),
    raw(b"null", b',"reasoning_content":"so"'),
    raw(b'"x"', b',"reasoning_details":[{"type":"reasoning.encrypted","data":"abc"}]'),
    raw(b'"x"').replace(b"}}]", b'},"logprobs":{"content":[{"token":"x"}]}}]'),
    raw(b'"y"').replace(b"}}]", b'},"logprobs":{"content":[{"token":"x"}]}}]'),
    raw(b'"x"', b',"annotations":[{"type":"url_citation"}]'),
    raw(b"null", b',"tool_calls":[{"index":0,"id":"t","function":{"name":"f","arguments":"{}"}}]'),
    raw(b"null", b',"reasoning_content":"then"'),
    b'data: {"content":"x","choices":[{"index":0,"delta":{"content":"x"}}]}\n\n',
    chunk(delta(1, content="second")),
    chunk(delta(content="with usage"), usage={"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}),
    chunk(delta(reasoning="so")),
    chunk(delta(reasoning="then")),
    *texts("One", " two"),
]
EVENTS = st.lists(st.sampled_from([*map(raw, STRINGS), *map(raw, STRINGS), *map(raw, NO_STRINGS), *ODD]), min_size=1, max_size=14)


def found(tap: ChatStreamTap) -> tuple[object, ...]:
    error = (type(tap.error), str(tap.error))
    return (tap.content_seen, tap.finished, tap.complete, tap.upstream_id, tap.usage, tap.finish, tap.tokens_seen, tap.bound, tap.progressed, *error)


def read(pieces: list[bytes]) -> tuple[bytes, tuple[object, ...]]:
    tap = ChatStreamTap(1, strip_usage=True)
    out = b"".join([tap.feed(piece) for piece in pieces]) + tap.end()
    return out, found(tap)


def decoded(pieces: list[bytes]) -> tuple[list[Event], object, object]:
    decoder, events, error = ChatStreamDecoder(1), list[Event](), None
    try:
        for piece in pieces:
            events += decoder.feed(piece)
        events += decoder.end()
    except AttemptError as failed:
        error = (type(failed), str(failed))
    return events, error, decoder.told_usage()


@given(EVENTS, st.lists(st.integers(0, 14), max_size=4), st.lists(st.integers(0, 3000), max_size=2))
@example([raw(b'"a"')] * 9, [], [])
@example([raw(b'"a"'), raw(b'"a"'), raw(b'"a"'), raw(b'"a","content":"b"'), raw(b""), raw(b'"a"')], [], [])
@example([raw(b'"a"')] * 3 + [raw(b'"a\n"')] + [raw(b'"a"')] * 3, [1, 2], [])
def test_however_events_are_read_together_they_give_what_they_give_byte_by_byte(events: list[bytes], seams: list[int], cuts: list[int]) -> None:
    whole = b"".join(events)
    places = {len(b"".join(events[:seam])) for seam in seams} | {min(cut, len(whole)) for cut in cuts} | {0, len(whole)}
    pieces = [whole[start:end] for start, end in pairwise(sorted(places))]
    bytewise = [whole[at : at + 1] for at in range(len(whole))]
    assert read(pieces) == read(bytewise)
    assert decoded(pieces) == decoded(bytewise)


def test_progress_is_told_of_each_read_that_holds_any() -> None:
    tap = ChatStreamTap(1, strip_usage=False)
    for piece, progressed in ((b'"a"', True), (b'"b"', True), (b'""', False), (b'"c"', True)):
        tap.progressed = False
        assert tap.feed(raw(piece)) == raw(piece)
        assert tap.progressed is progressed
    tap.progressed = False
    assert tap.feed(raw(b'""') * 3) == raw(b'""') * 3 and not tap.progressed
    assert tap.feed(raw(b'""') + raw(b'"d"') + raw(b'""')) and tap.progressed
    assert tap.tokens_seen == 4


def test_a_frame_gives_the_strings_of_the_events_before_the_first_without_it() -> None:
    frame = Frame(HEAD, TAIL)
    alike = [HEAD + string + TAIL for string in (b'"a"', b'""', b'"\\n"')]
    other = b'"id":"b"'

    def strings(*objects: bytes) -> tuple[list[bytes], list[str]]:
        return frame.strings(b": ping\n\n" + b"".join([b"data: {%b}\n\n" % told for told in objects]), len(b": ping\n\n"), list(objects))

    assert strings(*alike, other) == ([b'"a"', b'""', b'"\\n"'], ["a", "", "\n"])
    assert strings(alike[0], other, alike[1]) == strings(other) == strings() == ([], [])


def test_a_frame_gives_the_string_of_one_event_and_of_nothing_else() -> None:
    frame = Frame(HEAD, TAIL)
    event = b"data: {%b%%b%b}\n\n" % (HEAD, TAIL)
    for string in STRINGS:
        assert frame.string(event % string) == (string, json.loads(string))
    for other in NO_STRINGS:
        assert frame.string(event % other) is None
    assert frame.string(event % b'"a"' * 2) is frame.string(b"") is frame.string((event % b'"a"')[:-1]) is None


def test_the_frame_is_what_stands_around_the_string() -> None:
    told = json.dumps({"id": "a", "content": "word", "n": 1})[1:-1].encode()
    frame = frame_around(told, "content")
    assert frame is not None and frame.with_string(b'"?"') == b'{"id": "a", "content": "?", "n": 1}'
    assert frame_around(told, "reasoning") is frame_around(b'"content":"word"', "content") is frame_around(b'"content":"","n":1', "content") is None
