"""Of a request that a seeing engine failed at: whether the hosts of its images can be reached."""

import asyncio
import socket

import pytest

from contract.errors import MediaUnreachable
from gateway.errors import shown
from providers.http.client import PooledClient
from providers.local.media import unreachable
from tests.providers.local.test_checking import PNG, call_of


def asking(*urls: str) -> dict[str, object]:
    content = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return {"messages": [{"role": "user", "content": content}]}


async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 7\r\n\r\n")
    await writer.drain()
    writer.close()


@pytest.fixture
def closed() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return f"http://127.0.0.1:{listening.getsockname()[1]}"


async def test_a_host_at_which_nobody_listens_is_named_and_is_not_the_request_s_fault(client: PooledClient, closed: str) -> None:
    server = await asyncio.start_server(answers, "127.0.0.1", 0)
    there = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/b.png"
    found = await unreachable(client, call_of(**asking(f"{closed}/a.png", there, PNG)), "eye")
    assert isinstance(found, MediaUnreachable) and found.param == "messages"
    assert f"{closed.removeprefix('http://')} cannot be reached" in found.message and there.split("/")[2] not in found.message
    assert shown(found).status == 502
    server.close()


async def test_hosts_that_answer_whatever_they_say_and_media_that_is_sent_are_not_told(client: PooledClient) -> None:
    server = await asyncio.start_server(answers, "127.0.0.1", 0)
    there = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/b.png"
    for urls in ((there,), (PNG,), ("http://127.0.0.1:99999/a.png",), ()):
        assert await unreachable(client, call_of(**asking(*urls)), "eye") is None
    server.close()
