"""Where each maker says in which service tier it answered, and what its standard one is called."""

from collections.abc import Callable

import pytest
from msgspec import Raw, json

from contract.events import Ended, UsageReported
from contract.usage import Usage, tells_tier_alone
from providers.wires.anthropic_messages.usage import decode_usage as of_anthropic
from providers.wires.bedrock.response import BedrockStreamDecoder, decode_response
from providers.wires.openai_chat.response import decode_response as chat_events
from providers.wires.openai_chat.stream import ChatStreamDecoder
from providers.wires.openai_chat.tap import ChatStreamTap
from providers.wires.openai_chat.tap import read_unary as of_chat
from providers.wires.openai_completions.tap import read_unary as of_completions
from providers.wires.openai_responses.response import ResponsesStreamDecoder
from providers.wires.openai_responses.response import decode_response as responses_events
from providers.wires.openai_responses.tap import ResponsesStreamTap
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


# --- without usage ---------------------------------------------------------------------------------------------------------------
TOLD = [("priority", "priority"), ("default", ""), ("auto", None), (None, None), (7, None)]


def alone(usage: Usage | None) -> str | None:
    """The tier of what tells nothing else; None: not even that is told."""
    assert usage is None or tells_tier_alone(usage)
    return None if usage is None else usage.service_tier


def sse(*events: dict[str, object]) -> bytes:
    return b"".join(b"data: %b\n\n" % json.encode(each) for each in events)


@pytest.mark.parametrize(("said", "told"), TOLD)
@pytest.mark.parametrize("make", [lambda: ChatStreamTap(1, True), lambda: ChatStreamDecoder(1)], ids=["passed", "translated"])
def test_a_chat_stream_keeps_its_tier_without_usage(make: Callable[[], ChatStreamTap | ChatStreamDecoder], said: object, told: str | None) -> None:
    reader = make()
    for text in ("Hi", " there", " you"):
        reader.feed(sse({"id": "1", "choices": [{"index": 0, "delta": {"content": text}}], "service_tier": said, "usage": None}))
    assert alone(reader.told_usage()) == told


@pytest.mark.parametrize("make", [lambda: ChatStreamTap(1, True), lambda: ChatStreamDecoder(1)], ids=["passed", "translated"])
def test_usage_that_tells_no_tier_has_that_of_its_stream(make: Callable[[], ChatStreamTap | ChatStreamDecoder]) -> None:
    reader = make()
    reader.feed(sse({"id": "1", "choices": [{"index": 0, "delta": {"content": "Hi"}}], "service_tier": "priority"}))
    reader.feed(sse({"id": "1", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}))
    usage = reader.told_usage()
    assert usage is not None and (usage.input_uncached, usage.service_tier) == (3, "priority")


@pytest.mark.parametrize(("said", "told"), TOLD)
@pytest.mark.parametrize("make", [lambda: ResponsesStreamTap(True), ResponsesStreamDecoder], ids=["passed", "translated"])
@pytest.mark.parametrize("last", ["response.in_progress", "response.completed"])
def test_a_stream_of_responses_does_too(
    make: Callable[[], ResponsesStreamTap | ResponsesStreamDecoder], said: object, told: str | None, last: str
) -> None:
    reader, response = make(), {"id": "resp_1", "object": "response", "output": [], "usage": None}
    reader.feed(sse({"type": "response.created", "response": response | {"service_tier": "auto"}}))
    reader.feed(sse({"type": last, "response": response | {"status": last[9:], "service_tier": said}}))
    assert alone(reader.told_usage()) == told


@pytest.mark.parametrize(("said", "told"), TOLD)
def test_whole_answers_do_too(said: object, told: str | None) -> None:
    chat: dict[str, object] = {"choices": [{"index": 0, "finish_reason": "stop", "message": {}}], "service_tier": said}
    responses = {"id": "resp_1", "object": "response", "status": "completed", "output": [], "service_tier": said}
    passed = [of_chat(json.encode(chat)), of_completions(json.encode(chat)), of_responses(json.encode(responses))]
    assert [alone(answer.usage) for answer in passed] == [told] * 3
    for events in (chat_events(json.encode(chat)), responses_events(json.encode(responses))):
        ended = events[-1]
        assert isinstance(ended, Ended) and alone(ended.told) == told


def test_bedrock_s_does_too() -> None:
    output = {"message": {"role": "assistant", "content": [{"text": "Hi"}]}}
    ended = decode_response(json.encode({"output": output, "stopReason": "end_turn", "serviceTier": {"type": "priority"}}))[-1]
    assert isinstance(ended, Ended) and alone(ended.told) == "priority"
    decoder = BedrockStreamDecoder()
    decoder.feed(event("messageStop", stopReason="end_turn") + event("metadata", serviceTier={"type": "priority"}))
    assert alone(decoder.told_usage()) == "priority"


def test_anthropic_s_usage_of_a_shape_that_nobody_knows_keeps_its_tier() -> None:
    assert of_anthropic(Raw(b'{"input_tokens":"three","service_tier":"priority"}')).service_tier == "priority"
