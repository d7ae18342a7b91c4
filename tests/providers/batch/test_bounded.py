"""However large a batch's files are, what is held of them stays small; and a slow reader holds the provider back, not the gateway."""

import asyncio
import itertools
import json
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from time import time

from providers.batch.port import JobRef, Part, row_id
from tests.providers.batch.served import completion
from tests.providers.batch.worlds import question, world_of

ROWS = 4000
BIG = "x" * 10_000
HELD = 12 << 20  # bytes, of 40 million that pass


Serve = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def raw_server(serve: Serve) -> AsyncIterator[str]:
    """A server that reads a request's head and lets `serve` do the rest; its address."""

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await serve(await reader.readuntil(b"\r\n\r\n"), reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(connection, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()


def head(length: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % length


def line_of(number: int) -> bytes:
    body = completion({"messages": [{"content": f"{number}"}]}) | {"padding": BIG}
    return json.dumps({"custom_id": row_id(number), "response": {"status_code": 200, "body": body}}).encode() + b"\n"


async def test_results_are_read_as_they_are_taken(tmp_path: Path) -> None:
    total = sum(len(line_of(number)) for number in range(ROWS))
    job = {"id": "b", "status": "completed", "output_file_id": "f", "request_counts": {"total": ROWS, "completed": ROWS, "failed": 0}}

    async def serve(request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if b"/content" not in request:
            body = json.dumps(job).encode()
            writer.write(head(len(body)) + body)
            return
        writer.write(head(total))
        for number in range(ROWS):
            writer.write(line_of(number))
            await writer.drain()

    async with raw_server(serve) as root, world_of("openai", tmp_path, root) as world:
        world.calls = dict.fromkeys(map(row_id, range(ROWS)), question(0))
        tracemalloc.start()
        try:
            seen = 0
            async for result in world.client.results(JobRef("b", "k-0", "m"), world.asked):
                seen += 1
                assert result.state == "succeeded"
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert seen == ROWS and total > 40_000_000
    assert peak < HELD


async def test_a_part_is_sent_as_it_is_read(tmp_path: Path) -> None:
    file = tmp_path / "part"
    file.write_bytes(b"".join(line_of(number) for number in range(ROWS)))
    part = Part(key="k-0", file=file, rows=ROWS, size=file.stat().st_size, sha256="", model="m", endpoint="/v1/chat/completions")
    received = []

    async def serve(request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = next(int(line.split(b":")[1]) for line in request.lower().split(b"\r\n") if line.startswith(b"content-length"))
        received.append(length)
        while length:
            length -= len(await reader.read(min(length, 65536)))
        body = b'{"id":"x","status":"validating"}'
        writer.write(head(len(body)) + body)

    async with raw_server(serve) as root, world_of("openai", tmp_path, root) as world:
        tracemalloc.start()
        try:
            job = await world.client.submit(part, part.submission(time()))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert job.state == "validating"
    assert received[0] > 40_000_000 and len(received) == 2
    assert peak < HELD


async def test_who_needs_no_more_results_ends_the_download(tmp_path: Path) -> None:
    gone = asyncio.Event()
    job = {"id": "b", "status": "completed", "output_file_id": "f"}

    async def serve(request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if b"/content" not in request:
            body = json.dumps(job).encode()
            writer.write(head(len(body)) + body)
            return
        writer.write(head(1 << 40))
        try:
            for number in itertools.count():
                writer.write(line_of(number))
                await writer.drain()
        except ConnectionError:
            gone.set()
            raise

    async with raw_server(serve) as root, world_of("openai", tmp_path, root) as world:
        world.calls = dict.fromkeys(map(row_id, range(ROWS)), question(0))
        async with aclosing(world.client.results(JobRef("b", "k-0", "m"), world.asked)) as results:
            async for _ in results:
                break
        async with asyncio.timeout(30):
            await gone.wait()


async def test_a_part_that_is_no_longer_to_be_sent_is_let_go_at_once(tmp_path: Path) -> None:
    file = tmp_path / "part"
    file.write_bytes(BIG.encode() * 2000)
    part = Part(key="k-0", file=file, rows=1, size=file.stat().st_size, sha256="", model="m", endpoint="/v1/chat/completions")
    begun, stopped, gone = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def serve(request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begun.set()
        await stopped.wait()
        with suppress(ConnectionError):
            while await reader.read(65536):
                pass
        gone.set()

    async with raw_server(serve) as root, world_of("openai", tmp_path, root) as world:
        sending = asyncio.create_task(world.client.submit(part, part.submission(time())))
        await begun.wait()
        sending.cancel()
        await asyncio.wait([sending])
        stopped.set()
        assert sending.cancelled()
        async with asyncio.timeout(30):
            await gone.wait()
