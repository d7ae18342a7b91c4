"""A pool of somebody else's engines behind one base URL: the load that its metrics tell is routed by, as if it were our own queue."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.test_metrics import METRICS_KEY, read, scrape
from tests.gateway.upstream import Upstream

CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
metrics: {{key: {metrics_key}}}
providers:
  pool: {{kind: openai-compatible, base_url: "{one}", api_key: k, metrics: "http://127.0.0.1:{port}/metrics"}}
  one: {{kind: openai-compatible, base_url: "{two}", api_key: k}}
policies: {{fast: {{slo: {{ttft_p95_ms: 500}}}}}}
models: {{chat: {{policy: fast, targets: [{{provider: pool, model: m1}}, {{provider: one, model: m2}}]}}}}
teams: {{search: {{keys: [{key}]}}}}
"""
PAGE = 'vllm:num_requests_running{{model_name="m"}} {}\nvllm:num_requests_waiting{{model_name="m"}} {}\n'


class Metrics:
    """The pool's page, as a test writes it."""

    def __init__(self) -> None:
        self.text = PAGE.format(0, 0)
        self.looks = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readline():  # a request's first line, and then its head
            while (await reader.readline()).strip():
                pass
            self.looks += 1
            body = self.text.encode()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
            await writer.drain()
        writer.close()

    async def seen(self) -> None:
        """Until the gateway has read what is written now."""
        looks = self.looks
        async with asyncio.timeout(20):
            while self.looks < looks + 2:
                await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def closing(server: asyncio.Server) -> AsyncIterator[None]:
    try:
        yield
    finally:
        server.close()


async def target_of(gateway: Gateway) -> str:
    asked: dict[str, Any] = {"model": "chat", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
    answer = await gateway.post(asked)
    assert (answer.status_code, answer.headers["x-turnout-attempts"]) == (200, "1")
    return str(answer.headers["x-turnout-target"])


async def test_a_pool_whose_queue_is_long_is_not_asked_until_it_is_short_again(one: Upstream, two: Upstream, tmp_path: Path) -> None:
    metrics = Metrics()
    server = await asyncio.start_server(metrics.answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    text = CONFIG.format(folder=tmp_path, one=one.base_url, two=two.base_url, key=KEY, port=port, metrics_key=METRICS_KEY)
    async with closing(server), running(text, tmp_path) as gateway:
        await metrics.seen()
        assert await target_of(gateway) == "pool/m1"
        metrics.text = PAGE.format(8, 1_000_000)
        await metrics.seen()
        assert await target_of(gateway) == "one/m2"
        metrics.text = PAGE.format(8, 0)
        await metrics.seen()
        assert await target_of(gateway) == "pool/m1"
        assert gateway.runtime.routes.exact["chat"].targets[0].load() == 8
        told = read(await scrape(gateway))
        ours = frozenset({("engine", "pool"), ("model_name", "m")})
        assert told["vllm:num_requests_running", ours] == 8 and told["vllm:num_requests_waiting", ours] == 0
        metrics.text = "no metrics at all"
        await metrics.seen()
        assert await target_of(gateway) == "pool/m1", "what is not known is not held against it"
        assert "vllm:" not in await scrape(gateway)
