"""Going on with a message that was cut."""

from msgspec import Raw

from contract.call import Call
from providers.sse import SseDecoder
from providers.wires.anthropic_messages.encoder import MessagesStreamEncoder
from providers.wires.anthropic_messages.response import block_decoder, stream_event
from providers.wires.port import Answering
from providers.wires.resuming import asked_on, lessened, with_answer

MESSAGE_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
_THOUGHT_OVER = frozenset({"thinking"})  # which no beginning of an answer goes with


def go_on(call: Call, text: str, spent: int) -> Call:
    members: dict[str, Raw] = {"messages": with_answer(call.fields["messages"], text, "text")}
    return asked_on(call, text, members | lessened(call, spent, "max_tokens"), _THOUGHT_OVER)


def resumed(delivered: bytes, answering: Answering) -> MessagesStreamEncoder | None:
    """None: it has not begun, or a block is open that is no text. Raises msgspec.DecodeError for what is no message's stream."""
    begun, newest = False, -1
    open_: dict[int, str] = {}
    for event in SseDecoder().feed(delivered):
        told = stream_event.decode(event.data or b"{}")
        if told.type == "message_start":
            begun = True
        elif told.type == "content_block_start":
            newest = max(newest, told.index)
            open_[told.index] = block_decoder.decode(told.content_block).type
        elif told.type == "content_block_stop":
            open_.pop(told.index, None)
    if not begun or open_ not in ({}, {newest: "text"}):
        return None
    encoder = MessagesStreamEncoder(answering)
    encoder.resume(newest, in_text=bool(open_))
    return encoder
