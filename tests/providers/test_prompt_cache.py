"""Providers cache prompts by their beginning. A conversation that grows is therefore sent with the very bytes it had before, and more after them."""

import json
from typing import Any

import msgspec
import pytest

from contract.call import Call
from gateway import peek
from gateway.peek import Reader, read_chat_call
from providers.registry import PROVIDER_KINDS
from providers.translation import translate
from providers.wires.table import DIALECTS, UPSTREAMS

READERS = {"openai_chat": read_chat_call, "anthropic_messages": Reader(peek.MESSAGES).read, "openai_responses": Reader(peek.RESPONSES).read}
KINDS = {
    "openai_chat": "openai",
    "openai_responses": "openai",
    "anthropic_messages": "anthropic",
    "gemini": "gemini",
    "bedrock": "bedrock",
    "cohere": "cohere",
    "mistral": "mistral",
}
TURNS = ("messages", "contents", "input")
SCHEMA = {
    "type": "object",
    "required": ["city"],
    "properties": {"unit": {"enum": ["c", "f"]}, "city": {"type": "string"}, "days": {"type": "integer"}},
}
RULES = "You are terse. " * 40


def chat(turns: int) -> dict[str, Any]:
    messages: list[dict[str, Any]] = [{"role": "system", "content": RULES}]
    for turn in range(turns):
        call = {"id": f"call_{turn:09d}", "type": "function", "function": {"name": "weather", "arguments": f'{{"city": "Ulm {turn}", "unit": "c"}}'}}
        messages += [
            {"role": "user", "content": f"And on day {turn}?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": call["id"], "content": f"{turn} degrees"},
            {"role": "assistant", "content": f"It is {turn} degrees."},
        ]
    messages.append({"role": "user", "content": "Thanks. Another one."})
    tools = [
        {"type": "function", "function": {"name": name, "description": f"Tells the {name}.", "parameters": SCHEMA}} for name in ("weather", "time")
    ]
    return {"model": "m", "messages": messages, "tools": tools, "max_tokens": 50}


def messages(turns: int) -> dict[str, Any]:
    told: list[dict[str, Any]] = []
    for turn in range(turns):
        used = {"type": "tool_use", "id": f"toolu_{turn:09d}", "name": "weather", "input": {"unit": "c", "city": f"Ulm {turn}"}}
        told += [
            {"role": "user", "content": f"And on day {turn}?"},
            {"role": "assistant", "content": [used]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": used["id"], "content": f"{turn} degrees"}]},
            {"role": "assistant", "content": f"It is {turn} degrees."},
        ]
    told.append({"role": "user", "content": "Thanks. Another one."})
    system = [{"type": "text", "text": RULES}]
    tools = [{"name": name, "description": f"Tells the {name}.", "input_schema": SCHEMA} for name in ("weather", "time")]
    return {"model": "m", "max_tokens": 50, "system": system, "tools": tools, "messages": told}


def responses(turns: int) -> dict[str, Any]:
    told: list[dict[str, Any]] = []
    for turn in range(turns):
        name = f"call_{turn:09d}"
        told += [
            {"role": "user", "content": f"And on day {turn}?"},
            {"type": "function_call", "call_id": name, "name": "weather", "arguments": f'{{"city": "Ulm {turn}"}}'},
            {"type": "function_call_output", "call_id": name, "output": f"{turn} degrees"},
            {"role": "assistant", "content": f"It is {turn} degrees."},
        ]
    told.append({"role": "user", "content": "Thanks. Another one."})
    tools = [{"type": "function", "name": name, "description": f"Tells the {name}.", "parameters": SCHEMA} for name in ("weather", "time")]
    return {"model": "m", "instructions": RULES, "input": told, "tools": tools, "store": False, "max_output_tokens": 50}


CONVERSATIONS = {"openai_chat": chat, "anthropic_messages": messages, "openai_responses": responses}
PAIRS = [(client, wire) for client in CONVERSATIONS for wire in UPSTREAMS]
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_items = msgspec.json.Decoder(list[msgspec.Raw])


def read(client: str, body: dict[str, Any]) -> Call:
    return READERS[client]("req_1", json.dumps(body).encode(), [])


def sent(client: str, wire: str, turns: int) -> bytes:
    facts = PROVIDER_KINDS[KINDS[wire]].facts
    call = read(client, CONVERSATIONS[client](turns))
    return translate(call, DIALECTS[call.dialect], UPSTREAMS[wire], "m", facts, "everything").body


def parts(body: bytes) -> tuple[list[tuple[str, bytes]], list[bytes]]:
    """What stands beside the turns, in its order; and the turns."""
    members = _members.decode(body)
    turns = next(name for name in TURNS if name in members)
    return [(name, bytes(raw)) for name, raw in members.items() if name != turns], [bytes(each) for each in _items.decode(members[turns])]


@pytest.mark.parametrize(("client", "wire"), PAIRS, ids=[f"{client} to {wire}" for client, wire in PAIRS])
def test_a_conversation_that_grows_begins_with_the_bytes_it_had(client: str, wire: str) -> None:
    before, turns_before = parts(sent(client, wire, 2))
    after, turns_after = parts(sent(client, wire, 3))
    assert after == before
    assert any(b"Ulm" in turn for turn in turns_before)
    assert turns_after[: len(turns_before) - 1] == turns_before[:-1]  # the last one is the new question


@pytest.mark.parametrize(("client", "wire"), PAIRS, ids=[f"{client} to {wire}" for client, wire in PAIRS])
def test_the_same_conversation_is_sent_with_the_same_bytes(client: str, wire: str) -> None:
    assert sent(client, wire, 2) == sent(client, wire, 2)


@pytest.mark.parametrize("client", CONVERSATIONS)
def test_tools_keep_the_order_and_the_words_of_the_client(client: str) -> None:
    tools = bytes(_members.decode(sent(client, "anthropic_messages", 1))["tools"])
    assert tools.index(b'"weather"') < tools.index(b'"time"')
    properties = tools[tools.index(b'"properties"') :]
    assert properties.index(b'"unit"') < properties.index(b'"city"') < properties.index(b'"days"')


def test_the_mark_of_what_is_to_be_cached_reaches_a_provider_that_knows_it() -> None:
    body = messages(1)
    body["system"][0]["cache_control"] = {"type": "ephemeral", "ttl": "1h"}
    body["tools"][-1]["cache_control"] = {"type": "ephemeral"}
    call = read("anthropic_messages", body)
    facts = PROVIDER_KINDS["bedrock"].facts
    told = translate(call, DIALECTS["anthropic_messages"], UPSTREAMS["bedrock"], "anthropic.claude-sonnet-4-5", facts, "everything").body
    assert told.count(b'"cachePoint"') == 2 and b'"1h"' in told
