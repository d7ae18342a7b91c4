"""What an upstream HTTP client must do, asked of both implementations over real sockets."""

import asyncio
import ssl
from pathlib import Path

import pytest
import trustme

from contract.errors import AttemptError, AttemptTimeout, ConnectFailed, ConnectionLost, MalformedResponse, StreamCut
from providers.http.client import PooledClient
from providers.http.port import Clocks, Endpoint, HttpClient, Origin
from tests.providers.http.conftest import Peer, Server

CLOCKS = Clocks(connect_s=5, headers_s=5, first_token_s=5, idle_s=5, total_s=10)
LIMIT = 1 << 20


def answering(*pieces: bytes, times: int = 1000):
    """A script that answers every request of a connection with these writes."""

    async def script(peer: Peer) -> None:
        for _ in range(times):
            await peer.request()
            for piece in pieces:
                await peer.send(piece)
                await asyncio.sleep(0)
        await peer.closed()

    return script


def connections_for(client: HttpClient, requests: int, reused: int = 1) -> int:
    """How many connections so many requests take: only our own client keeps them (docs/decisions/002)."""
    return reused if isinstance(client, PooledClient) else requests


async def fetch(client: HttpClient, endpoint: Endpoint, body: bytes = b"{}", clocks: Clocks = CLOCKS) -> tuple[int, bytes]:
    response = await client.send(endpoint, body, clocks)
    return response.status, await response.read(LIMIT)


LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\nX-Name: v\r\n\r\nhello world"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1;ext=1\r\n \r\n5\r\nworld\r\n0\r\nX-Trailer: t\r\n\r\n"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + LENGTH


@pytest.mark.parametrize("answer", [LENGTH, CHUNKED, INTERIM], ids=["length", "chunked with trailers", "after 1xx"])
async def test_an_answer_is_read_however_it_is_split(client: HttpClient, server: Server, answer: bytes) -> None:
    cut = 0

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(answer[:cut])
            await asyncio.sleep(0.001)
            await peer.send(answer[cut:])

    server.script = script
    for cut in range(len(answer)):
        response = await client.send(server.endpoint(), b"{}", CLOCKS)
        assert response.status == 200
        assert await response.read(LIMIT) == b"hello world", cut
    assert server.connections == connections_for(client, len(answer))


async def test_an_answer_may_come_byte_by_byte(client: HttpClient, server: Server) -> None:
    server.script = answering(*(bytes([b]) for b in CHUNKED))
    assert await fetch(client, server.endpoint()) == (200, b"hello world")


async def test_header_names_are_in_lower_case_and_trailers_are_not_headers(client: HttpClient, server: Server) -> None:
    server.script = answering(LENGTH)
    response = await client.send(server.endpoint(), b"", CLOCKS)
    assert (b"x-name", b"v") in response.headers
    await response.read(LIMIT)
    server.script = answering(CHUNKED)
    response = await client.send(Endpoint(server.origin, "/other"), b"", CLOCKS)
    await response.read(LIMIT)
    assert not [name for name, _ in response.headers if name == b"x-trailer"]


async def test_the_request_is_what_was_asked_for(client: HttpClient, server: Server) -> None:
    heads: list[tuple[bytes, bytes]] = []

    async def script(peer: Peer) -> None:
        while True:
            heads.append(await peer.request())
            await peer.send(LENGTH)

    server.script = script
    await fetch(client, server.endpoint(path="/v1/y?a=b", headers=((b"authorization", b"Bearer k"),)), b'{"a":1}')
    head, body = heads[0]
    lines = head.lower().split(b"\r\n")
    assert lines[0] == b"post /v1/y?a=b http/1.1" and body == b'{"a":1}'
    assert b"host: 127.0.0.1:%d" % server.origin.port in lines and b"authorization: bearer k" in lines
    assert b"content-length: 7" in lines and b"accept-encoding: identity" in lines
    await fetch(client, server.endpoint(method="GET"), b"")
    assert heads[1][0].startswith(b"GET /v1/x HTTP/1.1\r\n")


async def test_a_header_that_would_break_out_of_its_line_is_refused(client: HttpClient, server: Server) -> None:
    server.script = answering(LENGTH)
    with pytest.raises(ValueError):
        await client.send(server.endpoint(headers=((b"x-a", b"v\r\nx-b: w"),)), b"", CLOCKS)


async def test_an_answer_without_length_ends_with_the_connection(client: HttpClient, server: Server) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\nhello ")
        await peer.send(b"world")

    server.script = script
    assert await fetch(client, server.endpoint()) == (200, b"hello world")
    assert await fetch(client, server.endpoint()) == (200, b"hello world")
    assert server.connections == 2


@pytest.mark.parametrize("status", [204, 304])
async def test_a_status_without_a_body_needs_no_length(client: HttpClient, server: Server, status: int) -> None:
    server.script = answering(b"HTTP/1.1 %d X\r\n\r\n" % status)
    assert await fetch(client, server.endpoint()) == (status, b"")
    assert await fetch(client, server.endpoint()) == (status, b"")
    assert server.connections == connections_for(client, 2)


async def test_a_redirect_is_given_and_not_followed(client: HttpClient, server: Server) -> None:
    server.script = answering(b"HTTP/1.1 307 X\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n", times=1)
    assert await fetch(client, server.endpoint()) == (307, b"")


async def test_a_connection_that_is_to_close_is_not_used_again(client: HttpClient, server: Server) -> None:
    server.script = answering(LENGTH.replace(b"X-Name: v", b"Connection: close"), times=1)
    for _ in range(2):
        assert await fetch(client, server.endpoint()) == (200, b"hello world")
    assert server.connections == 2


async def test_bytes_after_the_end_end_the_connection(client: HttpClient, server: Server) -> None:
    server.script = answering(LENGTH + LENGTH.replace(b"hello", b"EVIL!"))
    for _ in range(3):
        assert await fetch(client, server.endpoint()) == (200, b"hello world")
        await asyncio.sleep(0.02)
    assert server.connections == 3


async def test_unasked_bytes_on_an_idle_connection_never_become_an_answer(client: HttpClient, server: Server) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(LENGTH)
        if peer.number == 0:
            await asyncio.sleep(0.05)
            await peer.send(LENGTH.replace(b"hello", b"EVIL!"))
        await peer.request()
        await peer.send(LENGTH)

    server.script = script
    await fetch(client, server.endpoint())
    await asyncio.sleep(0.1)
    assert await fetch(client, server.endpoint()) == (200, b"hello world")
    assert server.connections == 2


async def test_a_fresh_connection_that_dies_is_not_replaced(client: HttpClient, server: Server) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.reset()

    server.script = script
    with pytest.raises(ConnectionLost):
        await fetch(client, server.endpoint())
    assert server.connections == 1


async def test_once_a_byte_came_a_pooled_connection_is_not_replaced(server: Server) -> None:
    client = PooledClient()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(LENGTH)
        await peer.request()
        await peer.send(b"HTTP/1.1 200 ")
        await asyncio.sleep(0.05)
        peer.reset()

    server.script = script
    await fetch(client, server.endpoint())
    with pytest.raises(AttemptError):
        await fetch(client, server.endpoint())
    assert server.connections == 1
    await client.aclose()


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize(
    "body",
    [
        b"content-length: 40\r\n\r\npart",
        b"transfer-encoding: chunked\r\n\r\n4\r\npart\r\n",
        b"transfer-encoding: chunked\r\n\r\n40\r\npart",
    ],
)
async def test_what_came_before_a_cut_is_given_and_then_the_cut(client: HttpClient, server: Server, body: bytes, how: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n" + body)
        await asyncio.sleep(0.05)
        if how == "reset":
            peer.reset()

    server.script = script
    response = await client.send(server.endpoint(), b"{}", CLOCKS)
    assert await response.chunk() == b"part"
    with pytest.raises(StreamCut):
        await response.chunk()


async def test_a_close_after_the_head_alone_is_a_lost_connection(client: HttpClient, server: Server) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n")
        await asyncio.sleep(0.05)

    server.script = script
    response = await client.send(server.endpoint(), b"{}", CLOCKS)
    with pytest.raises(ConnectionLost):
        await response.chunk()


GARBAGE = {
    "noise": b"\x00\x01\x02\x03 nothing like it\r\n\r\n",
    "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nabcde",
    "length and chunks": b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n",
    "a negative length": b"HTTP/1.1 200 OK\r\ncontent-length: -4\r\n\r\nabcd",
    "a chunk size that is none": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nabcd\r\n0\r\n\r\n",
    "compressed": b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\nabcd",
    "a switch of protocols": b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    "a header line without a colon": b"HTTP/1.1 200 OK\r\nnonsense\r\ncontent-length: 2\r\n\r\nab",
}


@pytest.mark.parametrize("answer", GARBAGE.values(), ids=GARBAGE.keys())
async def test_what_is_not_valid_http_is_refused(client: HttpClient, server: Server, answer: bytes) -> None:
    server.script = answering(answer, times=1)
    with pytest.raises(MalformedResponse) as caught:
        await fetch(client, server.endpoint())
    assert "abcd" not in caught.value.message


@pytest.mark.parametrize("line", [b"x-a: " + b"v" * 200_000, b"x-a: b\r\n" * 20_000, b"x-a" * 100_000], ids=["one long", "many", "no end"])
async def test_a_huge_head_is_refused(client: HttpClient, server: Server, line: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n" + line)
        await peer.closed()

    server.script = script
    with pytest.raises(MalformedResponse):
        await fetch(client, server.endpoint())


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_beyond_the_limit_is_refused(client: HttpClient, server: Server, declared: bool) -> None:
    head = b"content-length: 5000000\r\n\r\n" if declared else b"transfer-encoding: chunked\r\n\r\n4c4b40\r\n"

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n" + head + b"x" * 5_000_000)
        await peer.closed()

    server.script = script
    response = await client.send(server.endpoint(), b"{}", CLOCKS)
    with pytest.raises(MalformedResponse, match="larger than 100000 bytes"):
        await response.read(100_000)


async def test_a_body_that_is_declared_beyond_the_limit_is_not_waited_for(client: HttpClient, server: Server) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 5000000\r\n\r\n")
        await peer.closed()

    server.script = script
    response = await client.send(server.endpoint(), b"{}", CLOCKS)
    with pytest.raises(MalformedResponse, match="larger than 100000 bytes"):
        await asyncio.wait_for(response.read(100_000), 2)


async def test_a_large_body_each_way_arrives_whole(client: HttpClient, server: Server) -> None:
    got: list[bytes] = []
    big = bytes(range(256)) * 8000

    async def script(peer: Peer) -> None:
        got.append((await peer.request())[1])
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(big) + big)
        await peer.closed()

    server.script = script
    response = await client.send(server.endpoint(), big, CLOCKS)
    assert await response.read(1 << 24) == big and got == [big]


async def test_a_slow_reader_holds_the_upstream_back(client: HttpClient, server: Server) -> None:
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 60000000\r\n\r\n")
        for _ in range(600):
            await peer.send(b"x" * 100_000)
            sent += 100_000
        await peer.closed()

    server.script = script
    response = await client.send(server.endpoint(), b"{}", CLOCKS)
    await response.chunk()
    before = -1
    while before != sent:
        before = sent
        await asyncio.sleep(0.2)
    assert sent < 30_000_000  # socket buffers and ours, not the body
    size = 1
    while data := await response.chunk():
        size += len(data)
    assert size > 40_000_000


# --- clocks ----------------------------------------------------------------------------------------------------------
async def silent(peer: Peer) -> None:
    await peer.request()
    await peer.closed()


async def test_the_headers_clock(client: HttpClient, server: Server) -> None:
    server.script = silent
    with pytest.raises(AttemptTimeout) as caught:
        await fetch(client, server.endpoint(), clocks=Clocks(headers_s=0.1))
    assert caught.value.clock == "headers" and caught.value.reason == "upstream_headers_timeout"


async def test_the_headers_clock_may_be_off(client: HttpClient, server: Server) -> None:
    server.script = silent
    with pytest.raises(AttemptTimeout) as caught:
        await fetch(client, server.endpoint(), clocks=Clocks(headers_s=None, first_token_s=9, total_s=0.1))
    assert caught.value.clock == "total"


async def drip(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        await peer.send(b"1\r\n:\r\n")
        await asyncio.sleep(0.02)


async def read_until_error(client: HttpClient, server: Server, clocks: Clocks, tokens: bool) -> AttemptTimeout:
    response = await client.send(server.endpoint(), b"{}", clocks)
    with pytest.raises(AttemptTimeout) as caught:
        while await response.chunk():
            if tokens:
                response.first_token()
    return caught.value


async def test_bytes_that_are_no_token_do_not_stop_the_first_token_clock(client: HttpClient, server: Server) -> None:
    server.script = drip
    assert (await read_until_error(client, server, Clocks(first_token_s=0.2), tokens=False)).clock == "first_token"


async def test_the_total_clock_runs_through_a_slow_drip(client: HttpClient, server: Server) -> None:
    server.script = drip
    assert (await read_until_error(client, server, Clocks(first_token_s=0.1, idle_s=0.3, total_s=0.5), tokens=True)).clock == "total"


async def test_bytes_that_are_no_progress_do_not_stop_the_idle_clock(client: HttpClient, server: Server) -> None:
    server.script = drip
    response = await client.send(server.endpoint(), b"{}", Clocks(first_token_s=0.1, idle_s=0.3, total_s=5))
    response.first_token()
    sizes: list[int] = []
    with pytest.raises(AttemptTimeout) as caught:
        while chunk := await response.chunk():
            sizes.append(len(chunk))
            if sum(sizes) > 25:  # it has moved on for longer than the clock allows it to stand still
                response.no_progress()
    assert caught.value.clock == "idle" and sum(sizes) > 26


async def test_a_first_token_clock_as_long_as_the_total_one_is_no_other(client: HttpClient, server: Server) -> None:
    """As a unary answer's is, which shows no first token."""
    server.script = drip
    assert (await read_until_error(client, server, Clocks(first_token_s=0.2, total_s=0.2), tokens=False)).clock == "total"


async def test_the_idle_clock(client: HttpClient, server: Server) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n")
        await peer.closed()

    server.script = script
    assert (await read_until_error(client, server, Clocks(idle_s=0.1), tokens=True)).clock == "idle"


async def test_a_refused_connection_says_so(client: HttpClient) -> None:
    with pytest.raises(ConnectFailed, match="connection refused") as caught:
        await fetch(client, Endpoint(Origin("127.0.0.1", 9), "/"))
    assert caught.value.sent is False


async def test_a_name_that_does_not_resolve_says_so(client: HttpClient) -> None:
    with pytest.raises(ConnectFailed, match="does not resolve"):
        await fetch(client, Endpoint(Origin("nowhere.invalid", 80), "/"))


async def test_the_connect_clock_covers_the_tls_handshake(client: HttpClient, server: Server) -> None:
    async def script(peer: Peer) -> None:
        await peer.closed()

    server.script = script
    origin = Origin("127.0.0.1", server.origin.port, tls=True)
    with pytest.raises(AttemptTimeout) as caught:
        await fetch(client, Endpoint(origin, "/"), clocks=Clocks(connect_s=0.2))
    assert caught.value.clock == "connect" and caught.value.sent is False


async def test_a_deadline_that_leaves_no_time_to_connect_is_the_clock_that_runs_out(server: Server) -> None:
    """Ours only: uvloop complains of the handshake that httpx2 leaves behind."""

    async def script(peer: Peer) -> None:
        await peer.closed()

    server.script = script
    origin, client = Origin("127.0.0.1", server.origin.port, tls=True), PooledClient()
    with pytest.raises(AttemptTimeout) as caught:
        await fetch(client, Endpoint(origin, "/"), clocks=Clocks(connect_s=5, total_s=0.2))
    assert caught.value.clock == "total" and caught.value.sent is False
    await client.aclose()


# --- leaving ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("phase", ["before the head", "in the body"])
async def test_leaving_closes_the_upstream_at_once(client: HttpClient, server: Server, phase: str) -> None:
    gone_at = 0.0
    reached = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def script(peer: Peer) -> None:
        nonlocal gone_at
        await peer.request()
        if phase == "in the body":
            await peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n")
        reached.set()
        try:
            await peer.closed()
        except ConnectionError:
            pass
        gone_at = loop.time()
        server.gone.set()

    async def ask() -> None:
        response = await client.send(server.endpoint(), b"{}", CLOCKS)
        try:
            await response.chunk()
            await response.chunk()
        except asyncio.CancelledError:
            response.abort()
            raise

    server.script = script
    asking = asyncio.create_task(ask())
    await reached.wait()
    await asyncio.sleep(0.05)
    left_at = loop.time()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await asyncio.wait_for(server.gone.wait(), 5)
    assert gone_at - left_at < 1.0


async def test_aborting_after_the_end_harms_nobody(client: HttpClient, server: Server) -> None:
    server.script = answering(LENGTH)
    first = await client.send(server.endpoint(), b"{}", CLOCKS)
    await first.read(LIMIT)
    second = await client.send(server.endpoint(), b"{}", CLOCKS)
    first.abort()
    first.release()
    assert await second.read(LIMIT) == b"hello world"
    assert server.connections == connections_for(client, 2)


async def test_a_released_answer_s_connection_is_used_again_once_its_end_came(client: HttpClient, server: Server) -> None:
    server.script = answering(CHUNKED[:60], CHUNKED[60:])
    response = await client.send(server.endpoint(), b"{}", CLOCKS)
    await response.chunk()
    response.release()
    await asyncio.sleep(0.1)
    assert await fetch(client, server.endpoint()) == (200, b"hello world")
    assert server.connections == connections_for(client, 2)


async def test_a_released_answer_that_does_not_end_is_closed(client: HttpClient, server: Server) -> None:
    server.script = drip
    response = await client.send(server.endpoint(), b"{}", CLOCKS)
    await response.chunk()
    response.release()
    await asyncio.wait_for(server.gone.wait(), 5)


# --- transports ------------------------------------------------------------------------------------------------------
async def test_tls_with_a_trusted_certificate_works_and_reuses(client: HttpClient, authority: trustme.CA) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    server = await Server().start(tls=context)
    server.script = answering(LENGTH)
    for _ in range(2):
        assert await fetch(client, server.endpoint()) == (200, b"hello world")
    assert server.connections == connections_for(client, 2)
    await server.stop()


async def test_tls_with_the_wrong_name_or_authority_is_refused(client: HttpClient, authority: trustme.CA) -> None:
    for issuer, name in ((authority, "elsewhere.test"), (trustme.CA(), "localhost")):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        issuer.issue_cert(name).configure_cert(context)
        server = await Server().start(tls=context)
        server.script = answering(LENGTH)
        with pytest.raises(ConnectFailed, match="certificate is not trusted"):
            await fetch(client, server.endpoint())
        await server.stop()


async def test_a_unix_socket_is_an_origin_like_any(client: HttpClient, tmp_path: Path) -> None:
    server = await Server().start(uds=str(tmp_path / "s"))
    server.script = answering(LENGTH)
    for _ in range(2):
        assert await fetch(client, server.endpoint()) == (200, b"hello world")
    assert server.connections == connections_for(client, 2)
    await server.stop()
    (tmp_path / "s").unlink(missing_ok=True)
    await asyncio.sleep(0.05)
    with pytest.raises(ConnectFailed, match="socket does not exist"):
        await fetch(client, server.endpoint())


async def test_many_requests_at_once_each_get_their_own_answer(client: HttpClient, server: Server) -> None:
    async def script(peer: Peer) -> None:
        while True:
            _, body = await peer.request()
            await asyncio.sleep(0.001 * (body[0] % 7))
            await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))

    server.script = script

    async def ask(n: int) -> None:
        body = b"%d" % n
        assert await fetch(client, server.endpoint(), body) == (200, body)

    for _ in range(3):
        await asyncio.gather(*(ask(n) for n in range(60)))
    assert server.connections <= connections_for(client, 180, reused=60)


async def test_a_closed_client_refuses(client: HttpClient, server: Server) -> None:
    server.script = answering(LENGTH)
    await fetch(client, server.endpoint())
    await client.aclose()
    with pytest.raises(ConnectFailed):
        await fetch(client, server.endpoint())


async def test_ours_keeps_a_connection_once(server: Server) -> None:
    client = PooledClient()
    server.script = answering(LENGTH)
    await asyncio.gather(*(fetch(client, server.endpoint()) for _ in range(5)))
    assert client.idle(server.origin) == server.connections == 5
    await client.aclose()
    await asyncio.sleep(0.01)
    assert client.idle(server.origin) == 0
