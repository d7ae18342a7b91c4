"""Legacy completions to the same: bytes pass, and are only watched. Their chunks are chat's but for `text` in the place of a delta."""

import msgspec

from contract.call import Call
from contract.errors import MalformedResponse
from contract.usage import Usage
from providers.wires.answer import WholeAnswer
from providers.wires.openai_chat.errors import in_band_error
from providers.wires.openai_chat.finish import decode_finish
from providers.wires.openai_chat.usage import decode_usage
from providers.wires.tiers import without_counts


class _Choice(msgspec.Struct):
    index: int = 0
    text: str | None = None
    finish_reason: str | None = None


class _Answer(msgspec.Struct):
    id: str | None = None
    object: str | None = None
    choices: list[_Choice] | None = None
    usage: msgspec.Raw = msgspec.Raw(b"null")
    error: msgspec.Raw = msgspec.Raw(b"null")
    service_tier: msgspec.Raw = msgspec.Raw(b"null")


_answer = msgspec.json.Decoder(_Answer)


def choices_of(call: Call) -> int:
    """How many choices the answer holds: `n` for each prompt."""
    raw = bytes(call.fields.get("prompt", b""))
    if raw[:1] != b"[":
        return call.choices
    prompts = msgspec.json.decode(raw, type=list[msgspec.Raw])
    several = len(prompts) if prompts and bytes(prompts[0])[:1] in (b'"', b"[") else 1
    return call.choices * max(1, several)


def read_unary(body: bytes) -> WholeAnswer:
    """Checks a whole answer. Raises MalformedResponse, or what an error object in it means."""
    try:
        answer = _answer.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise MalformedResponse("the upstream's answer is not a completion") from exc
    if bytes(answer.error) != b"null" or answer.object == "error":
        raise in_band_error(body)
    if not answer.choices:
        raise MalformedResponse("the upstream's answer holds no choices")
    native = next((choice.finish_reason for choice in answer.choices if choice.index == 0), None)
    tier = answer.service_tier
    usage: Usage | None = decode_usage(answer.usage, tier) if bytes(answer.usage)[:1] == b"{" else without_counts(tier)
    return WholeAnswer(body, usage, answer.id, decode_finish(native) if native else None)
