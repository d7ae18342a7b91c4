"""A gateway that is killed while a provider runs its batch: there is one job, and each row has one result that is charged once."""

import asyncio
import json
from pathlib import Path

import httpx2
import pytest

from tests.gateway.batching import jsonl
from tests.gateway.conftest import KEY
from tests.gateway.test_batches_killed import AUTH, World
from tests.gateway.test_batches_providers import HALF_NUSD, LIVE_NUSD, config, echo, id_of, rows
from tests.gateway.upstream import Exchange, Upstream
from tests.providers.batch.openai_served import ServedOpenAI

ROWS = 400
FAILED = {1: "expired", 7: "missing", 30: "overloaded"}


class Halting(ServedOpenAI):
    """Stands still at one moment of a job's life, and says so. `upload`, `create`, `poll`, `download`: the answer to that never comes."""

    def __init__(self) -> None:
        super().__init__()
        self.halts_at = ""
        self.halted = asyncio.Event()

    async def _halt(self) -> None:
        self.halts_at = ""
        self.halted.set()
        await asyncio.Event().wait()

    async def upload(self, x: Exchange, _: str) -> None:
        if self.halts_at == "upload":
            await self._halt()
        await super().upload(x, _)

    async def create(self, x: Exchange, _: str) -> None:
        if self.halts_at == "before create":
            await self._halt()
        await super().create(x, _)

    async def json(self, x: Exchange, body: object, status: int = 200) -> None:
        made = isinstance(body, dict) and body.get("object") == "batch"
        if self.halts_at == "create" and made and x.seen.head[":method"] == "POST":
            await self._halt()
        if self.halts_at == "poll" and made and x.seen.head[":method"] == "GET":
            await self._halt()
        await super().json(x, body, status)

    async def content(self, x: Exchange, id_: str) -> None:
        if self.halts_at != "download":
            await super().content(x, id_)
            return
        body = self.files[id_][1]
        await x.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/jsonl\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body[: len(body) * 2 // 3]))
        await self._halt()


async def submit(url: str) -> str:
    async with httpx2.AsyncClient(base_url=url, headers=AUTH, timeout=60, trust_env=False) as http:
        file = await http.post("/v1/files", files={"file": ("rows.jsonl", jsonl(rows(ROWS)))}, data={"purpose": "batch"})
        new = {"input_file_id": file.json()["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        id: str = (await http.post("/v1/batches", json=new)).json()["id"]
        return id


async def test_kills_after_submission_and_among_the_results_make_no_second_job_and_no_second_charge(two: Upstream, tmp_path: Path) -> None:
    await killed_at(("create", "download"), two, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_kills_before_and_after_each_step_make_no_second_job_and_no_second_charge(two: Upstream, tmp_path: Path) -> None:
    await killed_at(("upload", "before create", "create", "poll", "download", "download"), two, tmp_path)


async def killed_at(moments: tuple[str, ...], two: Upstream, tmp_path: Path) -> None:
    two.default = echo
    away = Halting()
    await away.upstream.start()
    away.fates = {id_of(number): fate for number, fate in FAILED.items()}  # type: ignore[misc]
    world = World(tmp_path, f"sqlite:///{tmp_path}/turnout.db", two, 1)
    (tmp_path / "turnout.yaml").write_text("server: {port: 0}\n" + config(tmp_path, away, two))
    id = ""
    for moment in moments:
        away.halts_at, away.halted = moment, asyncio.Event()
        async with world.serving() as gateway:
            id = id or await submit(gateway.url)
            async with asyncio.timeout(40):
                await away.halted.wait()
            if moment == "download":
                await world.until(100)
            gateway.process.kill()
            await gateway.process.wait()
    async with world.serving() as gateway:
        stands = await world.until(ROWS + 1)
        assert (stands.status, stands.succeeded) == ("completed", ROWS)
        async with httpx2.AsyncClient(base_url=gateway.url, headers={"authorization": f"Bearer {KEY}"}, timeout=60, trust_env=False) as http:
            batch = (await http.get(f"/v1/batches/{id}")).json()
            output = (await http.get(f"/v1/files/{batch['output_file_id']}/content")).text
    ids = [json.loads(line)["custom_id"] for line in output.splitlines()]
    assert sorted(ids) == sorted(f"q{n}" for n in range(ROWS)), "each row once"
    assert len(away.jobs) == 1, "one job"
    charged = [each for each in await asyncio.to_thread(world.ledger) if each.billed == "team" and each.cost_nusd]
    assert sorted(each.cost_nusd for each in charged) == [HALF_NUSD] * (ROWS - len(FAILED)) + [LIVE_NUSD] * len(FAILED)
    assert len({each.request_id for each in charged}) == ROWS and len(two.journal) == len(FAILED)
    assert batch["turnout"]["cost_usd"] == pytest.approx(sum(each.cost_nusd for each in charged) / 1e9)
    world.engine.dispose()
    await away.upstream.stop()
