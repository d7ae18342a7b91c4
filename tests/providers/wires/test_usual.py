"""Messages of the usual shapes, read in one go, are what reading them field by field gives; whatever is not of such a shape is left to that."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from contract import requests as r
from contract.errors import RequestError
from providers.wires.anthropic_messages import request as messages_request
from providers.wires.anthropic_messages import usual as messages_usual
from providers.wires.openai_chat import request as chat_request
from providers.wires.openai_chat import usual as chat_usual
from providers.wires.openai_responses import request as responses_request
from providers.wires.openai_responses import usual as responses_usual

TEXT = st.sampled_from(["", "x", 'ü "q"\n', "\u2028 😀"])
ODD: st.SearchStrategy[Any] = st.sampled_from([None, 1, True, [], {}, "word", ["x"], {"type": "ephemeral"}])
Json = dict[str, Any]


def shaped(needed: dict[str, st.SearchStrategy[Any]], others: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Json]:
    """Objects that mostly have the needed members; now and then one lacks, is odd, or there is another."""
    usual = st.fixed_dictionaries(needed, optional=others)
    odd = st.fixed_dictionaries({}, optional={**{name: value | ODD for name, value in {**needed, **others}.items()}, "extra": ODD})
    return usual | usual | usual | odd


def word(*words: str) -> st.SearchStrategy[str]:
    return st.sampled_from(words)


MARK = {"cache_control": st.none() | st.just({"type": "ephemeral"})}
CHAT_TEXT = shaped({"type": word("text"), "text": TEXT}, MARK)
CHAT_CONTENT = TEXT | st.none() | st.lists(CHAT_TEXT | shaped({"type": word("refusal"), "refusal": TEXT}, {}), max_size=3)
CHAT_FUNCTION = shaped({"name": TEXT, "arguments": TEXT}, {})
CHAT_CALL = shaped({"id": TEXT, "type": word("function", "custom"), "function": CHAT_FUNCTION}, {"extra_content": ODD})
CHAT = shaped(
    {"role": word("system", "developer", "user", "assistant", "tool", "nobody"), "content": CHAT_CONTENT},
    {"tool_calls": st.none() | st.lists(CHAT_CALL, max_size=3), "tool_call_id": TEXT, "name": TEXT, "refusal": st.none() | TEXT, "reasoning": TEXT},
)
BLOCK_TEXT = shaped({"type": word("text"), "text": TEXT}, {**MARK, "citations": st.none()})
BLOCK_CALL = shaped({"type": word("tool_use"), "id": TEXT, "name": TEXT, "input": st.sampled_from([{}, {"a": [1.0, None]}, 3])}, MARK)
BLOCK_RESULT = shaped(
    {"type": word("tool_result"), "tool_use_id": TEXT},
    {"content": TEXT | st.none() | st.lists(BLOCK_TEXT, max_size=2), "is_error": st.none() | st.booleans(), **MARK},
)
BLOCK_OTHER = shaped({"type": word("thinking", "image", "web_search")}, {"thinking": TEXT, "signature": TEXT, "source": ODD})
MESSAGES = shaped(
    {
        "role": word("user", "assistant", "system", "nobody"),
        "content": TEXT | st.lists(BLOCK_TEXT | BLOCK_CALL | BLOCK_RESULT | BLOCK_OTHER, max_size=4),
    },
    {"id": TEXT},
)
PIECE = shaped(
    {"type": word("input_text", "output_text", "text", "refusal"), "text": TEXT},
    {"annotations": st.just([]), "refusal": TEXT, "prompt_cache_breakpoint": ODD},
)
ITEM_MESSAGE = shaped(
    {"role": word("user", "assistant", "system", "developer", "tool"), "content": TEXT | st.lists(PIECE, max_size=3)},
    {"type": word("message"), "id": TEXT, "status": word("completed")},
)
ITEM_CALL = shaped(
    {"type": word("function_call", "custom_tool_call"), "call_id": TEXT, "name": TEXT, "arguments": TEXT},
    {"id": TEXT, "input": TEXT, "namespace": st.none() | TEXT},
)
ITEM_RESULT = shaped({"type": word("function_call_output"), "call_id": TEXT, "output": TEXT | st.lists(PIECE, max_size=2)}, {"status": TEXT})
ITEMS = ITEM_MESSAGE | ITEM_CALL | ITEM_RESULT


def by_fields(read: Any, *args: Any) -> r.Message | None:
    try:
        message: r.Message = read(*args)
    except RequestError:
        return None
    return message


@settings(max_examples=400)
@given(CHAT)
def test_a_chat_message_read_at_once_is_what_its_fields_give(value: Json) -> None:
    raw = Raw(msgspec.json.encode(value))
    if (usual := chat_usual.read_usual(raw)) is not None:
        assert usual == by_fields(chat_request.read_message, raw, "messages[0]", {})


@settings(max_examples=400)
@given(MESSAGES)
def test_an_anthropic_message_read_at_once_is_what_its_fields_give(value: Json) -> None:
    raw = Raw(msgspec.json.encode(value))
    if (usual := messages_usual.read_usual(raw)) is not None:
        assert usual == by_fields(messages_request.read_message, raw, "messages[0]")


@settings(max_examples=400)
@given(ITEMS)
def test_a_responses_item_read_at_once_is_what_its_fields_give(value: Json) -> None:
    raw = Raw(msgspec.json.encode(value))
    if (usual := responses_usual.read_usual(raw)) is not None:
        assert usual == by_fields(responses_request.read_item, raw, "input[0]")


CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
USUAL: list[tuple[Any, Json]] = [
    (chat_usual.read_usual, {"role": "user", "content": "x"}),
    (chat_usual.read_usual, {"role": "system", "content": [{"type": "text", "text": "x"}]}),
    (chat_usual.read_usual, {"role": "assistant", "content": None, "tool_calls": [CALL, CALL]}),
    (chat_usual.read_usual, {"role": "tool", "tool_call_id": "c", "content": "x"}),
    (messages_usual.read_usual, {"role": "user", "content": "x"}),
    (messages_usual.read_usual, {"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]}),
    (messages_usual.read_usual, {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "f", "input": {}}]}),
    (messages_usual.read_usual, {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "x", "is_error": False}]}),
    (responses_usual.read_usual, {"role": "user", "content": "x"}),
    (responses_usual.read_usual, {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "x", "annotations": []}]}),
    (responses_usual.read_usual, {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "id": "fc", "status": "completed"}),
    (responses_usual.read_usual, {"type": "function_call_output", "call_id": "c", "output": "x"}),
]


@pytest.mark.parametrize(("read", "value"), USUAL, ids=[str(value)[:60] for _, value in USUAL])
def test_what_clients_mostly_send_is_of_a_usual_shape(read: Any, value: Json) -> None:
    assert read(Raw(msgspec.json.encode(value))) is not None
