"""Going on with a legacy completion that was cut: its prompt goes on with what was answered."""

from typing import Any

import msgspec
from msgspec import Raw

from contract.call import Call
from providers.wires.openai_completions.encoder import CompletionsStreamEncoder
from providers.wires.openai_completions.request import DEFAULT_MAX_TOKENS
from providers.wires.openai_completions.response import CompletionsStreamDecoder
from providers.wires.port import Answering
from providers.wires.resuming import asked_on, less, lessened


def go_on(call: Call, text: str, spent: int) -> Call:
    prompt: Any = msgspec.json.decode(call.fields["prompt"])
    before = prompt[0] if isinstance(prompt, list) else prompt
    members = {"prompt": Raw(msgspec.json.encode(before + text))}
    if spent < DEFAULT_MAX_TOKENS:  # else its server has another default
        members["max_tokens"] = less(Raw(b"%d" % DEFAULT_MAX_TOKENS), spent)
    return asked_on(call, text, members | lessened(call, spent, "max_tokens"))


def resumed(delivered: bytes, answering: Answering) -> CompletionsStreamEncoder:
    encoder = CompletionsStreamEncoder(answering)
    for event in CompletionsStreamDecoder().feed(delivered):
        encoder.feed(event)
    return encoder
