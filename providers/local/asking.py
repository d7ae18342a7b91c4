"""What an owned engine is asked, whatever the client's dialect: an OpenAI chat stream; and what turns that into the client's answer."""

from collections.abc import Callable

import msgspec
from msgspec import Raw

from contract.call import Call, Drop
from contract.errors import EngineRefused
from contract.flow import Flow
from providers.exchange import FoldedExchange, Notes, StreamExchange, UnaryExchange
from providers.http.port import HttpResponse
from providers.local.forcing import NOT_FORCED, CallingDecoder, by_schema, is_forced
from providers.local.manner import Manner
from providers.local.port import Want
from providers.local.progress import WithoutProgress, with_progress
from providers.local.seats import beginnings
from providers.port import Exchange, Marks
from providers.routes import dropped_note
from providers.translation import TranslatingTap, answering, settled, translate
from providers.wires.anthropic_messages import ANTHROPIC_MESSAGES
from providers.wires.facts import Facts, honoured
from providers.wires.losses import Losses
from providers.wires.openai_chat import OPENAI_CHAT
from providers.wires.port import StreamDecoder
from providers.wires.seal import MARK, disowned
from providers.wires.table import DIALECTS, NATIVES

CHAT_PATH = "/v1/chat/completions"
LIVE, BATCH = b"0", b"10"
READ = ("tools", "messages")  # in the order in which templates have them
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Asked(msgspec.Struct):
    """`chat`: the request as a chat call, or in a dialect that the engine has itself. `body`: what is sent. `exchange`: reads the engine's answer."""

    chat: Call
    body: bytes
    exchange: Callable[[HttpResponse, Marks], Exchange]
    path: str = CHAT_PATH
    streams: bool = True

    @property
    def folds(self) -> bool:
        """Its client gets a whole answer of what the engine gives piece by piece."""
        return self.streams and not self.chat.stream

    def want(self, flow: Flow, tokens: int, spills: bool, seated: bool = False) -> Want:
        """Of a completion that vLLM gives whole the first token is not seen; embeddings are all reading."""
        fields, seen = self.chat.fields, self.streams or self.chat.dialect != "openai_completions"
        begins = beginnings(*(bytes(fields.get(name, b"")) for name in READ)) if seated else ()
        return Want(flow, tokens, self.chat.choices, spills=spills, seen=seen, begins=begins)

    def in_seat(self, seat: int | None) -> bytes:
        """What is sent, with the slot of llama.cpp that computes it, where that is chosen. Of members that stand there twice it takes the last."""
        return self.body if seat is None else self.body[:-1] + b',"id_slot":%d}' % seat


def ask(call: Call, name: str, model: str, manner: Manner, max_answer: int, drop: Drop) -> Asked:
    """Raises InvalidRequest, TargetCannot, EngineRefused."""
    facts = manner.facts
    if (path := manner.natives.get(call.dialect)) is not None:
        return _ask_native(call, model, facts, path, max_answer)
    if call.dialect == "openai_chat" and not (call.may_hold_state and MARK in call.body) and not (manner.forces_by_schema and is_forced(call)):
        return _ask_chat(_strictly(call) if manner.strict_when_forced else call, model, manner, max_answer)
    dialect = DIALECTS.get(call.dialect)
    if dialect is None:
        raise EngineRefused(f"the engine {name!r} has nothing like {call.path or call.dialect}")
    call = msgspec.structs.replace(call, body=disowned(call.body, name))
    translated = translate(call, dialect, OPENAI_CHAT, model, facts, drop)
    request = translated.request
    chat = msgspec.structs.replace(
        call, dialect="openai_chat", choices=request.sampling.n or 1, include_usage=True, body=translated.body, fields=_fields.decode(translated.body)
    )
    if manner.strict_when_forced:
        chat = _strictly(chat)
    chat, forced = by_schema(chat) if manner.forces_by_schema else (chat, None)
    chat, progress = with_progress(chat) if manner.tells_progress else (chat, False)
    body = OPENAI_CHAT.rewrite_request(chat, model, facts, stream=True, ask_usage=True)
    context, notes = answering(call, name), dropped_note(translated.dropped)

    def exchange(response: HttpResponse, marks: Marks) -> Exchange:
        response = WithoutProgress(response) if progress else response
        decoder: StreamDecoder = OPENAI_CHAT.stream_decoder(chat.choices)
        decoder = decoder if forced is None else CallingDecoder(decoder, forced)
        if call.stream:
            return StreamExchange(response, TranslatingTap(decoder, dialect.stream_encoder(context), chat.choices), marks, notes)
        return FoldedExchange(response, decoder, lambda events: dialect.encode_response(events, context), marks, max_answer, notes)

    return Asked(chat, body, exchange)


def ask_count(call: Call, model: str, facts: Facts) -> tuple[bytes, Notes]:
    """Anthropic's count_tokens as the chat request whose prompt is counted; and what of it is not counted. Raises InvalidRequest."""
    losses = Losses()
    request = honoured(ANTHROPIC_MESSAGES.decode_count_request(call.body), facts, losses)
    body = OPENAI_CHAT.encode_request(request, model, facts, losses)
    return body, dropped_note(settled(losses, "everything", ANTHROPIC_MESSAGES))


def prioritised(call: Call) -> Call:
    """The call with the place in the engine's order that its team has, and none that its client gave it."""
    if call.flow.priority == "interactive" and "priority" not in call.fields:
        return call
    fields = {**call.fields, "priority": Raw(BATCH if call.flow.priority == "batch" else LIVE)}
    return msgspec.structs.replace(call, fields=fields, body=msgspec.json.encode(fields))


def _strictly(call: Call) -> Call:
    """The call with its tools `strict`, where one of them must be called and they do not say themselves whether they are."""
    if "tools" not in call.fields or bytes(call.fields.get("tool_choice", b"null")) in NOT_FORCED:
        return call
    tools = msgspec.json.decode(call.fields["tools"])
    for tool in tools if isinstance(tools, list) else ():
        if isinstance(tool, dict) and isinstance(function := tool.get("function"), dict):
            function.setdefault("strict", True)
    fields = {**call.fields, "tools": Raw(msgspec.json.encode(tools))}
    return msgspec.structs.replace(call, fields=fields, body=msgspec.json.encode(fields))


def _ask_native(call: Call, model: str, facts: Facts, path: str, max_answer: int) -> Asked:
    """In its own dialect. vLLM ends what it computes for a whole answer too when who asked is gone."""
    native = NATIVES[call.dialect]

    def exchange(response: HttpResponse, marks: Marks) -> Exchange:
        if call.stream:
            return StreamExchange(response, native.stream_tap(call, not call.include_usage), marks)
        return UnaryExchange(response, native.read_unary, marks, max_answer)

    body = native.rewrite_request(call, model, facts, stream=call.stream, ask_usage=call.stream)
    return Asked(call, body, exchange, path, call.stream)


def _ask_chat(call: Call, model: str, manner: Manner, max_answer: int) -> Asked:
    call, progress = with_progress(call) if manner.tells_progress else (call, False)
    names_tool = bytes(call.fields.get("tool_choice", b""))[:1] == b"{"  # which vLLM ends with `stop`: events tell of a call

    def exchange(response: HttpResponse, marks: Marks) -> Exchange:
        response = WithoutProgress(response) if progress else response
        if call.stream and not names_tool:
            return StreamExchange(response, OPENAI_CHAT.stream_tap(call, not call.include_usage), marks)
        context = answering(call, model)
        decoder = OPENAI_CHAT.stream_decoder(call.choices)
        if call.stream:
            return StreamExchange(response, TranslatingTap(decoder, OPENAI_CHAT.stream_encoder(context), call.choices), marks)
        return FoldedExchange(response, decoder, lambda events: OPENAI_CHAT.encode_response(events, context), marks, max_answer)

    return Asked(call, OPENAI_CHAT.rewrite_request(call, model, manner.facts, stream=True, ask_usage=True), exchange)
