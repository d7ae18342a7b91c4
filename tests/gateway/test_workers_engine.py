"""The engines of a host belong to the parent of its workers, which share their slots; and what is left when that parent dies."""

import asyncio
from pathlib import Path

import pytest

from tests.gateway.workers import ENGINE, KEY, Client, children, eventually, is_gone, kill, question, serving

pytestmark = pytest.mark.timeout(90)

MODELS = f"models: {{local: {{targets: [{{engine: cpu}}]}}}}\nteams: {{search: {{keys: [{KEY}]}}}}\n"


def config(slots: int) -> str:
    return ENGINE.format(slots=slots) + MODELS


async def asked(client: Client, tokens: int = 24) -> str:
    answer = await client.chat("local", max_tokens=tokens, ignore_eos=True)
    assert answer.status_code == 200, answer.text
    return answer.headers["x-request-id"]


async def test_one_engine_serves_both_workers_and_its_slots_are_theirs_together(tmp_path: Path) -> None:
    async with serving(config(slots=2), tmp_path) as gateway:
        clients = [client for each in (await gateway.both(each=4)).values() for client in each]
        await asyncio.gather(*map(asked, clients))
        assert len(gateway.engines()) == 1
    times = [(row.started_at_us + row.queue_us, row.started_at_us + row.end_us) for row in gateway.rows()]
    assert len(times) == len(clients)
    changes = sorted([(began, 1) for began, _ in times] + [(ended, -1) for _, ended in times])
    running = [sum(change for _, change in changes[: number + 1]) for number in range(len(changes))]
    assert max(running) == 2, "never more than there are slots, and never a slot idle for a worker's sake"


async def test_an_engine_that_is_killed_is_lost_and_found_by_both_workers(tmp_path: Path) -> None:
    async with serving(config(slots=4), tmp_path) as gateway:
        clients = [each[0] for each in (await gateway.both()).values()]
        await asyncio.gather(*map(asked, clients))
        streams = [asyncio.create_task(client.chat("local", stream=True, max_tokens=400, ignore_eos=True)) for client in clients]
        engine = gateway.engines()[0]
        others = [each[0] for each in (await gateway.both()).values()]
        kill(engine)
        seen = [await told_until(client, "restarting") for client in others]
        assert seen == ["restarting", "restarting"]
        for stream in streams:
            assert "local_engine_lost" in (await stream).text
        assert [await told_until(client, "ready") for client in others] == ["ready", "ready"]
        await asyncio.gather(*map(asked, others))
        assert len(gateway.engines()) == 1 and gateway.engines() != [engine]


async def told_until(client: Client, state: str) -> str:
    """Waits until the client's worker tells that state of the engine."""
    async with asyncio.timeout(40):
        while (told := (await client.ready())["engines"]["cpu"]["state"]) != state:
            await asyncio.sleep(0.01)
    return str(told)


async def test_an_engine_that_sleeps_is_woken_by_whichever_worker_is_asked(tmp_path: Path) -> None:
    text = config(slots=2).replace("slots: 2", "slots: 2, sleep_when_idle: 0.3")
    async with serving(text, tmp_path) as gateway:
        for client in [each[0] for each in (await gateway.both()).values()]:
            await told_until(client, "sleeping")
            await eventually(lambda: not gateway.engines())
            await asked(client, tokens=2)
            assert len(gateway.engines()) == 1


async def test_a_worker_s_death_gives_its_slots_to_the_others(tmp_path: Path) -> None:
    async with serving(config(slots=1), tmp_path) as gateway:
        clients = await gateway.both()
        (doomed,), (safe,) = clients[1], clients[2]
        await asked(safe)
        begun = asyncio.Event()

        async def hold() -> None:
            async with doomed.stream("POST", "/v1/chat/completions", json=question("local", stream=True, max_tokens=480, ignore_eos=True)) as answer:
                async for _ in answer.aiter_raw():
                    begun.set()

        holding = asyncio.create_task(hold())
        await begun.wait()
        waiting = asyncio.create_task(asked(safe))
        kill(gateway.pids()[1])
        await waiting
        await asyncio.wait([holding])
        assert holding.exception() is not None


async def test_when_the_parent_is_killed_nothing_is_left(tmp_path: Path) -> None:
    async with serving(config(slots=1), tmp_path, ends=-9) as gateway:
        family = await eventually(lambda: (found := children(gateway.process.pid)) and len(found) == 4 and found)  # two, a spare, an engine
        kill(gateway.process.pid)
        await gateway.process.wait()
        await eventually(lambda: all(map(is_gone, family)))
