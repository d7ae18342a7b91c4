"""Going on with a chat answer that was cut."""

from msgspec import Raw

from contract import events as ev
from contract.call import Call
from providers.wires.openai_chat.encoder import ChatStreamEncoder
from providers.wires.openai_chat.stream import ChatStreamDecoder
from providers.wires.port import Answering
from providers.wires.resuming import asked_on, lessened, with_answer

_THOUGHT_OVER = frozenset({"reasoning_effort", "reasoning"})


def go_on(call: Call, text: str, spent: int) -> Call:
    members: dict[str, Raw] = {"messages": with_answer(call.fields["messages"], text, "text")}
    return asked_on(call, text, members | lessened(call, spent, "max_completion_tokens", "max_tokens"), _THOUGHT_OVER)


def resumed(delivered: bytes, answering: Answering) -> ChatStreamEncoder:
    encoder = ChatStreamEncoder(answering)
    for event in ChatStreamDecoder(1).feed(delivered):
        encoder.feed(event)
        if isinstance(event, ev.Started):
            encoder.feed(ev.TextDelta(text=""))  # whose role was told
    return encoder
