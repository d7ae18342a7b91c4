"""A whole answer that was read: its bytes for the client, and what ledger, statistics and later requests need of it."""

from typing import Any

import msgspec

from contract.finish import Finish
from contract.usage import MOST_TOKENS, Usage, tells_tier_alone, tokens_about
from providers.wires.media import has_media
from providers.wires.port import UnaryAnswer

OUTPUT = ("choices", "content", "output")  # where each dialect's answer has what the model said


class WholeAnswer(msgspec.Struct):
    """Implements `providers.wires.port.UnaryAnswer`."""

    body: bytes
    usage: Usage | None = None
    upstream_id: str | None = None
    finish: Finish | None = None
    tokens_seen: int | None = 1
    bound: list[str] = []


def tokens_in_answer(answer: UnaryAnswer) -> int | None:
    """Of its output, about, by its length where its provider tells no usage that can be; 0 for an answer of another kind, None where a picture or a
    sound is in it."""
    if answer.tokens_seen is None:
        return None
    usage = answer.usage
    if usage is None or tells_tier_alone(usage):
        return output_about(answer.body)
    parts = filter(None, (usage.reasoning, usage.audio_output, usage.image_output))
    if _may_be(usage.input_uncached) and _may_be(usage.output_visible) and all(map(_may_be, parts)):
        return answer.tokens_seen
    return output_about(answer.body) if answer.finish is not None else 0  # only what a model said has an end


def _may_be(count: int | None) -> bool:
    return count is not None and 0 <= count <= MOST_TOKENS


def output_about(body: bytes) -> int | None:
    """How many tokens a whole answer's output is, about, by the length of the texts in it; 0 for an answer of another kind, None where not all of it
    is text."""
    try:
        answer = msgspec.json.decode(body)
        output = [answer.get(member) for member in OUTPUT] if isinstance(answer, dict) else []
        if has_media(output):
            return None
        length = sum(map(_length, output))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return 0
    return tokens_about(length) if length else 0


def _length(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_length, value.values()))
    return sum(map(_length, value)) if isinstance(value, list) else 0
