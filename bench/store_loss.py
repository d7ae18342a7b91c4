"""Two gateways that share a Redis, under a load; Redis is killed or frozen, and brought back: what each second's requests saw.

Prints a line a second: requests, their statuses, the 50th and 99th percentile, and how many were admitted without Redis. Then: the whole
fleet's admissions against the limit, and the p99 from one second after the loss against the p99 before.

    .venv/bin/python bench/store_loss.py [--seconds 24] [--rps 100] [--loss killed|frozen] [--kept]

`--kept`: answers are kept and each request is another one, so that Redis is asked for its answer too.
"""

import argparse
import asyncio
import re
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles

import httpx2

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.gateway.redis_server import RedisServer  # noqa: E402
from tests.gateway.upstream import Upstream  # noqa: E402

KEY = "sk-store-loss"
RPM = 600
CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db", redis: "{redis}"}}
providers: {{up: {{kind: openai-compatible, base_url: "{upstream}", api_key: k}}}}
policies: {{p: {{{policy}}}}}
models: {{m: {{policy: p, targets: [{{provider: up, price: {{input_usd_per_mtok: 1, output_usd_per_mtok: 2}}}}]}}}}
teams: {{t: {{keys: [{key}], limits: {{rpm: {rpm}, tpm: 100000000, concurrency: 500}}, budget: {{usd: 1000}}}}}}
"""
BODY = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 16}
HEADERS = {"authorization": f"Bearer {KEY}"}


@dataclass(frozen=True)
class Seen:
    at: float
    took_s: float
    status: int
    degraded: bool


async def started(folder: Path) -> tuple[asyncio.subprocess.Process, str]:
    """A gateway of its own process, and its URL."""
    command = [str(Path(sys.executable).with_name("turnout")), "serve", "--port", "0", "--config", "turnout.yaml"]
    process = await asyncio.create_subprocess_exec(*command, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL)
    assert process.stdout is not None
    while line := (await process.stdout.readline()).decode():
        if found := re.search(r"base URL\s+(\S+)/v1", line):
            return process, found[1]
    raise SystemExit("the gateway did not start")


async def ask(client: httpx2.AsyncClient, url: str, began: float, seen: list[Seen]) -> None:
    start = time.perf_counter()
    try:
        answer = await client.post(f"{url}/v1/chat/completions", json=BODY | {"seed": time.perf_counter_ns()}, headers=HEADERS)
        status, degraded = answer.status_code, "x-turnout-degraded" in answer.headers
    except httpx2.HTTPError:
        status, degraded = 0, False
    seen.append(Seen(start - began, time.perf_counter() - start, status, degraded))


async def load(urls: list[str], seconds: float, rps: float, began: float, seen: list[Seen]) -> None:
    """Open loop: requests come at their times, whatever became of the others."""
    async with httpx2.AsyncClient(timeout=20, trust_env=False, limits=httpx2.Limits(max_connections=500)) as client:
        tasks = []
        for number in range(int(seconds * rps)):
            await asyncio.sleep(max(0.0, began + number / rps - time.perf_counter()))
            tasks.append(asyncio.create_task(ask(client, urls[number % len(urls)], began, seen)))
        await asyncio.gather(*tasks)


def ms(times: list[float], share: int) -> float:
    return 1000 * (quantiles(times, n=100)[share - 1] if len(times) > 1 else times[0])


def told(seen: list[Seen], seconds: float, lost_s: float, back_s: float) -> None:
    print(f"{'second':>6} {'redis':<6} {'asked':>5} {'200':>5} {'429':>5} {'other':>5} {'p50 ms':>7} {'p99 ms':>7} {'without Redis':>13}")
    for second in range(int(seconds)):
        here = [each for each in seen if second <= each.at < second + 1]
        count, times = Counter(each.status for each in here), [each.took_s for each in here]
        redis = "lost" if lost_s <= second < back_s else "there"
        other = len(here) - count[200] - count[429]
        line = f"{second:>6} {redis:<6} {len(here):>5} {count[200]:>5} {count[429]:>5} {other:>5} {ms(times, 50):>7.1f} {ms(times, 99):>7.1f}"
        print(f"{line} {sum(each.degraded for each in here):>13}")


async def main(seconds: float, rps: float, loss: str, kept: bool) -> int:
    lost_s, back_s = round(seconds / 3), round(seconds * 2 / 3)
    upstream = await Upstream().start()
    with tempfile.TemporaryDirectory(prefix="turnout-store-loss-") as name:
        folder = Path(name)
        redis = RedisServer(folder).start()
        text = CONFIG.format(folder=folder, redis=redis.url, upstream=upstream.base_url, key=KEY, rpm=RPM, policy="cache: {}" if kept else "")
        (folder / "turnout.yaml").write_text(text)
        gateways = [await started(folder) for _ in range(2)]
        urls, seen = [url for _, url in gateways], []  # type: tuple[list[str], list[Seen]]
        try:
            await load(urls, 1, 10, time.perf_counter(), [])
            began = time.perf_counter()
            asking = asyncio.create_task(load(urls, seconds, rps, began, seen))
            await asyncio.sleep(began + lost_s - time.perf_counter())
            gone, back = (redis.kill, redis.start) if loss == "killed" else (redis.freeze, redis.thaw)
            gone()
            await asyncio.sleep(began + back_s - time.perf_counter())
            back()
            await asking
        finally:
            for process, _ in gateways:
                process.terminate()
            for process, _ in gateways:
                await process.wait()
            redis.kill()
            await upstream.stop()
    told(seen, seconds, lost_s, back_s)
    before = [each.took_s for each in seen if 1 <= each.at < lost_s]
    after = [each.took_s for each in seen if lost_s + 1 <= each.at < back_s]
    admitted, wrong = sum(each.status == 200 for each in seen), sum(each.status not in (200, 429) for each in seen)
    most = RPM * seconds / 60 + 3 * RPM  # a full bucket at the start, one for the processes' shares together, one of the empty Redis
    print(f"\nadmitted {admitted}; at most {most:.0f} may be: {RPM} a minute, and three full buckets (Redis, the processes' shares, the new Redis)")
    print(f"answers other than 200 and 429: {wrong}")
    print(f"p99 before {ms(before, 99):.1f} ms; from 1 s after the loss {ms(after, 99):.1f} ms (the bar: 25 ms more)")
    return int(wrong > 0 or admitted > most)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=24)
    parser.add_argument("--rps", type=float, default=100)
    parser.add_argument("--loss", choices=("killed", "frozen"), default="killed")
    parser.add_argument("--kept", action="store_true")
    options = parser.parse_args()
    sys.exit(asyncio.run(main(options.seconds, options.rps, options.loss, options.kept)))
