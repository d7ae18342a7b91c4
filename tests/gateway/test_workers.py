"""Several workers behind one socket: who answers, who dies, who comes back, and what is left when all end. Real processes, real upstreams."""

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from tests.gateway.upstream import Exchange, Upstream, chunk
from tests.gateway.workers import KEY, Client, Serving, children, eventually, kill, question, serving

pytestmark = pytest.mark.timeout(60)

PROVIDER = """
providers: {{one: {{kind: openai-compatible, base_url: "{url}", api_key: sk-x}}}}
models: {{solo: {{targets: [{{provider: one, model: m1, price: free}}]}}, held: {{targets: [{{provider: one, model: held, price: free}}]}}}}
teams: {{search: {{keys: [{key}]}}}}
"""


@pytest.fixture
def config(one: Upstream) -> str:
    return PROVIDER.format(url=one.base_url, key=KEY)


def held_until(release: asyncio.Event) -> Callable[[Exchange], object]:
    """A stream that begins at once and ends when it may."""

    async def play(x: Exchange) -> None:
        await x.start_stream()
        await x.event(chunk({"role": "assistant", "content": "Hello"}))
        await release.wait()
        await x.event(chunk({"content": " there"}))
        await x.event(chunk({}, finish="stop"))
        await x.event("[DONE]")
        await x.end_stream()

    return play


async def streamed(client: Client, begun: asyncio.Event) -> str:
    """All of a held stream; `begun` is set with its first piece."""
    text = ""
    async with client.stream("POST", "/v1/chat/completions", json=question("held", stream=True)) as answer:
        async for piece in answer.aiter_text():
            begun.set()
            text += piece
    return text


async def held(clients: list[Client]) -> list[asyncio.Task[str]]:
    """A stream at each client, begun."""
    begun = [asyncio.Event() for _ in clients]
    streams = [asyncio.create_task(streamed(client, event)) for client, event in zip(clients, begun, strict=True)]
    await asyncio.gather(*(event.wait() for event in begun))
    return streams


async def again(gateway: Serving, place: int, pid: int) -> int:
    """The process that took the place of that one."""
    found: int = await eventually(lambda: gateway.pids()[place] != pid and gateway.pids()[place])
    return found


async def test_both_workers_answer_and_write_one_ledger(config: str, tmp_path: Path) -> None:
    async with serving(config, tmp_path) as gateway:
        clients = await gateway.both(each=4)
        asked = [client.chat("solo") for _ in range(50) for each in clients.values() for client in each]
        assert {answer.status_code for answer in await asyncio.gather(*asked)} == {200}
        told = [await each[0].ready() for each in clients.values()]
        assert [line["status"] for line in told] == ["ok", "ok"]
        assert gateway.printed.count("listens.") == 1
    rows = gateway.rows()
    assert len(rows) == len(asked) == len({row.request_id for row in rows})


async def test_each_worker_has_its_share_of_the_connections(config: str, tmp_path: Path) -> None:
    async with serving(config, tmp_path, workers=3) as gateway:
        clients = [gateway.client() for _ in range(60)]
        places = [told["worker"] for told in await asyncio.gather(*(client.ready() for client in clients))]
        assert min(places.count(place) for place in (1, 2, 3)) >= 5


async def test_a_worker_that_is_killed_loses_its_own_streams_alone_and_is_replaced(config: str, one: Upstream, tmp_path: Path) -> None:
    release = asyncio.Event()
    one.plays["held"] = held_until(release)  # type: ignore[assignment]
    async with serving(config, tmp_path) as gateway:
        clients = await gateway.both(each=4)
        doomed, safe = [await held(clients[place][:3]) for place in (1, 2)]
        pid = gateway.pids()[1]
        kill(pid)
        lost = await asyncio.gather(*doomed, return_exceptions=True)
        assert all(isinstance(each, httpx2.TransportError) for each in lost)
        assert [(await gateway.client().chat("solo")).status_code for _ in range(10)] == [200] * 10, "nobody else notices"
        assert await again(gateway, 1, pid) in children(gateway.process.pid)
        assert [line["end"] for line in gateway.told("worker died")] == ["was killed by SIGKILL"]
        release.set()
        assert all(text.count("Hello") == text.count("[DONE]") == 1 for text in await asyncio.gather(*safe))
        await gateway.both()
        assert pid not in children(gateway.process.pid), "no zombie either"


async def test_a_worker_that_is_told_to_end_is_replaced_and_lets_its_stream_finish(config: str, one: Upstream, tmp_path: Path) -> None:
    release = asyncio.Event()
    one.plays["held"] = held_until(release)  # type: ignore[assignment]
    async with serving(config, tmp_path) as gateway:
        [stream] = await held((await gateway.both())[1])
        pid = gateway.pids()[1]
        for _ in range(3):
            kill(pid, signal.SIGTERM)
        release.set()
        assert "[DONE]" in await stream
        await again(gateway, 1, pid)


async def test_a_worker_that_dies_again_and_again_is_given_up_and_the_gateway_ends(config: str, tmp_path: Path) -> None:
    async with serving(config, tmp_path, ends=1) as gateway:
        pid = gateway.pids()[1]
        for _ in range(4):
            kill(pid)
            pid = await again(gateway, 1, pid)
        kill(pid)
        await gateway.process.wait()
        assert [line["restart_in_s"] for line in gateway.told("worker died")] == [0.0, 1.0, 2.0, 4.0]
        assert len(gateway.told("a worker was given up")) == 1


async def test_the_first_signal_lets_streams_finish(config: str, one: Upstream, tmp_path: Path) -> None:
    release = asyncio.Event()
    one.plays["held"] = held_until(release)  # type: ignore[assignment]
    async with serving(config, tmp_path) as gateway:
        streams = [stream for each in (await gateway.both(each=2)).values() for stream in await held(each)]
        gateway.process.send_signal(signal.SIGTERM)
        await gateway.refused()
        assert not any(stream.done() for stream in streams) and gateway.process.returncode is None
        release.set()
        assert all("[DONE]" in text for text in await asyncio.gather(*streams))
        assert await gateway.process.wait() == 0 and not any("Traceback" in line for line in gateway.others)


async def test_the_second_signal_does_not_wait(config: str, one: Upstream, tmp_path: Path) -> None:
    one.plays["held"] = held_until(asyncio.Event())  # type: ignore[assignment]
    async with serving(config, tmp_path) as gateway:
        [stream] = await held((await gateway.both())[1])
        gateway.process.send_signal(signal.SIGTERM)
        await gateway.refused()
        gateway.process.send_signal(signal.SIGTERM)
        assert await gateway.process.wait() == 0
        await asyncio.wait([stream])
        assert stream.exception() is not None or "[DONE]" not in stream.result()
