"""Whatever becomes of the gateway, its database or its disk: every request that reached the upstream has exactly one row."""

import asyncio
import contextlib
import os
import random
import resource
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from ledger.note import note_of
from ledger.store import Ledger
from tests.gateway.test_command import COMMAND, clean_env
from tests.gateway.upstream import Exchange, Upstream, good
from tests.gateway.workers import Serving, eventually
from tests.ledger.rows import row, sql, url_of
from tests.postgres_server import PostgresServer
from tests.postgres_server import rows as server_rows

CONFIG = """
server: {{port: 0}}
state: {{database: "{url}"}}
ledger: {{spool: "{folder}/turnout.spool"}}
providers: {{one: {{kind: openai-compatible, base_url: "{one}", api_key: k}}}}
policies: {{once: {{retry: {{max_attempts: 1}}}}}}
models: {{"one/*": {{policy: once, targets: [{{provider: one, model: "*"}}]}}}}
teams: {{search: {{keys: [sk-search]}}}}
"""
ROWS = "SELECT model_sent, status, usage_source, error_code FROM attempts WHERE attempt > 0"
AWAY_S = int(os.environ.get("TURNOUT_SOAK_AWAY_S", "300"))


class InFile:
    """The ledger in a file of SQLite."""

    starts_without = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = url_of(folder / "turnout.db")

    def rows(self) -> list[tuple[Any, ...]]:
        return sql(self.folder / "turnout.db", ROWS)

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Nobody else can write meanwhile."""
        lock = sqlite3.connect(self.folder / "turnout.db", isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        yield
        lock.execute("ROLLBACK")
        lock.close()


class InServer:
    """The ledger in a PostgreSQL of its own, which is killed and started anew."""

    starts_without = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = PostgresServer().start()
        self.url = self.server.database()

    def rows(self) -> list[tuple[Any, ...]]:
        return server_rows(self.url, ROWS)

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        self.server.kill()
        yield
        self.server.start()


Place = InFile | InServer


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "sqlite":
        yield InFile(tmp_path)
        return
    made = InServer(tmp_path)
    yield made
    made.server.end()


@contextlib.asynccontextmanager
async def serving(place: Place, upstream: Upstream) -> AsyncIterator[Serving]:
    folder = place.folder
    (folder / "turnout.yaml").write_text(CONFIG.format(url=place.url, folder=folder, one=upstream.base_url))
    process = await asyncio.create_subprocess_exec(
        COMMAND,
        "serve",
        "--config",
        "turnout.yaml",
        cwd=folder,
        env=clean_env(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    found = Serving(process, folder)
    try:
        await eventually(lambda: found.url)
        yield found
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


HI = [{"role": "user", "content": "Hi"}]


class Load:
    """Clients that ask one after the other, each question for a model of its own, by which its row is known."""

    def __init__(self, url: str, name: str, clients: int = 8) -> None:
        self.statuses: Counter[int] = Counter()
        self._url, self._name, self._asked = url, name, 0
        self._tasks = [asyncio.create_task(self._ask()) for _ in range(clients)]

    async def _ask(self) -> None:
        async with httpx2.AsyncClient(base_url=self._url, headers={"authorization": "Bearer sk-search"}, trust_env=False, timeout=60) as http:
            while True:
                self._asked += 1
                body = {"model": f"one/{self._name}-{self._asked}", "stream": self._asked % 2 == 0, "messages": HI}
                with contextlib.suppress(httpx2.HTTPError):
                    answer = await http.post("/v1/chat/completions", json=body)
                    self.statuses[answer.status_code] += 1
                await asyncio.sleep(0.005)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def slowly(x: Exchange) -> None:
    await asyncio.sleep(0.02)
    await good(x)


def reached(upstream: Upstream) -> Counter[str]:
    return Counter(seen.body["model"] for seen in upstream.journal)


def rows(place: Place) -> dict[str, list[tuple[Any, ...]]]:
    found: dict[str, list[tuple[Any, ...]]] = {}
    for model, *rest in place.rows():
        found.setdefault(model, []).append(tuple(rest))
    return found


def judge(place: Place, upstream: Upstream) -> tuple[int, int]:
    """How many rows are final, and how many are estimates for a gateway that was killed. None is missing, none is there twice."""
    seen, found = reached(upstream), rows(place)
    assert max(seen.values()) == 1
    assert not seen.keys() - found.keys(), "missing"
    assert all(len(each) == 1 for each in found.values()), "twice"
    lost = [each for (each,) in found.values() if each[2] == "gateway_lost"]
    assert all(source == "estimated" for _, source, _ in lost)
    return len(found) - len(lost), len(lost)


async def kill_under_load(place: Place, upstream: Upstream, name: str, after_s: float, disk_full: bool = False) -> None:
    async with serving(place, upstream) as gateway:
        before = len(upstream.journal)
        load = Load(gateway.url, name)
        await eventually(lambda: len(upstream.journal) > before)
        await asyncio.sleep(after_s)
        if disk_full:
            resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
            await eventually(lambda: load.statuses[503] > 20)
        os.kill(gateway.process.pid, signal.SIGKILL)
        await gateway.process.wait()
        await load.stop()


async def killed(place: Place, upstream: Upstream, rounds: int, rng: random.Random, name: str = "") -> tuple[int, int]:
    for number in range(rounds):
        await kill_under_load(place, upstream, f"{name}{number}", rng.uniform(0.0, 0.4))
    Ledger(place.url, spool=place.folder / "turnout.spool").close()  # takes over what the last one left
    assert not list((place.folder / "turnout.spool").iterdir())
    return judge(place, upstream)


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    made = await Upstream().start()
    made.default = slowly
    yield made
    await made.stop()


async def test_a_gateway_that_is_killed_loses_no_request_that_reached_the_upstream(place: Place, upstream: Upstream) -> None:
    final, lost = await killed(place, upstream, 3, random.Random(7))
    assert final > 0 and lost > 0


async def without_a_database(place: Place, upstream: Upstream, rng: random.Random) -> tuple[int, int]:
    """How many gateways were killed meanwhile, and how many rows wait for it then."""
    known, until, kills = len(rows(place)), time.monotonic() + AWAY_S, 0
    if not place.starts_without:
        async with serving(place, upstream) as gateway:
            with place.away():
                load = Load(gateway.url, "away")
                await asyncio.sleep(AWAY_S)
                gateway.process.kill()
                await gateway.process.wait()
                await load.stop()
                return 1, len(upstream.journal) - known
    with place.away():
        while time.monotonic() < until:
            await kill_under_load(place, upstream, f"away-{kills}", rng.uniform(0.0, 0.4) if kills else AWAY_S / 2, disk_full=kills == 2)
            kills += 1
        return kills, len(upstream.journal) - known


@pytest.mark.slow
@pytest.mark.timeout(3_600)
async def test_two_hundred_kills_five_minutes_without_a_database_and_a_full_disk_lose_nothing(place: Place, upstream: Upstream) -> None:
    """Fifty kills; then nobody can write the database: a gateway puts rows aside until it is killed, as others are after it where they start
    without it; then the database is back, and the rest follow. One has a full disk."""
    seed = random.randrange(1 << 30)
    rng = random.Random(seed)
    final, lost = await killed(place, upstream, 50, rng, "before-")
    print(f"seed {seed}: {len(upstream.journal)} requests in 50 kills; {final} final rows, {lost} estimates", flush=True)
    kills, waiting = await without_a_database(place, upstream, rng)
    async with serving(place, upstream):
        began = time.monotonic()
        await eventually(lambda: not list((place.folder / "turnout.spool").glob("*.rows")) and not reached(upstream).keys() - rows(place).keys())
        print(f"{kills} kills in {AWAY_S} s without the database: {waiting} rows waited, written {time.monotonic() - began:.1f} s after the start")
    if not place.starts_without:
        await kill_under_load(place, upstream, "full", 0.2, disk_full=True)
    final, lost = await killed(place, upstream, max(50, 150 - kills), rng, "after-")
    print(f"{len(upstream.journal)} requests reached the upstream; {final} final rows, {lost} estimates, 0 missing, 0 twice")


async def test_a_database_that_is_away_and_a_kill_meanwhile_lose_nothing(place: Place, upstream: Upstream) -> None:
    spool = place.folder / "turnout.spool"
    async with serving(place, upstream) as gateway:
        with place.away():
            load = Load(gateway.url, "away")
            await eventually(lambda: list(spool.glob("*.rows")))
            await asyncio.sleep(0.2)
            os.kill(gateway.process.pid, signal.SIGKILL)
            await gateway.process.wait()
            await load.stop()
            assert load.statuses[200] > 0 and set(load.statuses) <= {200}
    async with serving(place, upstream):
        await eventually(lambda: len(rows(place)) >= len(upstream.journal))
    judge(place, upstream)
    assert not list(spool.iterdir())


async def test_a_disk_that_is_full_lets_nothing_be_sent_that_could_not_be_noted(tmp_path: Path, upstream: Upstream) -> None:
    async with serving(InFile(tmp_path), upstream) as gateway:
        load = Load(gateway.url, "full")
        await eventually(lambda: load.statuses[200] > 20)
        resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))  # no file takes another byte
        await eventually(lambda: load.statuses[503] > 20)
        resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        before = load.statuses[200]
        await eventually(lambda: load.statuses[200] > before + 20)
        await load.stop()
        assert set(load.statuses) == {200, 503}
    _, lost = judge(InFile(tmp_path), upstream)
    assert lost == 0


async def test_what_was_begun_is_over_once_its_row_is_written(tmp_path: Path) -> None:
    ledger = Ledger(url_of(tmp_path / "turnout.db"))
    for number in range(3):
        ledger.begin(note_of(row(f"req_{number}", status="failed")))
    ledger.append(row("req_0"))
    ledger.forget("req_1", 1)
    assert ledger.flush() and await eventually(lambda: ledger.begun == 1)
    ledger.close()
    assert sql(tmp_path / "turnout.db", "SELECT request_id, status FROM attempts") == [("req_0", "ok")]
    Ledger(url_of(tmp_path / "turnout.db")).close()
    assert sql(tmp_path / "turnout.db", "SELECT request_id, status FROM attempts ORDER BY 1") == [("req_0", "ok"), ("req_2", "failed")]
