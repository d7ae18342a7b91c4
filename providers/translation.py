"""From one format to another: what reads a provider's bytes as events and gives the client those of its own dialect."""

from collections.abc import Iterable
from time import time

import msgspec

from contract import events as ev
from contract.call import Call, Drop
from contract.errors import AttemptError, StreamCut, TargetCannot, UnsupportedField
from contract.finish import Finish
from contract.requests import ChatRequest
from contract.usage import BYTES_PER_TOKEN, Usage, tokens_about
from providers.wires.facts import Facts, honoured
from providers.wires.losses import Losses
from providers.wires.media import is_medium
from providers.wires.openai_completions.request import begun
from providers.wires.port import Answering, Dialect, Named, StreamDecoder, StreamEncoder, Upstream
from providers.wires.tapping import Findings


class Translated(msgspec.Struct):
    """A request in the provider's format. `dropped`: what it does not hold of the client's, in the client's words."""

    request: ChatRequest
    body: bytes
    dropped: tuple[str, ...]


def translate(call: Call, dialect: Dialect, upstream: Upstream, model: str, facts: Facts, drop: Drop) -> Translated:
    """Raises InvalidRequest; TargetCannot for what this provider cannot be asked, unless `drop` leaves it out."""
    losses = Losses()
    try:
        asked = dialect.decode_request(call.body)
        if call.answered and call.dialect == "openai_completions":
            asked = begun(asked, call.answered)
        request = honoured(asked, facts, losses)
        body = msgspec.json.format(upstream.encode_request(request, model, facts, losses), indent=-1)  # so that a provider's prompt cache hits
    except UnsupportedField as error:
        raise cannot(error.param or "") from error
    return Translated(request, body, settled(losses, drop, dialect))


def settled(losses: Losses, drop: Drop, dialect: Named) -> tuple[str, ...]:
    """The names of what is left out. Raises TargetCannot for the first field that must not be."""
    refused = [*losses.fatal, *losses.hints] if drop == "nothing" else losses.fatal if drop == "hints" else []
    if refused:
        raise cannot(shown(refused[0], dialect))
    return tuple(shown(name, dialect) for name in (*losses.fatal, *losses.hints))


def cannot(field: str) -> TargetCannot:
    return TargetCannot(
        f"the target has no way to honour `{field}`: take it out, ask another model, or set `drop_unsupported: true` in the policy", param=field
    )


def shown(name: str, dialect: Named) -> str:
    """A loss in the dialect's words: its own name of the field, of its first part, or the field as it stands."""
    if name in dialect.field_names:
        return dialect.field_names[name]
    first, dot, rest = name.partition(".")
    if first == "extra":
        return rest
    return dialect.field_names.get(first, first) + dot + rest


class TranslatedAnswer:
    """Implements `providers.wires.port.UnaryAnswer` for a whole answer of another format."""

    def __init__(self, events: list[ev.Event], dialect: Dialect, answering: Answering) -> None:
        self.upstream_id: str | None = None
        self.usage: Usage | None = None
        self.finish: Finish | None = None
        self.tokens_seen: int | None = None if any(map(is_medium, events)) else 1
        self.bound: list[str] = []
        for event in events:
            match event:
                case ev.Started():
                    self.upstream_id = event.id or None
                case ev.UsageReported():
                    self.usage = event.usage
                case ev.Finished(choice=0):
                    self.finish = event.finish
                case ev.Ended() if self.usage is None:
                    self.usage = event.told
        self.body = dialect.encode_response(events, answering)


class TranslatingTap(Findings):
    """Implements `providers.wires.port.StreamTap`: a provider's stream in, the client's dialect out."""

    def __init__(self, decoder: StreamDecoder, encoder: StreamEncoder, choices: int) -> None:
        super().__init__()
        self._decoder = decoder
        self._encoder = encoder
        self._choices = choices
        self._finishes = 0

    def feed(self, chunk: bytes) -> bytes:
        if self.error is not None or self.complete:
            return b""
        try:
            return self._pass(self._decoder.feed(chunk))
        except AttemptError as error:
            self.error = error
            return b""

    def end(self) -> bytes:
        if self.error is not None or self.complete:
            return b""
        try:
            out = self._pass(self._decoder.end())
        except AttemptError as error:
            self.error = error
            return b""
        if not self.complete:
            self.error = StreamCut("the upstream's stream ended before its answer was whole")
        return out

    def _pass(self, events: Iterable[ev.Event]) -> bytes:
        out, encode = self._held, self._encoder.feed
        for event in events:
            kind = event.__class__
            if kind is ev.TextDelta:  # most are
                self.tokens_seen += len(event.text) // BYTES_PER_TOKEN or 1  # type: ignore[union-attr]
                self.content_seen = self.progressed = True
            elif kind in _CONTENT:
                self.tokens_seen += tokens_in(event)
                self.media_seen = self.media_seen or is_medium(event)
                self.content_seen = self.progressed = True
            elif kind is not ev.UsageReported:
                self._see(event)
            else:
                self.usage = event.usage  # type: ignore[union-attr]
            if piece := encode(event):
                out.append(piece)
        if self._decoder.stepped:
            self._decoder.stepped = False
            self.progressed = True
        if self._decoder.settled:
            self.finished = True
        return self._released()

    def told_usage(self) -> Usage | None:
        return self.usage or self._decoder.told_usage()

    def _see(self, event: ev.Event) -> None:
        match event:
            case ev.Started():
                self.upstream_id = event.id or None
            case ev.Finished():
                self.content_seen = self.progressed = True
                self._finishes += 1
                self.finished = self._finishes >= self._choices
                if event.choice == 0:
                    self.finish = event.finish
            case ev.Ended():
                self.complete = self.content_seen = self.progressed = True

    @property
    def whole(self) -> bytes:
        return self._encoder.whole

    def in_band(self, body: bytes) -> bytes:
        return self._encoder.in_band(body)


# content events -> the text in them by which their tokens are guessed; None: there is none
_CONTENT: dict[type, str | None] = {
    ev.TextDelta: "text",
    ev.RefusalDelta: "text",
    ev.ReasoningDelta: "text",
    ev.ReasoningSignature: None,
    ev.ToolCallStarted: "name",
    ev.ToolCallDelta: "arguments",
    ev.AudioDelta: None,
    ev.Annotated: None,
    ev.NativeOutput: None,
}


def tokens_in(event: ev.Event) -> int:
    """How many tokens a content event is, about."""
    member = _CONTENT[event.__class__]
    return 1 if member is None else tokens_about(len(getattr(event, member)))


def answering(call: Call, target: str) -> Answering:
    return Answering(call=call, target=target, now_s=int(time()))
