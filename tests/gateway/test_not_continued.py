"""Answers that were cut and that nobody can go on with: they are more than a text, or must be of one piece."""

from typing import Any

import pytest

from contract.call import Dialect
from gateway.continuing import MAX_DELIVERED, Continuation
from tests.gateway.continued_streams import CALL, START, TEXT, THINKING, answer, asked, data

PIECES = ["The", " quick", " brown", " fox"]


def chat(*deltas: dict[str, Any], **more: Any) -> list[bytes]:
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return [data({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None, **more}]}) for delta in deltas]


TOOL_CALL = {"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}]}
THOUGHT = {"type": "reasoning", "id": "rs", "summary": []}
REASONING_ITEM = data({"type": "response.output_item.added", "sequence_number": 2, "output_index": 0, "item": THOUGHT}, named=True)


@pytest.mark.parametrize(
    ("dialect", "delivered"),
    [
        ("openai_chat", chat({"content": "a"}, TOOL_CALL)),
        ("openai_chat", chat({"reasoning_content": "hm"})),
        ("openai_chat", chat({"content": "a"}, {"reasoning_content": "hm"})),
        ("openai_chat", chat({"refusal": "I"})),
        ("openai_chat", chat({"audio": {"id": "a", "data": "AA"}})),
        ("openai_chat", chat({"content": "a", "annotations": [{"type": "url_citation", "url_citation": {"url": "u"}}]})),
        ("openai_chat", chat({"content": "a"}, logprobs={"content": [{"token": "a", "logprob": -1}]})),
        ("openai_chat", [*chat({"content": "a"}), b'data: {"error":{"message":"x"}}\n\n']),
        ("openai_chat", [*chat({"content": "a"}), b"data: {\n\n"]),
        ("openai_chat", answer("openai_chat", PIECES, "one")),
        ("anthropic_messages", [*START, *THINKING]),
        ("anthropic_messages", [*START, *THINKING[:2]]),
        ("anthropic_messages", [*START, THINKING[0]]),
        ("anthropic_messages", [*START, *CALL[:1]]),
        ("anthropic_messages", [*START, *TEXT[:1], *THINKING[:1]]),
        ("openai_responses", [*answer("openai_responses", PIECES, "one")[:2], REASONING_ITEM]),
        ("openai_responses", answer("openai_responses", PIECES, "one")),
    ],
)
def test_an_answer_that_is_more_than_a_text_is_not_gone_on_with(dialect: Dialect, delivered: list[bytes]) -> None:
    assert Continuation.of(asked(dialect), b"".join(delivered)) is None


@pytest.mark.parametrize(
    ("dialect", "members"),
    [
        ("openai_chat", {"n": 2}),
        ("openai_chat", {"logprobs": True}),
        ("openai_chat", {"response_format": {"type": "json_object"}}),
        ("openai_chat", {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}}),
        ("openai_chat", {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "required"}),
        ("openai_chat", {"grammar": "root ::= x"}),
        ("openai_chat", {"guided_json": {}}),
        ("openai_chat", {"web_search_options": {}}),
        ("openai_chat", {"stream": False}),
        ("openai_completions", {"prompt": ["a", "b"]}),
        ("openai_completions", {"prompt": [1, 2]}),
        ("openai_completions", {"echo": True}),
        ("openai_completions", {"suffix": "x"}),
        ("openai_completions", {"logprobs": 1}),
        ("openai_responses", {"text": {"format": {"type": "json_object"}}}),
        ("openai_responses", {"tools": [{"type": "web_search"}]}),
        ("anthropic_messages", {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
        ("anthropic_messages", {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}}),
    ],
)
def test_an_answer_that_must_be_of_one_piece_is_not_gone_on_with(dialect: Dialect, members: dict[str, Any]) -> None:
    assert Continuation.of(asked(dialect, **members), b"".join(answer(dialect, PIECES, "one")[:6])) is None


def test_tools_that_need_not_be_called_are_no_hindrance() -> None:
    call = asked("openai_chat", tools=[{"type": "function", "function": {"name": "f"}}], tool_choice="auto")
    assert Continuation.of(call, b"".join(answer("openai_chat", PIECES, "one")[:6])) is not None


def test_an_answer_that_is_too_long_to_be_kept_is_not_gone_on_with() -> None:
    padding = b": %b\n\n" % (b"x" * 1000)
    delivered = answer("openai_chat", PIECES, "one")[0] + padding * (MAX_DELIVERED // len(padding) + 1)
    assert Continuation.of(asked("openai_chat"), delivered) is None
