"""Runs an engine as replicas on a Ray cluster, behind a unix socket. In Ray's own interpreter: standard library, Ray, uvicorn, and the engine.

Each replica is an actor with an engine of its own. Ray Serve starts as many as their load wants, starts those anew that die, and sends each request
to one of the less loaded. `/metrics` tells how many replicas and requests there are; everything else goes to a replica.
"""

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

sys.path[:] = [place for place in sys.path if place != str(Path(__file__).parent)]  # Python puts it first; its modules are none of Ray's

LOOK_S = 0.5  # how often Serve is asked for its replicas
PIECE = 1 << 16
MAX_BODY = 64 << 20
START_S = 1800.0
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Replica:
    """One engine, on whatever node Ray put it; `ask` passes a request on and yields what comes: first status and content type, then bytes."""

    def __init__(self, orders: dict[str, Any]) -> None:
        self._socket = str(Path(tempfile.mkdtemp(prefix="turnout-")) / "engine.sock")
        self._process: subprocess.Popen[bytes] | None = None
        if orders["engine"] == "vllm":
            command = [self._socket if each == "SOCKET" else each for each in orders["command"]]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        else:
            self._server = self._llamacpp(orders)
        self._wait(START_S)

    def _llamacpp(self, orders: dict[str, Any]) -> Any:
        os.environ["GOMP_SPINCOUNT"] = orders["spins"]
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path, params.model_alias = orders["model"], {orders["name"]}
        params.hostnames, params.n_parallel = [self._socket], orders["slots"]
        params.n_ctx = orders["context"] * orders["slots"]
        params.n_batch = params.n_ubatch = orders["step_tokens"]
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = orders["threads"]
        params.cache_ram_mib, params.cache_idle_slots, params.fit_params, params.ui, params.verbosity = 0, False, False, False, 2
        params.endpoint_slots = params.endpoint_metrics = True
        return xllamacpp.Server(params)

    def _wait(self, limit_s: float) -> None:
        import http.client
        import socket
        import time

        until = time.monotonic() + limit_s
        while time.monotonic() < until and (self._process is None or self._process.poll() is None):
            connection = http.client.HTTPConnection("engine")
            connection.sock = socket.socket(socket.AF_UNIX)
            with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
                connection.sock.connect(self._socket)
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    return
            time.sleep(0.05)
        raise RuntimeError("the engine did not come up")

    def check_health(self) -> None:
        if self._process is not None and self._process.poll() is not None:
            raise RuntimeError(f"the engine exited with code {self._process.returncode}")

    async def ask(self, method: str, path: str, body: bytes) -> AsyncIterator[Any]:
        reader, writer = await asyncio.open_unix_connection(self._socket)
        try:
            head = f"{method} {path} HTTP/1.0\r\nhost: engine\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            status = int((await reader.readline()).split(b" ")[1])
            headers = {}
            while (line := (await reader.readline()).strip()) != b"":
                name, _, value = line.partition(b":")
                headers[name.lower()] = value.strip()
            yield status, headers.get(b"content-type", b"application/json")
            chunked = headers.get(b"transfer-encoding") == b"chunked"
            async for piece in _dechunked(reader) if chunked else _rest(reader, headers.get(b"content-length")):
                yield piece
        finally:
            writer.close()


async def _rest(reader: asyncio.StreamReader, length: bytes | None) -> AsyncIterator[bytes]:
    left = sys.maxsize if length is None else int(length)
    while left and (piece := await reader.read(min(PIECE, left))):
        left -= len(piece)
        yield piece


async def _dechunked(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while size := int((await reader.readline()).split(b";")[0], 16):
        yield await reader.readexactly(size)
        await reader.readline()


class Front:
    """The ASGI app on the socket."""

    def __init__(self, handle: Any, app: str, key: str) -> None:
        self._handle = handle
        self._app = app
        self._key = f"Bearer {key}".encode()
        self._running = self._replicas = 0

    async def watch(self) -> None:
        from ray import serve

        while True:
            status = await asyncio.to_thread(serve.status)
            deployments = status.applications[self._app].deployments.values() if self._app in status.applications else ()
            self._replicas = sum(count for each in deployments for state, count in each.replica_states.items() if str(state).endswith("RUNNING"))
            await asyncio.sleep(LOOK_S)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path = scope["path"]
        if path == "/health":
            await _answer(send, 200, b"{}")
        elif dict(scope["headers"]).get(b"authorization") != self._key:
            await _answer(send, 401, b'{"error":{"message":"no key"}}')
        elif path == "/metrics":
            text = f"turnout:requests_running {self._running}\nturnout:requests_waiting 0\nturnout:replicas_running {self._replicas}\n"
            await _answer(send, 200, text.encode(), b"text/plain")
        else:
            body = await _body(receive)
            if body is not None:
                await self._pass(scope["method"], path, body, receive, send)

    async def _pass(self, method: str, path: str, body: bytes, receive: Receive, send: Send) -> None:
        pieces = self._handle.options(stream=True).ask.remote(method, path, body)
        leaving = asyncio.create_task(_left(receive))
        passing = asyncio.create_task(_stream(pieces, send))
        self._running += 1
        try:
            await asyncio.wait({leaving, passing}, return_when=asyncio.FIRST_COMPLETED)
            if not passing.done():  # the gateway hung up: the engine is not to go on for nobody
                pieces.cancel()
                passing.cancel()
        finally:
            self._running -= 1
            leaving.cancel()
            await asyncio.wait({leaving, passing})
        if not passing.cancelled() and (error := passing.exception()) is not None:
            raise error  # its replica died: uvicorn answers 500, or cuts what has begun


async def _stream(pieces: Any, send: Send) -> None:
    begun = False
    async for piece in pieces:
        if begun:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        else:
            begun = True
            await send({"type": "http.response.start", "status": piece[0], "headers": [(b"content-type", piece[1])]})
    await send({"type": "http.response.body", "body": b""})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _body(receive: Receive) -> bytes | None:
    parts = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect" or len(parts) > MAX_BODY:
            return None
        parts += message.get("body", b"")
        if not message.get("more_body"):
            return bytes(parts)


async def _answer(send: Send, status: int, body: bytes, kind: bytes = b"application/json") -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind), (b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


async def _serve(front: Front, socket_path: str) -> None:
    import uvicorn

    watching = asyncio.create_task(front.watch())
    config = uvicorn.Config(front, uds=socket_path, log_level="error", access_log=False, lifespan="off", ws="none")
    try:
        await uvicorn.Server(config).serve()
    finally:
        watching.cancel()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--uds", required=True)
    parser.add_argument("--orders", required=True)
    given = parser.parse_args()
    orders: dict[str, Any] = json.loads(given.orders)
    import ray
    from ray import serve

    ray.init(address=orders["address"] or "local", include_dashboard=False, log_to_driver=False, namespace="turnout")
    scaling = {"min_replicas": orders["least"], "max_replicas": orders["most"], "target_ongoing_requests": max(1, orders["slots"] // 2)}
    deployment = serve.deployment(
        name="engine",
        autoscaling_config=scaling,
        max_ongoing_requests=orders["slots"] * 2,
        health_check_period_s=1,
        health_check_timeout_s=10,
        ray_actor_options={"num_cpus": orders["cpus"], "num_gpus": orders["gpus"]},
    )(Replica)
    app = f"turnout-{orders['name']}"
    serve.start(proxy_location="Disabled")
    handle = serve.run(deployment.bind(orders), name=app, route_prefix=None)
    try:
        asyncio.run(_serve(Front(handle, app, os.environ["VLLM_API_KEY"]), given.uds))
    finally:
        serve.delete(app)


if __name__ == "__main__":
    main()
