"""What one request costs in each upstream HTTP client: CPU microseconds of this process, against the mock provider in another.

python bench/http_client.py [--requests N]
"""

import argparse
import asyncio
import subprocess
import time
from pathlib import Path

import uvloop
from compare import HERE, MOCK_PORT, build

from providers.http.client import PooledClient
from providers.http.httpx_client import HttpxClient
from providers.http.port import Clocks, Endpoint, HttpClient, Origin

LIMIT = 1 << 20


async def cpu_us(client: HttpClient, requests: int, at_once: int = 16) -> float:
    """CPU microseconds a request, with some in flight at once."""
    endpoint = Endpoint(Origin("127.0.0.1", MOCK_PORT), "/v1/chat/completions", ((b"content-type", b"application/json"),))
    body = (HERE / "bodies/chat_d0.json").read_bytes()

    async def ask(count: int) -> None:
        for _ in range(count):
            response = await client.send(endpoint, body, Clocks())
            assert response.status == 200
            await response.read(LIMIT)

    await ask(50)
    began = time.process_time()
    await asyncio.gather(*(ask(requests // at_once) for _ in range(at_once)))
    spent = time.process_time() - began
    await client.aclose()
    return spent / (requests // at_once * at_once) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=8000)
    options = parser.parse_args()
    build()
    mock = subprocess.Popen([str(Path(HERE, "bin/mockup")), str(MOCK_PORT)])
    try:
        time.sleep(0.3)
        ours = uvloop.run(cpu_us(PooledClient(), options.requests))
        general = uvloop.run(cpu_us(HttpxClient(), options.requests // 8))
    finally:
        mock.terminate()
        mock.wait()
    print(f"our client   {ours:8.1f} CPU us a request")
    print(f"httpx2       {general:8.1f} CPU us a request, a connection each; {general / ours:.1f} times ours")


if __name__ == "__main__":
    main()
