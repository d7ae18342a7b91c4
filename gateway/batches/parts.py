"""A provider's job as the database keeps it, and its rows as calls: what is submitted, and what results are read by."""

import asyncio
import os
from collections.abc import AsyncGenerator, Sequence
from typing import NamedTuple

import msgspec
import structlog

from batch.checking import body_of
from batch.jobs import Job
from batch.states import Batch, Leased
from contract.call import Call
from contract.errors import InvalidRequest, TargetCannot, TurnoutError
from gateway.batches.asking import Asking
from gateway.batches.clients import Account
from gateway.batches.upkeep import headers_of
from gateway.binding import resolve
from gateway.identity import new_request_id
from gateway.job_making import bounded
from gateway.metering.bounds import bounds_of
from gateway.planner import admitted_by
from gateway.prompt_cache import own_prompt_key
from gateway.routes import Route, Target
from gateway.runtime import Runtime
from ledger.prices import Price
from providers.batch.port import BatchRow, JobRef, JobState, Submission, row_id
from providers.wires.port import UnaryAnswer

log = structlog.get_logger("turnout.batches")


class PartState(msgspec.Struct):
    """`account`: where it is sent; None: where the configuration says. `sent`: it may have reached the provider. `state`: of the provider's job,
    `native` in its own word. `over`: its results were read, or there will be none, for the reason `why`."""

    submission: Submission
    account: Account | None = None
    sent: bool = False
    ref: JobRef | None = None
    state: JobState | None = None
    native: str = ""
    done: int | None = None
    over: bool = False
    why: str = ""


def parts_of(job: Job) -> list[PartState] | None:
    return None if job.parts is None else msgspec.json.decode(job.parts, type=list[PartState])


class Known(NamedTuple):
    """A row of a job as its results are read by. `price` None: not known. `found`: its route and target; None: they are not configured any more."""

    row: Leased
    call: Call
    route: str
    policy: str
    price: Price | None
    found: tuple[Route, Target] | None


class JobRows:
    """One job's. Whoever opens it closes it. `bound_nusd`: the most that the rows which were given out may cost live, where their team's money
    is counted; None: somebody's price is not known."""

    def __init__(self, runtime: Runtime, asking: Asking, batch: Batch, job: Job, file: str) -> None:
        self._runtime = runtime
        self._asking = asking
        self._batch = batch
        self._job = job
        self._headers = headers_of(batch)
        self._endpoint = asking.endpoints[batch.endpoint]
        self._file = os.open(file, os.O_RDONLY)
        self.refused: list[int] = []
        self.bound_nusd: int | None = 0

    def close(self) -> None:
        os.close(self._file)

    async def given(self, pages: AsyncGenerator[list[Leased], None]) -> AsyncGenerator[BatchRow, None]:
        """Its rows for the provider's file; those that may not go there are `refused`."""
        async for page in pages:
            for row in page:
                try:
                    call = await self._call(row)
                except TurnoutError:
                    self.refused.append(row.line)
                    continue
                yield BatchRow(row_id(row.line), call)

    async def _call(self, row: Leased) -> Call:
        """As a live request's would go on to this target. Raises TurnoutError where its policy or its key leaves the target out."""
        runtime, principal = self._runtime, self._asking.principal(self._batch)
        read = self._endpoint.read(new_request_id(), self._body(row), self._headers)
        route, rule, call = bounded(runtime, read, principal, self._headers)
        index = self._index(route.targets)
        if index is None or all(each.index != index for each in admitted_by(rule, route).allowed):
            raise TargetCannot("the row's policy does not allow this target")
        if not runtime.keys.one_team:
            call = own_prompt_key(call, principal.team)
        bound = await resolve(call, principal.team, route, runtime.continuity, runtime.keys.one_team)
        if bound.target is not None:
            raise TargetCannot("the row goes on from an answer of one target")
        if any(scope.budgets for scope in principal.scopes) and self.bound_nusd is not None:
            cost = bounds_of(bound.call, route, rule, True).costs[route.candidates[index].price_kind]
            self.bound_nusd = None if cost is None else self.bound_nusd + cost
        return bound.call

    def bound(self, known: Known) -> int | None:
        """The most that one row may cost live. None: its target is gone or has no price, or the row no limit that can be read."""
        if known.found is None:
            return None
        route, target = known.found
        kind = route.candidates[route.targets.index(target)].price_kind
        try:
            return bounds_of(known.call, route, route.rule, True).costs[kind]
        except InvalidRequest:
            return None

    async def known(self, rows: Sequence[Leased]) -> list[Known]:
        """Rows that were submitted, whatever became of their key and their policy since; with the history that they went on from."""
        return [await self._resolved(each) for each in await asyncio.to_thread(self._read, rows)]

    async def _resolved(self, known: Known) -> Known:
        if known.found is None or not known.call.may_hold_state:
            return known
        runtime, team = self._runtime, self._batch.team
        try:
            bound = await resolve(known.call, team, known.found[0], runtime.continuity, runtime.keys.one_team)
        except TurnoutError as error:
            log.warning("what a row of a batch job went on from is gone", batch=self._batch.id, line=known.row.line, error=error.reason)
            return known
        return known._replace(call=bound.call)

    def _read(self, rows: Sequence[Leased]) -> list[Known]:
        found = []
        for row in rows:
            call = self._endpoint.read(new_request_id(), self._body(row), self._headers)
            route = self._runtime.routes.find(call.model)
            index = None if route is None else self._index(route.targets)
            target = None if route is None or index is None else route.targets[index]
            policy, name = ("", call.model) if route is None else (route.rule.name, route.name)
            both = None if route is None or target is None else (route, target)
            found.append(Known(row, call, name, policy, None if target is None else target.price, both))
        return found

    def keep(self, known: Known, answer: UnaryAnswer) -> None:
        """What later requests may go on from, as for a live answer."""
        if known.found is not None:
            self._runtime.pipeline.keeper.note_later(self._batch.team, known.call, known.found[1], answer)

    def _body(self, row: Leased) -> bytes:
        return body_of(self._batch.dialect, os.pread(self._file, row.size, row.at))

    def _index(self, targets: Sequence[Target]) -> int | None:
        job = self._job
        return next((index for index, each in enumerate(targets) if each.backend.name == job.provider and each.model == job.model), None)
