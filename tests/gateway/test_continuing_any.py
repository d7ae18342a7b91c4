"""Whatever was told so far and whatever comes then: the two are one legal stream, or nothing is gone on with."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract import events as ev
from contract.call import Dialect
from gateway.continuing import Continuation
from providers.wires.port import Answering
from providers.wires.table import DIALECTS
from tests.contract.event_sequences import answers
from tests.gateway.continued_streams import asked, text_so_far
from tests.providers.sse_oracle import events_of
from tests.providers.wires.responses_machine import Machine as ResponseMachine
from tests.providers.wires.test_anthropic_encoder import legal as legal_message

PIECES = st.lists(st.builds(ev.TextDelta, text=st.sampled_from(["a", "a b", "ab ab", "é", "\n", " a"])), min_size=2, max_size=6)


@st.composite
def beginnings(draw: st.DrawFn) -> list[Any]:
    """A thought perhaps, then text: what can be gone on with, wherever it is cut."""
    thought = draw(st.sampled_from([[], [ev.ReasoningDelta(text="hm"), ev.ReasoningSignature(signature="s", maker="gemini")]]))
    texts = [msgspec.structs.replace(piece, part=1) for piece in draw(PIECES)]
    return [ev.Started(id="up", model="m", created_s=1), *thought, *texts]


def streamed(dialect: Dialect, events: list[Any], request_id: str) -> list[bytes]:
    call = msgspec.structs.replace(asked(dialect), request_id=request_id)
    encoder = DIALECTS[dialect].stream_encoder(Answering(call=call, target="t", now_s=1))
    return [event + b"\n\n" for piece in map(encoder.feed, events) for event in piece.split(b"\n\n")[:-1]]


def legal(dialect: Dialect, stream: bytes) -> None:
    told = events_of(stream)
    if dialect == "anthropic_messages":
        assert legal_message(stream).ended
    elif dialect == "openai_responses":
        response = ResponseMachine()
        for name, text in told:
            response.take(name, json.loads(text))
        assert response.ended
    else:
        assert [text for _, text in told].count("[DONE]") == 1 and told[-1][1] == "[DONE]"
        heads = {(chunk["id"], chunk["created"], chunk["model"]) for chunk in (json.loads(text) for _, text in told[:-1])}
        assert len(heads) == 1


@pytest.mark.parametrize("dialect", ["openai_chat", "openai_completions", "openai_responses", "anthropic_messages"])
@settings(max_examples=60, deadline=None)
@given(first=beginnings() | answers(), second=answers(), data=st.data())
def test_what_is_gone_on_with_is_one_legal_stream(dialect: Dialect, first: list[Any], second: list[Any], data: st.DataObject) -> None:
    events = streamed(dialect, first, "r1")
    delivered = b"".join(events[: data.draw(st.integers(len(events) // 3, len(events)), "cut")])
    continuation = Continuation.of(asked(dialect), delivered)
    if continuation is None:
        return
    if continuation.ending:
        legal(dialect, delivered + continuation.ending)
        return
    rest = [continuation.seam("two", data.draw(st.booleans(), "repeats")), *map(continuation.feed, streamed(dialect, second, "r2"))]
    whole = delivered + b"".join(rest)
    legal(dialect, whole)
    assert text_so_far(dialect, whole).startswith(text_so_far(dialect, delivered))
