"""What some providers tell in words alone: that a prompt is too long, that a content filter stepped in. Bodies as they were seen."""

import json

import pytest

from contract import errors as e
from providers.wires.anthropic_messages import ANTHROPIC_MESSAGES
from providers.wires.anthropic_messages.errors import in_band_error
from providers.wires.bedrock.errors import decode_error as bedrock_error
from providers.wires.bedrock.errors import stream_error
from providers.wires.failure import MESSAGE_LIMIT
from providers.wires.gemini.errors import decode_error as gemini_error
from providers.wires.openai_chat.errors import decode_error as chat_error

TOO_LONG, FILTERED, REFUSED = e.ContextLengthExceeded, e.ContentPolicyRefused, e.UpstreamRejected
AZURE = "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. Please modify your prompt and retry."
VLLM = "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens in the messages. Please reduce their length."


def anthropic(message: str, kind: str = "invalid_request_error") -> bytes:
    return json.dumps({"type": "error", "error": {"details": None, "type": kind, "message": message}, "request_id": "req_1"}).encode()


@pytest.mark.parametrize(
    ("message", "cls"),
    [
        ("prompt is too long: 209353 tokens > 200000 maximum", TOO_LONG),
        ("input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000, decrease input length or `max_tokens`", TOO_LONG),
        ("Output blocked by content filtering policy", FILTERED),
        ("max_tokens: must be greater than 0", REFUSED),
        ("messages.0: a prompt is too long", REFUSED),
    ],
)
def test_anthropic_says_it_in_its_message(message: str, cls: type[e.AttemptError]) -> None:
    whole, event = ANTHROPIC_MESSAGES.decode_error(400, {}, anthropic(message)), in_band_error(anthropic(message))
    assert type(whole) is type(event) is cls
    assert message not in whole.message


def test_a_server_s_failure_is_no_refusal_whatever_it_says() -> None:
    assert type(ANTHROPIC_MESSAGES.decode_error(500, {}, anthropic("Output blocked by content filtering policy", "api_error"))) is e.UpstreamError
    assert type(ANTHROPIC_MESSAGES.decode_error(429, {}, anthropic("prompt is too long: 9 tokens > 8 maximum", "rate_limit_error"))) is e.RateLimited


@pytest.mark.parametrize(
    ("error", "cls"),
    [
        ({"code": "content_filter", "type": None, "param": "prompt", "message": AZURE}, FILTERED),
        ({"code": "400", "type": None, "innererror": {"code": "ResponsibleAIPolicyViolation"}, "message": "CANARY"}, FILTERED),
        ({"code": "400", "type": None, "message": AZURE}, FILTERED),
        ({"code": "content_policy_violation", "type": "image_generation_user_error", "message": "CANARY"}, FILTERED),
        ({"code": 400, "type": "BadRequestError", "param": None, "message": VLLM}, TOO_LONG),
        ({"error_type": "validation", "message": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 1"}, TOO_LONG),
        ({"code": None, "innererror": 5, "message": 5}, REFUSED),
    ],
)
def test_openai_azure_and_those_who_speak_like_them_say_it_in_a_code_or_else_in_words(error: dict[str, object], cls: type[e.AttemptError]) -> None:
    assert type(chat_error(400, {}, json.dumps({"error": error}).encode())) is cls


def test_google_says_it_in_its_message() -> None:
    told = {
        "code": 400,
        "status": "INVALID_ARGUMENT",
        "message": "The input token count (2551556) exceeds the maximum number of tokens allowed (1048576).",
    }
    assert type(gemini_error(400, {}, json.dumps({"error": told}).encode())) is TOO_LONG
    assert type(gemini_error(400, {}, json.dumps({"error": told | {"message": "CANARY"}}).encode())) is REFUSED


@pytest.mark.parametrize(
    ("message", "cls"),
    [
        ("Input is too long for requested model.", TOO_LONG),
        ("The model returned the following errors: prompt is too long: 200049 tokens > 200000 maximum", TOO_LONG),
        ("The model returned the following errors: Output blocked by content filtering policy", FILTERED),
        ("Malformed input request", REFUSED),
    ],
)
def test_bedrock_says_it_in_its_message(message: str, cls: type[e.AttemptError]) -> None:
    body = json.dumps({"message": message}).encode()
    assert type(bedrock_error(400, {b"x-amzn-errortype": b"ValidationException"}, body)) is cls
    assert type(stream_error("validationException", body)) is cls


def test_words_far_behind_are_not_looked_at() -> None:
    """A message may repeat what the caller wrote."""
    message = "x" * MESSAGE_LIMIT + "Output blocked by content filtering policy"
    assert type(ANTHROPIC_MESSAGES.decode_error(400, {}, anthropic(message))) is REFUSED
