"""What is read of a whole answer's JSON that was cut, at every byte."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from contract.usage import Usage
from providers.wires import openai_completions
from providers.wires.anthropic_messages import tap as messages
from providers.wires.half import MOST_DEPTH, closed, half_of
from providers.wires.openai_chat import tap as chat
from providers.wires.openai_responses import tap as responses
from providers.wires.port import UnaryAnswer
from tests.gateway.cutting import COMPLETION, MESSAGE, RESPONSE, WORDS
from tests.gateway.upstream import completion

TEXT = {"content": 'a "quoted" \\ word\n', "more": [1, -2.5e3, True, None, {"a": {}}, []], "text": "späť 🙂"}
WIRES: list[tuple[Callable[[bytes], UnaryAnswer], Any]] = [
    (chat.read_unary, completion(WORDS)),
    (messages.read_unary, MESSAGE),
    (responses.read_unary, RESPONSE),
    (openai_completions.tap.read_unary, COMPLETION),
]


def begins(part: Any, whole: Any) -> bool:
    """Whether it has nothing that is not there too, and no number that was cut."""
    if isinstance(part, dict):
        return all(name in whole and begins(each, whole[name]) for name, each in part.items())
    if isinstance(part, list):
        return all(begins(each, other) for each, other in zip(part, whole, strict=False))
    return bool(whole.startswith(part)) if isinstance(part, str) else part == whole


@pytest.mark.parametrize("ascii", [True, False])
def test_json_that_is_cut_anywhere_is_closed_into_its_beginning(ascii: bool) -> None:
    body = json.dumps(TEXT, ensure_ascii=ascii).encode()
    for end in range(1, len(body)):
        assert begins(json.loads(closed(body[:end])), TEXT), end
    assert closed(body) == body


@pytest.mark.parametrize("body", [b"", b"<html>", b"}", b"[" * (MOST_DEPTH + 1), b'{"a" 1', b"\xff\xfe"])
def test_what_is_no_json_is_nothing(body: bytes) -> None:
    assert half_of(chat.read_unary, body) == (None, 0)


@pytest.mark.parametrize(("read", "answer"), WIRES)
def test_an_answer_cut_anywhere_tells_no_more_than_came(read: Callable[[bytes], UnaryAnswer], answer: Any) -> None:
    body = json.dumps(answer).encode()
    counted = 0
    whole = read(body).usage or Usage()
    for end in range(1, len(body)):
        seen, tokens = half_of(read, body[:end])
        assert counted <= tokens <= len(WORDS) // 4
        counted = tokens
        told = None if seen is None else seen.usage
        assert told is None or told.input_total in (None, whole.input_total)
    assert counted == len(WORDS) // 4
