"""An owned engine as a backend: waits for a slot and for the engine, checks the prompt's length, then asks for a stream.

A stream of chat, because llama.cpp goes on computing a unary answer that nobody waits for; unary clients get the stream folded. Only what vLLM is
asked in its own completions and embeddings is asked for as the client does.
"""

import asyncio
from functools import partial
from time import monotonic
from typing import Any

import msgspec
from msgspec.structs import replace

from contract.call import Call, Drop
from contract.errors import (
    AttemptError,
    ConnectionLost,
    ContextLengthExceeded,
    EngineBusy,
    EngineRefused,
    EngineUnavailable,
    MalformedResponse,
)
from contract.finish import Finish
from contract.patience import Patience
from contract.usage import BYTES_PER_TOKEN, Usage
from providers.address import HeaderTuple
from providers.exchange import ReadyExchange
from providers.http.port import Clocks, Endpoint, HttpClient, HttpResponse, within
from providers.local.admission import Admission
from providers.local.asking import CHAT_PATH, Asked, ask, ask_count, prioritised
from providers.local.checking import check_chat, check_media, check_numbers, wants_tools
from providers.local.health import LOST, health
from providers.local.loss import ANSWERS_WITHIN_S, judged
from providers.local.manner import MANNERS
from providers.local.port import Place, Slots, Supervisor, Want
from providers.local.prefill_share import prefill_share
from providers.local.process import EngineAddress
from providers.local.refusal import TellingRefusal, read_refusal
from providers.local.seen import SeenFirst
from providers.local.status import EngineStatus
from providers.port import Exchange, Marks
from providers.reading import Reading
from providers.wires.answer import WholeAnswer
from providers.wires.anthropic_messages import ANTHROPIC_MESSAGES

COUNT_BODY_LIMIT = 16 << 20  # vLLM tells the tokens themselves too
PROPS_PATH = "/props"
PROPS_BODY_LIMIT = 1 << 20
ABSURD_BYTES_PER_TOKEN = 16  # no text has so few tokens; what is longer is refused uncounted
LEAST_S = 0.001


_counted = msgspec.json.Decoder(dict[str, Any])
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])


class _Capabilities(msgspec.Struct, frozen=True):
    supports_tools: bool = True


class _Props(msgspec.Struct):
    """What llama.cpp found the model's chat template to be able to say."""

    chat_template_caps: _Capabilities = _Capabilities()


class EngineBackend:
    """Implements `providers.port.Backend` for one supervised engine. `admission` is its queue: one of its own, unless one is given."""

    def __init__(self, supervisor: Supervisor, client: HttpClient, admission: Slots | None = None) -> None:
        spec = supervisor.spec
        self.name = spec.name
        self.admission = admission or _own_queue(supervisor)
        self._spec = spec
        self._supervisor = self.supervisor = supervisor
        self._client = client
        self._manner = MANNERS[spec.speaks]
        # None: asked when first needed; a model does not change with its engine's restarts
        self._takes_tools: bool | None = None if self._manner.asks_props else spec.tools

    async def open(self, call: Call, model: str, marks: Marks, drop: Drop, patience: Patience | None = None) -> Exchange:
        """One attempt. Raises EngineUnavailable, EngineBusy, EngineLost, ContextLengthExceeded, EngineRefused, TargetCannot, and what HTTP raises."""
        spec, supervisor = self._spec, self._supervisor
        if supervisor.state in ("failed", "stopped"):
            raise supervisor.unavailable()
        if call.dialect == "anthropic_count_tokens":
            return await self._count(call, model, marks)
        if self._manner.priorities:
            call = prioritised(call)
        check_numbers(call, self.name, spec.most_logprobs)
        asked = ask(call, self.name, model, self._manner, spec.max_answer_bytes, drop)
        check_chat(asked.chat, self.name, self._manner.choices)
        check_media(asked.chat, self.name, spec.media_domains)
        body = asked.body
        if len(body) > spec.max_prompt_tokens * ABSURD_BYTES_PER_TOKEN:
            raise self._too_long(f"{len(body)} bytes")
        wait_s = spec.max_wait_s if patience is None else min([spec.max_wait_s, *_limits(patience)])
        want = asked.want(call.flow, len(body) // BYTES_PER_TOKEN, patience is not None and patience.spills, spec.seated)
        if want.is_batch and not call.stream:
            return await self._as_room_allows(asked, want, marks, patience, wait_s)
        return await self._placed(asked, want, marks, patience, wait_s)

    async def _as_room_allows(self, asked: Asked, want: Want, marks: Marks, patience: Patience | None, wait_s: float) -> Exchange:
        """The whole answer of batch work. Nobody has seen any of it before, so whoever is interactive may have its place, and it begins anew when
        there is room again. Raises EngineBusy when that comes too late."""
        until = monotonic() + wait_s
        while True:
            scope = asyncio.timeout(None)
            try:
                async with scope:
                    exchange = await self._placed(asked, want._replace(leave=partial(_expire, scope)), marks, patience, wait_s)
                    try:
                        exchange.answer = await exchange.next()
                    except BaseException:
                        exchange.abort()
                        raise
                return exchange
            except TimeoutError:
                if not scope.expired():
                    raise
                marks.first_token = marks.ended = None
                wait_s = until - monotonic()
                if wait_s <= 0:
                    raise EngineBusy(f"live traffic took its place in the engine {self.name!r}", retry_after_s=self.admission.wait_s) from None

    async def _placed(self, asked: Asked, want: Want, marks: Marks, patience: Patience | None, wait_s: float) -> "_EngineExchange":
        spec, began = self._spec, monotonic()
        place = _Place(await self.admission.acquire(want, wait_s), marks)
        try:
            while True:
                address = await self._supervisor.wait_ready(began + wait_s - monotonic())
                marks.admitted = monotonic()
                clocks = spec.clocks if asked.streams else replace(spec.clocks, first_token_s=spec.clocks.total_s, idle_s=spec.clocks.total_s)
                if patience is not None:
                    clocks = within(clocks, _rest(patience, marks.admitted - began), asked.streams)
                marks.bytes_sent = len(asked.body)
                try:
                    return _EngineExchange(await self._begin(asked, address, place, marks, clocks), self, address, place, marks)
                except AttemptError as error:
                    meant = await self.judge(error, address)
                    if not isinstance(meant, EngineUnavailable):
                        raise meant from error
        except BaseException:
            place.leave()
            raise

    async def _begin(self, asked: Asked, address: EngineAddress, place: "_Place", marks: Marks, clocks: Clocks) -> Exchange:
        body = asked.body
        if wants_tools(asked.chat):
            await self._check_tools(address)
        await self._check_length(body, address)
        response = await self._send(asked.path, asked.in_seat(place.seat), address, clocks, marks.trace)
        marks.connected, marks.headers = response.connected_at, response.headers_at
        if response.status != 200:
            raise await self._refusal(response, asked, address)
        if self._manner.refuses_in_stream and asked.streams:
            response = TellingRefusal(response, self.name)
        return asked.exchange(SeenFirst(response, place.read) if asked.folds else response, marks)

    async def _send(self, path: str, body: bytes, address: EngineAddress, clocks: Clocks | None = None, trace: HeaderTuple = ()) -> HttpResponse:
        headers = ((b"content-type", b"application/json"), (b"authorization", address.authorization), *trace)
        return await self._client.send(Endpoint(address.origin, path, headers), body, clocks or self._spec.clocks)

    async def _check_tools(self, address: EngineAddress) -> None:
        """Raises EngineRefused for a model that would answer as if it had been given no tools."""
        if self._takes_tools is None:
            endpoint = Endpoint(address.origin, PROPS_PATH, ((b"authorization", address.authorization),), method="GET")
            response = await self._client.send(endpoint, b"", self._spec.clocks)
            try:
                props = msgspec.json.decode(await response.read(PROPS_BODY_LIMIT), type=_Props)
            except asyncio.CancelledError:
                response.abort()
                raise
            except msgspec.DecodeError as error:
                raise MalformedResponse(f"the engine {self.name!r} did not say what its model can do") from error
            self._takes_tools = props.chat_template_caps.supports_tools
        if not self._takes_tools:
            raise EngineRefused(f"the model of the engine {self.name!r} cannot call tools", param="tools")

    async def _count(self, call: Call, model: str, marks: Marks) -> Exchange:
        """A prompt's tokens, by the engine's own count. It takes no slot: nothing is computed for it."""
        body, notes = ask_count(call, model, self._manner.facts)
        check_media(replace(call, fields=_members.decode(body)), self.name, self._spec.media_domains)
        address = await self._supervisor.wait_ready(self._spec.max_wait_s)
        marks.admitted, marks.bytes_sent = monotonic(), len(body)
        tokens = await self._tokens(body, address)
        return ReadyExchange(WholeAnswer(ANTHROPIC_MESSAGES.encode_count(tokens)), marks, notes)

    async def _check_length(self, body: bytes, address: EngineAddress) -> None:
        """Raises ContextLengthExceeded. A token is at least a byte of text, so a short body needs no count; else the engine counts."""
        limit = self._spec.max_prompt_tokens
        if self._manner.counts_first and len(body) > limit and (tokens := await self._tokens(body, address)) > limit:
            raise self._too_long(f"{tokens} tokens")

    async def _tokens(self, body: bytes, address: EngineAddress) -> int:
        response = await self._send(self._manner.count_path, body, address)
        if response.status != 200:
            raise await self._request_error(response)
        try:
            return int(_counted.decode(await response.read(COUNT_BODY_LIMIT))[self._manner.counted])
        except asyncio.CancelledError:
            response.abort()
            raise
        except (msgspec.DecodeError, KeyError, ValueError) as error:
            raise MalformedResponse(f"the engine {self.name!r} did not count the prompt's tokens") from error

    def _too_long(self, length: str) -> ContextLengthExceeded:
        limit = self._spec.max_prompt_tokens
        return ContextLengthExceeded(f"the prompt is {length} long; the engine {self.name!r} takes {limit} tokens at most", param="messages")

    async def _refusal(self, response: HttpResponse, asked: Asked, address: EngineAddress) -> AttemptError:
        """Both say 500 also of requests that they cannot parse or cannot load the image of: then counting their tokens fails as well."""
        error = await read_refusal(response, self.name, asked.path)
        if response.status < 500 or asked.path != CHAT_PATH:
            return error
        try:
            counted = await self._send(self._manner.count_path, asked.body, address)
        except ConnectionLost:  # vLLM closes the connection after an error that it did not expect
            counted = await self._send(self._manner.count_path, asked.body, address)
        if counted.status == 200:
            counted.release()
            return error
        fault = await self._request_error(counted)
        lost = isinstance(fault, EngineRefused) and await health(self._client, address, ANSWERS_WITHIN_S) in LOST
        return error if lost else fault  # one whose core is dead cannot count either

    async def _request_error(self, response: HttpResponse) -> AttemptError:
        """What a failed count means: nothing is computed for it, so the request itself is at fault."""
        error = await read_refusal(response, self.name, self._manner.count_path)
        if response.status < 500:
            return error
        why = "its messages or their content are not of a kind it knows, or cannot be read"
        return EngineRefused(f"the engine {self.name!r} cannot take this request: {why}")

    async def judge(self, error: AttemptError, address: EngineAddress) -> AttemptError:
        return await judged(error, self._supervisor, address, self._client)

    def ready_at(self, model: str, now: float) -> float:
        """Not before an engine that starts is up, where who came now would have given up by then; nor before a full queue has a place."""
        down_s = self._supervisor.retry_after_s
        if self._supervisor.state in ("failed", "stopped"):
            return now + down_s
        too_long_s = max(0.0, down_s - self._spec.max_wait_s)
        return now + max(too_long_s, self.admission.place_in_s)

    @property
    def asleep(self) -> bool:
        return self._supervisor.state == "sleeping"

    def wait_s(self) -> float:
        return self._supervisor.retry_after_s + self.admission.wait_s

    def load(self) -> int:
        return self.admission.requests

    def reading(self) -> Reading | None:
        return self._supervisor.reading

    def failed(self, model: str, marks: Marks, error: AttemptError) -> None:
        """The supervisor and the queue know by themselves."""

    async def aclose(self) -> None:
        """Sends those in the queue away; requests that run end with the engine."""
        self.admission.fail_waiting(lambda: EngineUnavailable(f"the engine {self.name!r} is stopping"))


def _own_queue(supervisor: Supervisor) -> Admission:
    admission = Admission.of(supervisor.spec)
    if isinstance(supervisor, EngineStatus):
        admission.stands_before(supervisor)
    return admission


def _expire(scope: asyncio.Timeout) -> None:
    scope.reschedule(asyncio.get_running_loop().time())


def _limits(patience: Patience) -> list[float]:
    """How long the caller may be kept waiting for the first output, the queue included."""
    return [limit for limit in (patience.left_s, patience.total_s, patience.first_output_s, patience.queue_s) if limit is not None]


def _rest(patience: Patience, waited_s: float) -> Patience:
    """What is left of it after the queue. The engine's stalls are its own affair: what stalls is taken for hung and started again."""

    def left(limit: float | None) -> float | None:
        return None if limit is None else max(LEAST_S, limit - waited_s)

    return replace(
        patience,
        left_s=left(patience.left_s),
        total_s=left(patience.total_s),
        first_output_s=left(patience.first_output_s),
        stall_s=None,
        idle_s=None,
    )


class _Place:
    """The place held by one attempt, given back once; what it took of the engine's time stands in the attempt's marks."""

    __slots__ = ("_held", "_marks")

    def __init__(self, held: Place, marks: Marks) -> None:
        self._held: Place | None = held
        self._marks = marks

    @property
    def seat(self) -> int | None:
        return None if self._held is None else self._held.seat

    def read(self) -> None:
        """Its first token came."""
        if self._held is not None:
            self._held.read()

    def leave(self, prefill_share: float | None = None) -> None:
        """`prefill_share`: of its time, where it came in one piece; None: until its first token."""
        held, self._held = self._held, None
        if held is not None:
            held.release()
            prefill_s, decode_s = held.prefill_s, held.decode_s
            if prefill_share is not None:
                prefill_s, decode_s = (prefill_s + decode_s) * prefill_share, (prefill_s + decode_s) * (1 - prefill_share)
            marks = self._marks  # of a place that it had to leave before, too
            marks.prefill_s = (marks.prefill_s or 0.0) + prefill_s
            marks.decode_s = (marks.decode_s or 0.0) + decode_s


class _EngineExchange:
    """An exchange that gives its slots back when it ends, however it ends, and names the engine's death when it meets it."""

    def __init__(self, inner: Exchange, backend: EngineBackend, address: EngineAddress, place: _Place, marks: Marks) -> None:
        self._inner = inner
        self.streamed, self.content_type, self.notes = inner.streamed, inner.content_type, inner.notes
        self._marks = marks
        self._backend = backend
        self._address = address
        self._place = place
        self.answer = b""  # the whole, where it was waited for already
        self.progressed, self.ended = True, False

    async def next(self) -> bytes:
        if answer := self.answer:
            self.answer = b""
            return answer
        try:
            piece = await self._inner.next()
        except AttemptError as error:
            self._inner.abort()
            try:
                meant = await self._backend.judge(error, self._address)
            finally:
                self._place.leave()  # not before: who waits for this place must find the engine's death known
            raise meant from error
        self.progressed = self._inner.progressed
        self._place.read()
        if not piece or self._marks.ended is not None:  # a folded answer is whole with its one piece
            self._place.leave(None if self.streamed else prefill_share(self._marks, self._inner.usage, self._backend.reading()))
        return piece

    def abort(self) -> None:
        self._inner.abort()
        self._place.leave()

    @property
    def upstream_id(self) -> str | None:
        return self._inner.upstream_id

    @property
    def usage(self) -> Usage | None:
        return self._inner.usage

    @property
    def finish(self) -> Finish | None:
        return self._inner.finish

    @property
    def tokens_seen(self) -> int | None:
        return self._inner.tokens_seen

    @property
    def whole(self) -> bytes:
        return self._inner.whole

    @property
    def bound(self) -> list[str]:
        return self._inner.bound

    def in_band(self, body: bytes) -> bytes:
        return self._inner.in_band(body)
