"""Rows to a provider's file, and its lines back to answers: by the same routes that live requests take. What all families share."""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, TypeVar

import msgspec
import structlog

from contract.call import Call, Dialect, Drop
from contract.errors import AttemptError, MalformedResponse, RequestError, TargetCannot, TurnoutError
from providers.address import HeaderTuple
from providers.batch.port import KEY, ROW_ID, Asked, BatchRow, Limits, Part, Refused, RowResult, RowState
from providers.routes import Prepared, Route

FLUSH = 1 << 20  # bytes of rows that are held before they are written
PAUSE = 100  # rows that are translated before others have their turn, and results whose calls are asked for at once
HELD = 8 << 20  # bytes of results that are held while their calls are asked for
_DEPLOYMENT = re.compile(r"/deployments/[^/]+")

T = TypeVar("T")

log = structlog.get_logger("turnout.batch")


def endpoint_of(path: str) -> str:
    """What OpenAI and its like call the endpoint at a route's path: without the deployment, the version and the query that Azure has there."""
    return "/v1" + _DEPLOYMENT.sub("", path.partition("?")[0], count=1).removeprefix("/v1")


class Form(msgspec.Struct, frozen=True):
    """A family's file: what stands before, between and after its rows, and how one row is written.

    `line`: the part's key, a row's id, its endpoint and its body to one line of JSON. `endpoint`: a route's path to what `Limits.endpoints` holds.
    `headers`: those of a client that go on with its rows' job.
    """

    line: Callable[[str, str, str, bytes], bytes]
    endpoint: Callable[[str], str] = endpoint_of
    headers: frozenset[bytes] = frozenset()
    before: bytes = b""
    between: bytes = b"\n"
    after: bytes = b"\n"


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What one line says of its row. `status`: HTTP's, of an answer or of an error; `body`: in the provider's own format."""

    id: str
    state: RowState
    status: int = 200
    body: bytes = b""


class Rows:
    """One provider's rows: `routes` as for its live requests, `drop` what may be left out of a request that it cannot honour."""

    def __init__(self, routes: Mapping[Dialect, Route], drop: Drop, limits: Limits, form: Form) -> None:
        self._routes = routes
        self._drop = drop
        self._limits = limits
        self._form = form

    def prepare(self, call: Call, model: str) -> Prepared:
        """Raises InvalidRequest, TargetCannot."""
        route = self._routes.get(call.dialect)
        if route is None or call.dialect == "passthrough":
            raise TargetCannot(f"the provider has no batches of {call.path or call.dialect}")
        prepared = route.prepare(_unstreamed(call) if call.stream else call, model, self._drop)
        if prepared.ready is not None or self._form.endpoint(prepared.path) not in self._limits.endpoints:
            raise TargetCannot(f"the provider has no batches of {call.path or call.dialect}")
        return prepared

    async def parts(self, rows: AsyncIterator[BatchRow], model: str, folder: Path, key: str, refused: Refused) -> AsyncGenerator[Part, None]:
        """See `providers.batch.port.BatchClient.parts`. A part holds rows of one endpoint, whose clients sent the same headers."""
        if KEY.fullmatch(key) is None:
            raise ValueError(f"{key!r} cannot be a batch's key")
        writing: dict[_Alike, _Writing] = {}
        begun = count = 0
        try:
            async for row in rows:
                count += 1
                if count % PAUSE == 0:
                    await asyncio.sleep(0)
                try:
                    body, alike = self._asked(row, model)
                except (RequestError, AttemptError) as error:
                    refused(row.id, error)
                    continue
                if alike not in writing:
                    writing[alike] = self._begun(folder, f"{key}-{begun}", model, alike)
                    begun += 1
                if writing[alike].never_fits(row.id, body):
                    refused(row.id, TargetCannot(f"the request is larger than the {self._limits.size} bytes that a batch may have at the provider"))
                    continue
                inputs = _inputs(row.call)
                if not writing[alike].fits(row.id, body, inputs):
                    yield await writing.pop(alike).close()
                    writing[alike] = self._begun(folder, f"{key}-{begun}", model, alike)
                    begun += 1
                await writing[alike].add(row.id, body, inputs)
            for alike in [alike for alike, file in writing.items() if file.rows]:
                yield await writing.pop(alike).close()
        finally:
            for file in writing.values():
                file.discard()

    def _begun(self, folder: Path, key: str, model: str, alike: "_Alike") -> "_Writing":
        file = NamedTemporaryFile(dir=folder, prefix="batch-", suffix=".part", delete=False)  # noqa: SIM115
        return _Writing(file, _Target(key, model, alike, self._limits, self._form))

    def _asked(self, row: BatchRow, model: str) -> tuple[bytes, "_Alike"]:
        """The row's body in the provider's format, and what it must have in common with the others of its part."""
        if ROW_ID.fullmatch(row.id) is None:
            raise ValueError(f"{row.id!r} cannot be a row's id")
        prepared = self.prepare(row.call, model)
        headers = tuple(pair for pair in row.call.headers if pair[0] in self._form.headers)
        return _one_line(prepared.body), _Alike(self._form.endpoint(prepared.path), headers)

    async def results(
        self, lines: AsyncGenerator[bytes, None], told: Callable[[bytes], Told], model: str, asked: Asked
    ) -> AsyncGenerator[RowResult, None]:
        """The lines as results. One that cannot be read, or whose row nobody asked for, is logged and left out: its row has no result.

        Of a row that is told of twice the first holds. `told` raises MalformedResponse.
        """
        given: set[str] = set()
        async with aclosing(_groups(lines, told)) as groups:
            async for group in groups:
                group = [each for each in group if each.id not in given]
                calls = await asked([each.id for each in group])
                for each in group:
                    call = calls.get(each.id)
                    if call is None:
                        log.warning("batch_result_of_no_row", row=each.id)
                    if call is None or each.id in given:
                        continue
                    given.add(each.id)
                    yield self._result(each, call, model)

    def _result(self, told: Told, call: Call, model: str) -> RowResult:
        if told.state in ("expired", "cancelled"):
            return RowResult(id=told.id, state=told.state)
        try:
            prepared = self.prepare(call, model)
        except (RequestError, AttemptError) as error:
            return RowResult(id=told.id, state="errored", error=_attempt(error))
        if told.state == "errored":
            return RowResult(id=told.id, state="errored", error=prepared.error(told.status, {}, told.body))
        try:
            answer = None if prepared.read is None else prepared.read(told.body)
        except AttemptError as error:
            return RowResult(id=told.id, state="errored", error=error)
        return RowResult(id=told.id, state="succeeded", answer=answer, notes=prepared.notes)


class _Alike(msgspec.Struct, frozen=True):
    """What all rows of a part have in common."""

    endpoint: str
    headers: HeaderTuple


class _Target(msgspec.Struct, frozen=True):
    """What a part is of."""

    key: str
    model: str
    alike: _Alike
    limits: Limits
    form: Form


class _Writing:
    """A part that is being written."""

    def __init__(self, file: IO[bytes], target: _Target) -> None:
        before = target.form.before
        self._file = file
        self._target = target
        self._held = [before]
        self._held_size = self._size = len(before)
        self._hash = sha256()
        self.rows = 0
        self._inputs = 0
        self._next: tuple[str, bytes] = ("", b"")  # the row that was looked at last, and its line

    def _line(self, id_: str, body: bytes) -> bytes:
        if self._next[0] != id_:
            self._next = (id_, self._target.form.line(self._target.key, id_, self._target.alike.endpoint, body))
        return self._next[1]

    def never_fits(self, id_: str, body: bytes) -> bool:
        """Whether it is too large for any part."""
        form = self._target.form
        return len(form.before) + len(self._line(id_, body)) + len(form.after) > self._target.limits.size

    def fits(self, id_: str, body: bytes, inputs: int) -> bool:
        form, limits = self._target.form, self._target.limits
        size = self._size + len(self._line(id_, body)) + len(form.after) + (len(form.between) if self.rows else 0)
        few = limits.inputs is None or not self.rows or self._inputs + inputs <= limits.inputs
        return few and self.rows < limits.rows and size <= limits.size

    async def add(self, id_: str, body: bytes, inputs: int) -> None:
        if self.rows:
            self._hold(self._target.form.between)
        self._hold(self._line(id_, body))
        self.rows += 1
        self._inputs += inputs
        if self._held_size >= FLUSH:
            await asyncio.to_thread(self._flush)

    def _hold(self, piece: bytes) -> None:
        self._held.append(piece)
        self._held_size += len(piece)
        self._size += len(piece)

    def _flush(self) -> None:
        piece = b"".join(self._held)
        self._held, self._held_size = [], 0
        self._hash.update(piece)
        self._file.write(piece)

    async def close(self) -> Part:
        self._hold(self._target.form.after)
        await asyncio.to_thread(self._finish)
        target = self._target
        return Part(
            key=target.key,
            file=Path(self._file.name),
            rows=self.rows,
            size=self._size,
            sha256=self._hash.hexdigest(),
            model=target.model,
            endpoint=target.alike.endpoint,
            headers=target.alike.headers,
        )

    def _finish(self) -> None:
        self._flush()
        self._file.close()

    def discard(self) -> None:
        """The caller goes no further: what was written is of no use."""
        self._file.close()
        Path(self._file.name).unlink(missing_ok=True)


async def _groups(lines: AsyncGenerator[bytes, None], told: Callable[[bytes], Told]) -> AsyncGenerator[list[Told], None]:
    group: list[Told] = []
    held = 0
    async with aclosing(lines):
        async for line in lines:
            try:
                group.append(told(line))
            except MalformedResponse as error:
                log.warning("batch_result_unreadable", error=error.message)
                continue
            held += len(line)
            if len(group) >= PAUSE or held >= HELD:
                yield group
                group, held = [], 0
    if group:
        yield group


def _inputs(call: Call) -> int:
    """How many texts are to be embedded."""
    if call.dialect != "openai_embeddings":
        return 0
    if bytes(call.fields["input"])[:1] != b"[":
        return 1
    given = msgspec.json.decode(call.fields["input"], type=list[msgspec.Raw])
    return 1 if given and bytes(given[0])[:1].isdigit() else len(given)  # numbers are the tokens of one


def _one_line(body: bytes) -> bytes:
    """JSON without line breaks: a client's own may hold them."""
    return msgspec.json.format(body, indent=-1) if b"\n" in body or b"\r" in body else body


def _unstreamed(call: Call) -> Call:
    """A streamed call without what only streams have."""
    fields = {name: raw for name, raw in call.fields.items() if name not in ("stream", "stream_options")}
    return msgspec.structs.replace(call, stream=False, include_usage=False, fields=fields, body=msgspec.json.encode(fields))


def _attempt(error: TurnoutError) -> AttemptError:
    if isinstance(error, AttemptError):
        return error
    return MalformedResponse("the row's request cannot be read any more")


def read_line(line: bytes, type_: type[T]) -> T:
    """One line of results. Raises MalformedResponse."""
    try:
        return msgspec.json.decode(line, type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise MalformedResponse("a line of the provider's results is not what it should be") from exc
