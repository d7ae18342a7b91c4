"""What an owned engine is asked, whatever the client's dialect: an OpenAI chat stream; and what turns that into the client's answer."""

from collections.abc import Callable

import msgspec

from contract.call import Call, Drop
from contract.errors import EngineRefused
from providers.exchange import FoldedExchange, Notes, StreamExchange
from providers.http.port import HttpResponse
from providers.port import Exchange, Marks
from providers.routes import dropped_note
from providers.translation import TranslatingTap, answering, settled, translate
from providers.wires.anthropic_messages import ANTHROPIC_MESSAGES
from providers.wires.facts import Facts, honoured
from providers.wires.losses import Losses
from providers.wires.openai_chat import OPENAI_CHAT
from providers.wires.seal import MARK, disowned
from providers.wires.table import DIALECTS

# llama.cpp with a text model; what it cannot see, hear or reason about is refused before it is asked
ENGINE_FACTS = Facts(images=False, reasoning=False, prefill=True, logprobs=True, n=True, seed=True, top_k=True, reasoning_field="reasoning_content")
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Asked(msgspec.Struct):
    """`chat`: the request as a chat call. `body`: what is sent. `exchange`: reads the engine's stream."""

    chat: Call
    body: bytes
    exchange: Callable[[HttpResponse, Marks], Exchange]


def ask(call: Call, name: str, model: str, max_answer: int, drop: Drop) -> Asked:
    """Raises InvalidRequest, TargetCannot, EngineRefused."""
    if call.dialect == "openai_chat" and not (call.may_hold_state and MARK in call.body):
        return _ask_chat(call, model, max_answer)
    dialect = DIALECTS.get(call.dialect)
    if dialect is None:
        raise EngineRefused(f"the engine {name!r} has nothing like {call.path or call.dialect}")
    call = msgspec.structs.replace(call, body=disowned(call.body, name))
    translated = translate(call, dialect, OPENAI_CHAT, model, ENGINE_FACTS, drop)
    request = translated.request
    chat = msgspec.structs.replace(
        call, dialect="openai_chat", choices=request.sampling.n or 1, include_usage=True, body=translated.body, fields=_fields.decode(translated.body)
    )
    body = OPENAI_CHAT.rewrite_request(chat, model, ENGINE_FACTS, stream=True, ask_usage=True)
    context, notes = answering(call, name), dropped_note(translated.dropped)

    def exchange(response: HttpResponse, marks: Marks) -> Exchange:
        decoder = OPENAI_CHAT.stream_decoder(chat.choices)
        if call.stream:
            return StreamExchange(response, TranslatingTap(decoder, dialect.stream_encoder(context), chat.choices), marks, notes)
        return FoldedExchange(response, decoder, lambda events: dialect.encode_response(events, context), marks, max_answer, notes)

    return Asked(chat, body, exchange)


def ask_count(call: Call, model: str) -> tuple[bytes, Notes]:
    """Anthropic's count_tokens as the chat request whose prompt is counted; and what of it is not counted. Raises InvalidRequest."""
    losses = Losses()
    request = honoured(ANTHROPIC_MESSAGES.decode_count_request(call.body), ENGINE_FACTS, losses)
    body = OPENAI_CHAT.encode_request(request, model, ENGINE_FACTS, losses)
    return body, dropped_note(settled(losses, "everything", ANTHROPIC_MESSAGES))


def _ask_chat(call: Call, model: str, max_answer: int) -> Asked:
    def exchange(response: HttpResponse, marks: Marks) -> Exchange:
        if call.stream:
            return StreamExchange(response, OPENAI_CHAT.stream_tap(call, not call.include_usage), marks)
        context = answering(call, model)
        decoder = OPENAI_CHAT.stream_decoder(call.choices)
        return FoldedExchange(response, decoder, lambda events: OPENAI_CHAT.encode_response(events, context), marks, max_answer)

    return Asked(call, OPENAI_CHAT.rewrite_request(call, model, ENGINE_FACTS, stream=True, ask_usage=True), exchange)
