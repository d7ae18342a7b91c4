"""Whatever happens to the processes that share a Redis, and to it: what is spent, reserved and running is what a plain sum of the requests says."""

import asyncio
import tempfile
from collections.abc import Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test
from redis.asyncio import Redis

from gateway.metering.redis_meter import PREFIX, RedisMeter
from policy.quota import Budget, Granted, Limits, Refused, Scope, Used, Want
from tests.gateway.redis_server import RedisServer

SCOPES = (
    Scope("organisation", "acme", Limits(), (Budget(60_000, "month"),)),
    Scope("team", "red", Limits(concurrency=5), (Budget(30_000, "month"), Budget(40_000, "total"))),
    Scope("key", "k", Limits(concurrency=4, rpm=10**6, tpm=10**9)),
)
PROCESSES = 3


class Rows:
    """A ledger in memory: scope -> request -> nano-dollars."""

    def __init__(self) -> None:
        self.of_scope: dict[str, dict[str, int]] = {scope.id: {} for scope in SCOPES}

    def charge(self, granted: Granted, nusd: int) -> None:
        for scope in granted.scopes:
            self.of_scope[scope.id][granted.id] = nusd

    async def since(self, scope: Scope, start_s: int, but: Sequence[str] = ()) -> int:
        return sum(nusd for id, nusd in self.of_scope[scope.id].items() if id not in but)

    async def of(self, request_ids: Sequence[str]) -> dict[str, int]:
        return {id: rows[id] for rows in self.of_scope.values() for id in request_ids if id in rows}


class Machine(RuleBasedStateMachine):
    url = ""

    @initialize()
    def begin(self) -> None:
        self.runner = asyncio.Runner()
        self.redis = Redis.from_url(self.url)
        self.rows, self.number = Rows(), 0
        self.running: dict[str, tuple[int, Granted]] = {}
        self.do(self.redis.flushall())
        self.meters = [self.opened() for _ in range(PROCESSES)]

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    def opened(self) -> RedisMeter:
        async def open_() -> RedisMeter:
            meter = RedisMeter(self.url, self.rows, written_s=0.0, deadline_s=2.0)
            await meter.start()
            return meter

        return self.do(open_())

    @rule(process=st.integers(0, PROCESSES - 1), depth=st.integers(1, 3), cost=st.integers(0, 12_000))
    def asks(self, process: int, depth: int, cost: int) -> None:
        self.number += 1
        answer = self.do(self.meters[process].reserve(str(self.number), SCOPES[:depth], Want(5, cost)))
        fits = all(cost == 0 or sum(self.expected(scope)[:2]) + cost <= budget.nusd for scope in SCOPES[:depth] for budget in scope.budgets) and all(
            scope.limits.concurrency is None or self.expected(scope)[2] < scope.limits.concurrency for scope in SCOPES[:depth]
        )
        assert isinstance(answer, Granted) == fits and not (isinstance(answer, Granted) and answer.degraded)
        if not isinstance(answer, Refused):
            self.running[answer.id] = (process, answer)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), cost=st.integers(0, 12_000), answered=st.booleans(), times=st.integers(1, 2))
    def ends(self, data: st.DataObject, cost: int, answered: bool, times: int) -> None:
        process, granted = self.running.pop(data.draw(st.sampled_from(sorted(self.running))))
        self.rows.charge(granted, cost)

        async def settle() -> None:
            for _ in range(times):
                self.meters[process].settle(granted, Used(3, cost, answered))

        self.do(settle())

    @rule(process=st.integers(0, PROCESSES - 1), data=st.data())
    def dies(self, process: int, data: st.DataObject) -> None:
        """Of what it ran some rows were written; the leases end, and another process looks after them."""
        dead, self.meters[process] = self.meters[process], self.opened()
        orphans = [id for id, (of, _) in self.running.items() if of == process]
        for id in orphans:
            granted = self.running.pop(id)[1]
            if data.draw(st.booleans()):
                self.rows.charge(granted, data.draw(st.integers(0, 12_000)))

        async def die() -> None:
            assert dead._task is not None
            dead._task.cancel()
            await dead.store.close()
            for id in orphans:
                for key in ("leases", *(f"l:{scope.id}" for scope in SCOPES)):
                    await self.redis.zadd(f"{PREFIX}{key}", {id: 1}, xx=True)
            await self.meters[(process + 1) % PROCESSES]._reap()

        self.do(die())

    @rule()
    def is_flushed(self) -> None:
        async def flush() -> None:
            for meter in self.meters:
                meter._send()
            await self.redis.flushall()
            for meter in self.meters:
                await meter._look()

        self.do(flush())

    @rule()
    def forgets_its_scripts(self) -> None:
        self.do(self.redis.script_flush())

    def expected(self, scope: Scope) -> tuple[int, int, int]:
        here = [granted for _, granted in self.running.values() if scope in granted.scopes]
        return sum(self.rows.of_scope[scope.id].values()), sum(granted.want.cost_nusd for granted in here), len(here)

    @invariant()
    def exact(self) -> None:
        async def all_said() -> None:
            for meter in self.meters:
                meter._send()
                await asyncio.gather(*meter._sent)
                if meter._stale:
                    await meter._look()

        self.do(all_said())
        for scope in SCOPES:
            stands = self.do(self.meters[0].standing(scope))
            spent, reserved, running = self.expected(scope)
            assert stands.running == running
            for spending in stands.budgets:
                assert (spending.spent_nusd, spending.reserved_nusd) == (spent, reserved)

    def teardown(self) -> None:
        async def close() -> None:
            for meter in self.meters:
                await meter.stop()
            await self.redis.aclose()

        if hasattr(self, "meters"):
            self.do(close())
            self.runner.close()


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with tempfile.TemporaryDirectory(prefix="turnout-meter-") as folder:
        server = RedisServer(Path(folder)).start()
        yield server
        server.kill()


def test_counters_are_exact_through_crashes_flushes_and_whatever_is_asked(redis: RedisServer) -> None:
    Machine.url = redis.url
    run_state_machine_as_test(
        Machine, settings=settings(max_examples=10, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))
    )
