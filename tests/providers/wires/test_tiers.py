"""Where each maker says in which service tier it answered, and what its standard one is called."""

from collections.abc import Callable

import pytest
from msgspec import Raw, json

from contract.events import UsageReported
from providers.wires.anthropic_messages.usage import decode_usage as of_anthropic
from providers.wires.bedrock.response import BedrockStreamDecoder, decode_response
from providers.wires.openai_chat.tap import read_unary as of_chat
from providers.wires.openai_responses.tap import read_unary as of_responses
from providers.wires.tiers import tier_of
from tests.providers.eventstream_bytes import event


def anthropic(tier: object) -> str | None:
    return of_anthropic(Raw(json.encode({"input_tokens": 3, "output_tokens": 1, "service_tier": tier}))).service_tier


def chat(tier: object) -> str | None:
    body = {"choices": [{"index": 0, "finish_reason": "stop"}], "usage": {"prompt_tokens": 3}, "service_tier": tier}
    usage = of_chat(json.encode(body)).usage
    assert usage is not None
    return usage.service_tier


def responses(tier: object) -> str | None:
    body = {"id": "resp_1", "object": "response", "status": "completed", "output": [], "usage": {"input_tokens": 3}, "service_tier": tier}
    usage = of_responses(json.encode(body)).usage
    assert usage is not None
    return usage.service_tier


def bedrock(tier: object) -> str | None:
    output = {"message": {"role": "assistant", "content": [{"text": "Hi"}]}}
    body = {"output": output, "stopReason": "end_turn", "usage": {"inputTokens": 3, "outputTokens": 1}, "serviceTier": {"type": tier}}
    (usage,) = [event.usage for event in decode_response(json.encode(body)) if isinstance(event, UsageReported)]
    return usage.service_tier


@pytest.mark.parametrize("read", [anthropic, chat, responses, bedrock])
@pytest.mark.parametrize(
    ("said", "told"), [("flex", "flex"), ("priority", "priority"), ("default", None), ("standard", None), ("auto", None), (None, None), (7, None)]
)
def test_a_tier_other_than_the_standard_one_is_told(read: Callable[[object], str | None], said: object, told: str | None) -> None:
    assert read(said) == told


def test_bedrock_s_stream_tells_it_with_its_usage() -> None:
    decoder = BedrockStreamDecoder()
    events = decoder.feed(event("messageStop", stopReason="end_turn") + event("metadata", usage={"inputTokens": 3}, serviceTier={"type": "flex"}))
    assert [each.usage.service_tier for each in events if isinstance(each, UsageReported)] == ["flex"]


def test_a_long_name_is_cut() -> None:
    assert tier_of(Raw(json.encode("x" * 100))) == "x" * 40
