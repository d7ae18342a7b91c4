"""`recovery: continue`: an answer that was cut after the commit point goes on from its exact text, by another target, in the same stream.

Pure but for `ContinuedExchange`, which reads from another exchange. What cannot be gone on with, and why: docs/recovery.md.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from contract import events as ev
from contract.call import Call
from contract.errors import AttemptError, ContentPolicyRefused, RequestError, UpstreamRejected
from contract.finish import Finish
from contract.requests import ChatRequest, NativeTool, TextFormat
from contract.usage import BYTES_PER_TOKEN, Usage
from gateway.asking import limit_of
from gateway.joint import Joint
from gateway.routes import Target
from providers.port import Exchange
from providers.wires.port import Answering, Resumable, ResumedEncoder
from providers.wires.table import DIALECTS, RESUMABLES

MAX_DELIVERED = 4 << 20  # bytes of an answer that are kept to go on from
TOKEN_SIZED = 8  # characters: shorter pieces, in the mean, are a token each
# top-level fields by which an answer's whole text is bound to a form, or more than a text is asked for: half of it elsewhere breaks either
_BINDING = frozenset(
    {
        "audio",
        "best_of",
        "echo",
        "grammar",
        "guided_choice",
        "guided_grammar",
        "guided_json",
        "guided_regex",
        "json_schema",
        "mcp_servers",
        "structured_outputs",
        "suffix",
        "web_search_options",
    }
)
_NOT_READ = (AttemptError, RequestError, LookupError, TypeError, ValueError, RecursionError, msgspec.MsgspecError)


class Seam(msgspec.Struct, frozen=True):
    """Where an answer was taken up, in characters of its visible text, and the label of the target that did."""

    target: str
    at_characters: int


def can_continue(target: Target, call: Call) -> bool:
    """Whether the target goes on from the text with which the call ends. `call`: a continuation's."""
    if not call.answered:
        return True
    if call.dialect == "openai_completions" and "openai_completions" in target.native:
        return True
    if call.dialect == "openai_responses" and "openai_responses" in target.native:
        return False  # OpenAI's own API answers a last message of the assistant's as one that was whole
    return target.prefill


def is_mended(error: AttemptError) -> bool:
    """Whether what cut an answer lets another target go on with it; what was refused for its content is not taken elsewhere."""
    return not isinstance(error, UpstreamRejected)


def ends_all(error: AttemptError) -> bool:
    """Whether who was to go on told what is the client's answer: a content filter's verdict is not got around by asking another. A plain refusal
    is one target's own: it may take no beginning of an answer."""
    return isinstance(error, ContentPolicyRefused)


def may_go_on(request: ChatRequest) -> bool:
    """Whether an answer to the request is one text, any part of which another model may write."""
    choice, sampling = request.tool_choice, request.sampling
    return (
        (request.response_format is None or isinstance(request.response_format, TextFormat))
        and (sampling.n or 1) == 1
        and not (sampling.logprobs or sampling.top_logprobs)
        and (choice is None or choice.mode in ("auto", "none"))
        and not any(isinstance(tool, NativeTool) for tool in request.tools)
        and _BINDING.isdisjoint(request.extra)
    )


class _Delivered:
    """What the client has of an answer. `whole`: all of it but the stream's end; `usable`: nothing in it stands against going on."""

    def __init__(self, events: list[ev.Event], told: Usage | None) -> None:
        content = [event for event in events if not isinstance(event, ev.Started | ev.Finished | ev.UsageReported | ev.Ended)]
        texts = [event for event in content if isinstance(event, ev.TextDelta)]
        thoughts = [event for event in content if isinstance(event, ev.ReasoningDelta)]
        pieces = len(texts) + len(thoughts) + sum(isinstance(event, ev.ReasoningSignature) for event in content)
        self.text = "".join([event.text for event in texts])
        self.visible, self.reasoning = _tokens(texts), _tokens(thoughts)
        while texts and not texts[-1].text.strip():
            texts = texts[:-1]
        self.text_kept = _tokens(texts)  # without the white space at its end, which is asked for again
        self.kept = self.reasoning + self.text_kept
        self.finish: Finish | None = next((event.finish for event in events if isinstance(event, ev.Finished)), None)
        self.input = told if told is not None and told.input_total else None  # 0: it was not known when the answer began
        self.usable = (
            len(content) == pieces
            and not any(event.logprobs for event in texts)
            and (not content or isinstance(content[-1], ev.TextDelta))  # else a thought is open, or was the last
            and not isinstance(events[-1] if events else None, ev.Ended)
        )


def _tokens(pieces: list[ev.TextDelta] | list[ev.ReasoningDelta]) -> int:
    """How many tokens a text is, about: a token each, where it came in such small pieces; else by its length."""
    length = sum([len(piece.text) for piece in pieces])
    if length < TOKEN_SIZED * len(pieces):
        return len(pieces)
    return length // BYTES_PER_TOKEN


class Continuation:
    """One cut answer, and what is needed to go on with it.

    `call`: the request for the rest. `ending`: where it is not empty the answer was whole, or as long as it may be: this ends its stream, and
    nobody is asked. `characters`: of visible text before the seam. `seams`: all of the answer's, this one included once `seam` was called.
    """

    def __init__(self, call: Call, dialect: Resumable, delivered: bytes, told: _Delivered, seams: tuple[Seam, ...]) -> None:
        answered = told.text.rstrip()  # some refuse white space at the end, and where it belongs to the next token it misleads
        self.call = dialect.go_on(call, answered, told.kept) if answered else call
        self.ending = dialect.ending if told.finish is not None else b""
        self.characters = len(told.text)
        self.seams = seams
        self._earlier = seams
        self._asked = call
        self._dialect = dialect
        self._delivered = delivered
        self._told = told

    @classmethod
    def of(cls, call: Call, delivered: bytes, seams: tuple[Seam, ...] = ()) -> "Continuation | None":
        """None: it cannot be gone on with. `call`: the client's; `delivered`: all that it was sent; `seams`: of its continuations so far."""
        dialect = RESUMABLES.get(call.dialect)
        if dialect is None or not call.stream or len(delivered) > MAX_DELIVERED:
            return None
        try:
            request = DIALECTS[call.dialect].decode_request(call.body)
            if not may_go_on(request):
                return None
            decoder = dialect.stream_decoder(1)
            events = decoder.feed(delivered)
            decoder.feed(b"")  # raises what was wrong after these events
            told, encoder = _Delivered(events, decoder.told_usage()), dialect.resumed(delivered, _answering(call, ""))
            if not told.usable or encoder is None:
                return None
            continuation = cls(call, dialect, delivered, told, seams)
            limit = limit_of(call)  # as the client said it: a default may be another server's
            if not continuation.ending and limit is not None and told.kept >= limit:
                continuation.ending = continuation._at_limit(encoder)
            return continuation
        except _NOT_READ:
            return None

    def _at_limit(self, encoder: ResumedEncoder) -> bytes:
        """The end of an answer that had all the tokens it may have."""
        last: list[ev.Event] = [ev.Finished(finish=Finish("length")), ev.Ended()]
        if self._told.input is not None:
            last.insert(1, ev.UsageReported(usage=self._over_both(Usage(), self._told.visible)))
        return b"".join(map(encoder.feed, last))

    def seam(self, target_label: str, repeats: bool = False) -> bytes:
        """Takes up the answer with that target's: gives the comment that says so in the stream. Again for the next target, if that one gave nothing.

        `repeats`: it is known to begin with the text that it is to go on from.
        """
        here = Seam(target_label, self.characters)
        self.seams = (*self._earlier, here)
        encoder = self._dialect.resumed(self._delivered, _answering(self._asked, target_label))
        if encoder is None:
            raise RuntimeError("an answer that was found to be resumable is not")
        self._rest = _Rest(self._dialect, encoder, Joint(self._told.text, repeats), self._of_rest)
        self._rest.close_with({"continued": self.seams})
        return b": turnout %b\n\n" % msgspec.json.encode({"continued": here})

    def feed(self, piece: bytes) -> bytes:
        """Bytes of the second answer, in the client's dialect, to those that the client gets. Raises AttemptError for what cannot be read."""
        return self._rest.feed(piece)

    def in_band(self, body: bytes) -> bytes:
        """As `Exchange.in_band`, of the stream as the client sees it."""
        return self._rest.encoder.in_band(body)

    @property
    def whole(self) -> bytes:
        """As `Exchange.whole`: of both parts together."""
        return self._rest.encoder.whole

    def over(self, exchange: Exchange) -> "ContinuedExchange":
        return ContinuedExchange(exchange, self)

    def _of_rest(self, usage: Usage, joint: Joint) -> Usage:
        """Usage as the client is told it, from the second answer's: what that said again of the first one's text is in it already, if at all."""
        told = self._told
        before = told.text_kept if joint.swallowed else told.visible
        return self._over_both(usage, 0 if joint.repeated and (usage.output_visible or 0) >= before else before)

    def _over_both(self, usage: Usage, before: int) -> Usage:
        """The request's input once, the output of both parts. `before`: tokens of the cut one's text, an estimate, that `usage` has not."""
        told = self._told
        changes: dict[str, Any] = {"output_visible": before + (usage.output_visible or 0), "source": "estimated"}
        if told.reasoning or usage.reasoning is not None:
            changes["reasoning"] = told.reasoning + (usage.reasoning or 0)
        if told.input is not None:
            names = ("input_uncached", "cache_read", "cache_write_5m", "cache_write_1h", "audio_input", "image_input")
            changes |= {name: getattr(told.input, name) for name in names}
        elif self.call.answered:
            changes |= _less_input(usage, told.text_kept)
        return replace(usage, **changes)


def _less_input(usage: Usage, tokens: int) -> Mapping[str, int]:
    """A prompt without the answer's beginning, which stood at its end: what a cache held of it is counted out last."""
    uncached, cached = usage.input_uncached, usage.cache_read
    changes: dict[str, int] = {}
    if uncached is not None:
        changes["input_uncached"] = max(0, uncached - tokens)
        tokens -= uncached - changes["input_uncached"]
    if cached is not None:
        changes["cache_read"] = max(0, cached - tokens)
    return changes


def _answering(call: Call, target: str) -> Answering:
    return Answering(call=call, target=target, now_s=0)  # the time is the first part's


class _Rest:
    """The second answer's events, told as the rest of the first."""

    def __init__(self, dialect: Resumable, encoder: ResumedEncoder, joint: Joint, of_rest: Callable[[Usage, Joint], Usage]) -> None:
        self.encoder = encoder
        self._note: dict[str, object] = {}
        self._decoder = dialect.stream_decoder(1)
        self._joint = joint
        self._of_rest = of_rest
        self._begun = False
        self._joined: int | None = None  # the part that goes on with the text before the seam

    def close_with(self, note: dict[str, object]) -> None:
        """What the answer's last events tell of it."""
        self._note |= note
        self.encoder.closing = {"turnout": self._note}

    def feed(self, piece: bytes) -> bytes:
        encode = self.encoder.feed
        return b"".join([encode(told) for event in self._decoder.feed(piece) for told in self._told(event)])

    def _told(self, event: ev.Event) -> Iterator[ev.Event]:
        match event:
            case ev.Started():
                return  # it has begun
            case ev.TextDelta():
                if text := self._joint.feed(event.text):
                    yield replace(event, text=text, part=self._part(event))
                return
            case ev.UsageReported():
                usage = self._of_rest(event.usage, self._joint)
                self.close_with({"usage_source": usage.source})
                yield ev.UsageReported(usage=usage)
                return
        if held := self._joint.end():
            rest = ev.TextDelta(text=held)
            yield replace(rest, part=self._part(rest))
        yield event if isinstance(event, ev.Finished | ev.Ended) else replace(event, part=self._part(event))

    def _part(self, event: ev.ContentEvent) -> int:
        """The first text is of part 0, the one before the seam; all that is of another part, or comes after something else, is new."""
        if not self._begun:
            self._begun = True
            self._joined = event.part if isinstance(event, ev.TextDelta) else None
        return 0 if event.part == self._joined else event.part + 1


class ContinuedExchange:
    """Implements `providers.port.Exchange`: the rest of a cut answer, over the exchange that brings it. Usage, finish and ids are that one's own."""

    streamed = True
    progressed = True  # its pieces are never held
    ended = False

    def __init__(self, exchange: Exchange, continuation: Continuation) -> None:
        self._exchange = exchange
        self._continuation = continuation
        self.content_type = exchange.content_type
        self.notes = exchange.notes

    async def next(self) -> bytes:
        piece = b""  # raises what was wrong after what was given last
        try:
            while not (out := self._continuation.feed(piece)):
                if not (piece := await self._exchange.next()):
                    break
        except AttemptError:
            self._exchange.abort()
            raise
        return out

    def in_band(self, body: bytes) -> bytes:
        return self._continuation.in_band(body)

    def abort(self) -> None:
        self._exchange.abort()

    @property
    def upstream_id(self) -> str | None:
        return self._exchange.upstream_id

    @property
    def usage(self) -> Usage | None:
        return self._exchange.usage

    @property
    def finish(self) -> Finish | None:
        return self._exchange.finish

    @property
    def tokens_seen(self) -> int | None:
        return self._exchange.tokens_seen

    @property
    def whole(self) -> bytes:
        return self._continuation.whole

    @property
    def bound(self) -> list[str]:
        return self._exchange.bound
