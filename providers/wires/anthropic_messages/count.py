"""Anthropic's count_tokens: the byte path to a provider that has it, and its two small bodies for others."""

from collections.abc import Mapping

import msgspec

from contract.call import Call
from contract.errors import AttemptError, MalformedResponse
from contract.usage import Usage
from providers.wires.answer import WholeAnswer
from providers.wires.anthropic_messages import errors
from providers.wires.anthropic_messages.tap import rewrite_request
from providers.wires.facts import Facts
from providers.wires.port import StreamTap


class _Counted(msgspec.Struct):
    input_tokens: int


_counted = msgspec.json.Decoder(_Counted)


def decode_count(body: bytes) -> int:
    """Raises MalformedResponse."""
    try:
        return _counted.decode(body).input_tokens
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise MalformedResponse("the upstream's answer is not a count of tokens") from exc


def encode_count(tokens: int) -> bytes:
    return msgspec.json.encode(_Counted(tokens))


class AnthropicCount:
    """Implements `providers.wires.port.Native`."""

    def rewrite_request(self, call: Call, model: str, facts: Facts, *, stream: bool, ask_usage: bool) -> bytes:
        return rewrite_request(call, model, facts, stream=False)

    def stream_tap(self, call: Call, strip_usage: bool) -> StreamTap:
        raise MalformedResponse("a count of tokens is no stream")

    def read_unary(self, body: bytes) -> WholeAnswer:
        decode_count(body)
        return WholeAnswer(body, Usage(input_uncached=0, output_visible=0))

    def decode_error(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> AttemptError:
        return errors.decode_error(status, headers, body)


ANTHROPIC_COUNT = AnthropicCount()
