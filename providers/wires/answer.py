"""A whole answer that was read: its bytes for the client, and what ledger, statistics and later requests need of it."""

from typing import Any

import msgspec

from contract.finish import Finish
from contract.usage import Usage, tokens_about

OUTPUT = ("choices", "content", "output")  # where each dialect's answer has what the model said


class WholeAnswer(msgspec.Struct):
    """Implements `providers.wires.port.UnaryAnswer`."""

    body: bytes
    usage: Usage | None = None
    upstream_id: str | None = None
    finish: Finish | None = None
    tokens_seen: int = 1
    bound: list[str] = []


def output_about(body: bytes) -> int:
    """How many tokens a whole answer's output is, about, by the length of the texts in it; 0 for an answer of another kind."""
    try:
        answer = msgspec.json.decode(body)
        length = sum(_length(answer.get(member)) for member in OUTPUT) if isinstance(answer, dict) else 0
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return 0
    return tokens_about(length) if length else 0


def _length(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_length, value.values()))
    return sum(map(_length, value)) if isinstance(value, list) else 0
