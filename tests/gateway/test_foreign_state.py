"""State that the targets of a model cannot read: it reaches none of them, and what only looks like state binds nobody."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.binding import states_in
from providers.wires.seal import Seal, seal
from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.upstream import Exchange, Upstream, completion, status

CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
providers:
  claude: {{kind: anthropic, base_url: "{one}", api_key: k}}
  lab: {{kind: openai-compatible, base_url: "{two}", api_key: k, dialects: [openai_chat]}}
policies:
  lenient: {{drop_unsupported: true}}
  once: {{retry: {{max_attempts: 2}}}}
models:
  claude: {{targets: [{{provider: claude, model: claude-sonnet-4-5}}]}}
  lenient: {{policy: lenient, targets: [{{provider: claude, model: claude-sonnet-4-5}}]}}
  lab: {{targets: [{{provider: lab, model: m2}}]}}
  both: {{policy: once, targets: [{{provider: claude, model: claude-sonnet-4-5}}, {{provider: lab, model: m2}}]}}
teams:
  search: {{keys: [{key}]}}
"""
FOREIGN = seal(Seal("other-claude/claude-sonnet-4-5", "anthropic_messages", "FOREIGN-SIGNATURE"))
THINKING = [{"type": "thinking", "thinking": "Hm.", "signature": "OWN-SIGNATURE"}, {"type": "text", "text": "Paris."}]


@pytest.fixture
async def gateway(one: Upstream, two: Upstream, tmp_path: Path) -> AsyncIterator[Gateway]:
    one.plays["claude-sonnet-4-5"] = message
    async with running(CONFIG.format(folder=tmp_path, one=one.base_url, two=two.base_url, key=KEY), tmp_path) as gateway:
        yield gateway


async def message(x: Exchange) -> None:
    usage = {"input_tokens": 3, "output_tokens": 2}
    body = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": THINKING, "stop_reason": "end_turn", "usage": usage}
    await x.respond(200, json.dumps(body).encode())


def chat(model: str, **reasoning: str) -> dict[str, Any]:
    asked = {"role": "user", "content": "Capital of France?"}
    told = {"role": "assistant", "content": "Paris.", "reasoning_content": "Hm.", **reasoning}
    return {"model": model, "messages": [asked, told, {"role": "user", "content": "And of Spain?"}]}


async def test_another_provider_s_signature_is_refused_by_name(gateway: Gateway, one: Upstream) -> None:
    refused = await gateway.post(chat("claude", reasoning_signature=FOREIGN))
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "messages.reasoning_signature")
    assert not one.journal


async def test_another_provider_s_signature_is_left_out_where_the_policy_says_so(gateway: Gateway, one: Upstream) -> None:
    answer = await gateway.post(chat("lenient", reasoning_signature=FOREIGN))
    assert answer.status_code == 200 and "messages.reasoning_signature" in answer.headers["x-turnout-dropped"]
    assert b"FOREIGN-SIGNATURE" not in one.journal[0].raw and b"tnt1_" not in one.journal[0].raw


async def test_a_provider_s_own_signature_goes_back_to_it(gateway: Gateway, one: Upstream) -> None:
    own = seal(Seal("claude/claude-sonnet-4-5", "anthropic_messages", "OWN-SIGNATURE"))
    assert (await gateway.post(chat("claude", reasoning_signature=own))).status_code == 200
    assert b"OWN-SIGNATURE" in one.journal[0].raw


async def test_a_kept_answer_with_signed_reasoning_is_continued_elsewhere_without_it(gateway: Gateway, two: Upstream) -> None:
    first = await gateway.post({"model": "claude", "input": "Capital of France?", "reasoning": {"effort": "low"}}, path="/v1/responses")
    assert first.status_code == 200 and "encrypted_content" in first.text
    second = await gateway.post({"model": "lab", "input": "And of Spain?", "previous_response_id": first.json()["id"]}, path="/v1/responses")
    assert second.status_code == 200, second.text
    assert b"Paris." in two.journal[0].raw and b"SIGNATURE" not in two.journal[0].raw


async def test_a_kept_answer_goes_back_signed_to_its_maker(gateway: Gateway, one: Upstream) -> None:
    first = await gateway.post({"model": "claude", "input": "Capital of France?", "reasoning": {"effort": "low"}}, path="/v1/responses")
    second = await gateway.post({"model": "both", "input": "And of Spain?", "previous_response_id": first.json()["id"]}, path="/v1/responses")
    assert second.status_code == 200 and second.headers["x-turnout-target"].startswith("claude/")
    assert b"OWN-SIGNATURE" in one.journal[1].raw


async def test_an_effort_is_left_out_and_named_where_a_turn_of_calls_has_lost_its_signature(gateway: Gateway) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "Go."},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "done"},
    ]
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
    answer = await gateway.post({"model": "claude", "messages": messages, "tools": tools, "reasoning_effort": "medium"})
    assert answer.status_code == 200 and answer.headers["x-turnout-dropped"] == "reasoning_effort"


async def test_arguments_that_look_like_state_bind_nobody(gateway: Gateway, one: Upstream, two: Upstream) -> None:
    one.plays["claude-sonnet-4-5"] = status(529)

    async def answer(x: Exchange) -> None:
        await x.respond(200, json.dumps(completion()).encode())

    two.plays["m2"] = answer
    use = {"type": "tool_use", "id": "t1", "name": "f", "input": {"city": "A", "signature": "def f(x)", "container": "box", "file_id": "7"}}
    messages = [
        {"role": "user", "content": "Go."},
        {"role": "assistant", "content": [use]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "ok"}]},
    ]
    told = await gateway.post({"model": "both", "max_tokens": 10, "messages": messages}, path="/v1/messages")
    assert told.status_code == 200 and told.headers["x-turnout-target"] == "lab/m2"


STATES: list[tuple[Any, list[str]]] = [
    ({"type": "thinking", "thinking": "x", "signature": "s1"}, ["s1"]),
    ({"type": "redacted_thinking", "data": "d1"}, ["d1"]),
    ({"type": "image", "source": {"type": "base64", "data": "aGk="}}, []),
    ({"type": "tool_use", "input": {"signature": "no", "deep": [{"type": "thinking", "signature": "no"}]}}, []),
    ({"type": "function", "parameters": {"properties": {"file_id": {"const": "no"}}, "container": "no"}}, []),
    ({"type": "reasoning", "encrypted_content": "e1"}, ["e1"]),
    ({"container": "c1", "conversation": {"id": "v1"}}, ["c1", "v1"]),
    ({"extra_content": {"google": {"thought_signature": "t1"}}}, ["t1"]),
    ({"reasoning_details": [{"type": "reasoning.text", "signature": "s2"}, {"type": "reasoning.encrypted", "data": "d2"}]}, ["s2", "d2"]),
    ({"signature": "of nothing we know", "data": "no"}, []),
]


@pytest.mark.parametrize(("value", "states"), STATES, ids=[str(n) for n in range(len(STATES))])
def test_states_are_found_where_they_stand_and_nowhere_else(value: Any, states: list[str]) -> None:
    assert list(states_in({"messages": [{"role": "assistant", "content": [value]}]})) == states
