"""What can be read of a whole answer's JSON of which only the beginning came: its texts, and usage where that was told before the cut. Pure."""

import re
from collections.abc import Callable
from typing import Any

import msgspec

from contract.errors import AttemptError
from contract.usage import tokens_about
from providers.wires.media import ARGUMENTS, ends_in_a_picture, has_media
from providers.wires.port import UnaryAnswer

MOST_READ = 1 << 19  # bytes: beyond, the answer is taken to be no longer
MOST_DEPTH = 64
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\],:]|[^\s{}\[\],:"]++|"')
_BEGUN = re.compile(rb'"(?:[^"\\]|\\[^u]|\\u[0-9a-fA-F]{4})*+')  # of a string whose end did not come: its whole characters
_HALF_PAIR = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\Z")
_OUTPUT = ("choices", "content", "output", "candidates", "message")  # where a format's answer has what the model said
_TEXTS = frozenset({"arguments", "content", "reasoning", "reasoning_content", "refusal", "text", "thinking"})
_CLOSING = {b"{": b"}", b"[": b"]"}


def half_of(read: Callable[[bytes], UnaryAnswer], body: bytes) -> tuple[UnaryAnswer | None, int | None]:
    """What came of an answer that was cut, None where it cannot be read, and how many tokens of output, about; None of those where some of it is no
    text. `read`: reads a whole one."""
    begun = body[:MOST_READ]
    whole = closed(begun)
    try:
        told = msgspec.json.decode(whole)
        output = [told[member] for member in _OUTPUT if member in told] if isinstance(told, dict) else []
        length = sum(map(_length, output))
        is_text = not has_media(output) and not (output and ends_in_a_picture(begun))
        answer = read(whole)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None, 0
    except AttemptError:
        answer = None
    if not is_text:
        return answer, None
    return answer, tokens_about(length) if length else 0


def _length(value: Any, key: str = "", counts: bool = False) -> int:
    """Characters of text in it. `counts`: every one does."""
    if isinstance(value, str):
        return len(value) if counts or key in _TEXTS else 0
    if isinstance(value, dict):
        return sum(_length(each, name, counts or name in ARGUMENTS) for name, each in value.items())
    return sum(_length(each, key, counts) for each in value) if isinstance(value, list) else 0


def closed(body: bytes) -> bytes:
    """The JSON with its open texts, lists and objects closed, less what had only begun: a key without value, a number that may go on. b"": nothing
    is left, or it is no JSON."""
    end, open_, kept = 0, b"", b""  # how far it is whole, what closes it there, and what is open now
    key, is_key = b"", False
    for match in _TOKEN.finditer(body):
        token, at = match[0], match.end()
        if token == b'"':  # of a text whose end did not come
            if is_key or key[1:-1].decode(errors="replace") not in _TEXTS:
                break
            begun = b"".join(_BEGUN.findall(body, match.start())[:1])
            return body[: match.start()] + _HALF_PAIR.sub(b"", begun).decode(errors="ignore").encode() + b'"' + open_
        if token in b"{[":
            open_ = _CLOSING[token] + open_
            end, kept, is_key = at, open_, token == b"{"
            if len(open_) > MOST_DEPTH:
                return b""
        elif token in b"}]":
            if open_[:1] != token:
                return b""
            open_ = open_[1:]
            end, kept = at, open_
        elif token == b",":
            is_key = open_[:1] == b"}"
        elif token == b":":
            is_key = False
        elif is_key:
            key = token
        elif token[:1] == b'"' or at < len(body):
            end, kept = at, open_
    return body[:end] + kept
