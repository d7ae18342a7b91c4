"""What comes at once leaves at once: a stream that is whole in one read, and prompts larger than what a connection holds before it pauses."""

import asyncio
import json

import pytest

from gateway.cycle import HIGH_WATER_LIMIT
from gateway.flow import Flow
from tests.gateway.conftest import KEY, Gateway
from tests.gateway.upstream import Exchange, Upstream, chunk

STREAM = [chunk({"role": "assistant", "content": ""}), *[chunk({"content": word}) for word in ("Hello", " there", " you")], chunk({}, finish="stop")]
SENT = b"".join([b"data: %b\n\n" % json.dumps(event, separators=(",", ":")).encode() for event in STREAM]) + b"data: [DONE]\n\n"


async def at_once(x: Exchange) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    await x.send(b"%b%x\r\n%b\r\n0\r\n\r\n" % (head, len(SENT), SENT))


async def asked(gateway: Gateway, body: dict[str, object], *cuts: int) -> bytes:
    """The answer's bytes; the request's body is sent in pieces that end there."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rsplit(":", 1)[1]))
    text = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\nconnection: close\r\n"
    writer.write(f"{head}content-type: application/json\r\ncontent-length: {len(text)}\r\n\r\n".encode())
    for start, end in zip((0, *cuts), (*cuts, len(text)), strict=True):
        writer.write(text[start:end])
        await writer.drain()
        await asyncio.sleep(0.05)
    async with asyncio.timeout(30):
        answer = await reader.read(-1)
    writer.close()
    return answer


async def test_a_stream_that_came_whole_is_one_chunk_and_its_end(gateway: Gateway, one: Upstream) -> None:
    one.plays["m1"] = at_once
    answer = await asked(gateway, {"model": "solo", "messages": [{"role": "user", "content": "Hi"}], "stream": True})
    assert answer.partition(b"\r\n\r\n")[2] == b"%x\r\n%b\r\n0\r\n\r\n" % (len(SENT), SENT)
    (row,) = await gateway.all_rows()
    assert (row.status, row.bytes_client, row.stream) == ("ok", len(SENT), True)


@pytest.mark.parametrize("cuts", [(), (1000,), (HIGH_WATER_LIMIT + 1000, HIGH_WATER_LIMIT * 2)], ids=["whole", "mostly whole", "paused"])
async def test_a_prompt_larger_than_what_is_held_arrives_whole(gateway: Gateway, one: Upstream, cuts: tuple[int, ...]) -> None:
    content = "word " * (HIGH_WATER_LIMIT * 3 // 5)
    answer = await asked(gateway, {"model": "solo", "messages": [{"role": "user", "content": content}]}, *cuts)
    assert answer.startswith(b"HTTP/1.1 200")
    assert one.journal[0].body["messages"][0]["content"] == content


class Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.reads = True

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True


async def test_a_client_that_is_behind_is_waited_for() -> None:
    flow = Flow(Transport())
    await flow.drain()
    flow.pause_writing()
    flow.pause_writing()
    waiting = asyncio.create_task(flow.drain())
    await asyncio.sleep(0)
    assert flow.write_paused and not waiting.done()
    flow.resume_writing()
    await asyncio.wait_for(waiting, 5)
    assert not flow.write_paused


def test_a_client_is_not_read_while_it_is_paused() -> None:
    transport = Transport()
    flow = Flow(transport)
    flow.pause_reading()
    assert not transport.reads and flow.read_paused
    flow.resume_reading()
    assert transport.reads and not flow.read_paused
