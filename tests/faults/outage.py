"""An outage: a primary that is gone for a while, and one request after another all along."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from tests.gateway.conftest import KEY, running
from tests.gateway.upstream import Upstream, good, status

ASK = {"messages": [{"role": "user", "content": "Hi"}], "model": "pair"}
CONFIG = """
state: {{database: "sqlite:///{folder}/outage.db"}}
providers:
  one: {{kind: openai-compatible, base_url: "{one}", api_key: k}}
  two: {{kind: openai-compatible, base_url: "{two}", api_key: k}}
models: {{pair: {{targets: [{{provider: one, model: m1}}, {{provider: two, model: m2}}]}}}}
teams: {{t: {{keys: [{key}]}}}}
"""


@dataclass(frozen=True)
class Answer:
    """`at`: seconds since the outage's end, when it was asked for. `took`: seconds."""

    at: float
    took: float
    status: int
    target: str


async def outage(one: Upstream, two: Upstream, folder: Path, kind: str, lasts_s: float, every_s: float, after_s: float) -> list[Answer]:
    """What was answered from a little before the outage until `after_s` beyond it. `kind`: refused, 503."""
    yaml = CONFIG.format(folder=folder, one=one.base_url, two=two.base_url, key=KEY)
    port, answers, asking = one.port, [], []
    async with running(yaml, folder) as gateway:
        began = monotonic()
        ends = began + 2 * every_s + lasts_s

        async def ask() -> None:
            asked = monotonic()
            answer = await gateway.post({**ASK, "stream": len(asking) % 2 == 0})
            answers.append(Answer(asked - ends, monotonic() - asked, answer.status_code, answer.headers.get("x-turnout-target", "")))

        async def go_down_and_come_back() -> None:
            await asyncio.sleep(2 * every_s - every_s / 2)
            if kind == "refused":
                await one.stop()
            else:
                one.plays["m1"] = status(503)
            await asyncio.sleep(lasts_s + every_s / 2)
            if kind == "refused":
                await one.start(port)
            else:
                one.plays["m1"] = good

        fate = asyncio.create_task(go_down_and_come_back())
        while monotonic() < ends + after_s:
            asking.append(asyncio.create_task(ask()))
            await asyncio.sleep(every_s)
        await asyncio.gather(fate, *asking)
    return sorted(answers, key=lambda answer: answer.at)
