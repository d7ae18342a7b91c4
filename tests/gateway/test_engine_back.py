"""An engine that was lost under load is back: its supervisor says so, and nobody is refused for what its former child did."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import httpx2

from providers.local.supervisor import EngineSupervisor
from tests.gateway.conftest import KEY, Gateway, running

CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
engines: {{cpu: {{kind: llamacpp, model: "builtin:smollm2-135m-instruct", slots: 4, threads: 1, context: 512}}}}
models: {{own: {{targets: [{{engine: cpu}}]}}}}
teams: {{search: {{keys: [{key}]}}}}
"""
AUTH = {"authorization": f"Bearer {KEY}"}


def body(content: str, **more: Any) -> dict[str, Any]:
    return {"model": "own", "messages": [{"role": "user", "content": content}], "max_tokens": 4, **more}


async def stream(gateway: Gateway, begun: asyncio.Event, number: int) -> str:
    text, asked = "", body(f"Tell of {number} seas", stream=True, max_tokens=450, ignore_eos=True)
    async with gateway.http.stream("POST", "/v1/chat/completions", json=asked, headers=AUTH) as answer:
        async for piece in answer.aiter_text():
            text += piece
            begun.set()
    return text


async def burst(gateway: Gateway, name: str) -> list[httpx2.Response]:
    return await asyncio.gather(*(gateway.post(body(f"{name} {number}")) for number in range(4)))


async def test_bursts_during_and_after_a_restart_are_answered_in_full(tmp_path: Path) -> None:
    async with running(CONFIG.format(folder=tmp_path, key=KEY), tmp_path) as gateway:
        engine = gateway.runtime.engines["cpu"]
        assert isinstance(engine, EngineSupervisor)
        await engine.wait_ready(100)
        for _ in range(2):
            begun = [asyncio.Event() for _ in range(4)]
            streams = [asyncio.create_task(stream(gateway, each, number)) for number, each in enumerate(begun)]
            await asyncio.gather(*(each.wait() for each in begun))
            assert engine.pid is not None
            os.kill(engine.pid, signal.SIGKILL)
            assert all("local_engine_lost" in text for text in await asyncio.gather(*streams))
            assert engine.state == "restarting"
            for name in ("during", "after"):
                answers = await burst(gateway, name)
                assert [answer.status_code for answer in answers] == [200] * 4, [answer.text for answer in answers]
        assert engine.generation == 3


async def test_one_that_will_not_be_back_in_time_is_told_of_truly(tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(b"GGUF, and nothing more")
    text = CONFIG.replace("builtin:smollm2-135m-instruct", str(model)).format(folder=tmp_path, key=KEY)
    async with running(text, tmp_path) as gateway:
        engine = gateway.runtime.engines["cpu"]
        async with asyncio.timeout(100):
            while engine.retry_after_s <= 30.0 or engine.reason is None:
                await asyncio.sleep(0.05)
        answer = await gateway.post(body("Hi"))
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_target_ready")
        told = answer.json()["error"]["message"]
        assert "the engine is down, and will be back in about" in told and "exited with code 1: " in told
        assert 1 <= int(answer.headers["retry-after"]) <= 62
        shown = (await gateway.http.get("/health/ready")).json()["engines"]["cpu"]
        assert shown["reason"] == engine.reason and shown["state"] in ("restarting", "failed")
