"""`recovery: continue` with an engine of our own: it goes on for a provider that was cut, and another goes on for it when it dies."""

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.continued_streams import read
from tests.gateway.test_continued import cut, whole
from tests.gateway.upstream import Upstream

pytestmark = pytest.mark.asyncio(loop_scope="module")
CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
providers:
  one: {{kind: openai-compatible, base_url: "{one}", api_key: k}}
  two: {{kind: vllm, base_url: "{one}"}}
engines:
  cpu: {{kind: llamacpp, model: "builtin:smollm2-135m-instruct", slots: 2, threads: 1}}
policies:
  mend: {{recovery: continue}}
models:
  spill: {{policy: mend, targets: [{{provider: one, model: m1}}, {{engine: cpu}}]}}
  local: {{policy: mend, targets: [{{engine: cpu}}, {{provider: two, model: m2}}]}}
teams:
  search: {{keys: [{key}]}}
"""
QUESTION = "What is the capital of France? Answer in one short sentence."


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def upstream() -> AsyncIterator[Upstream]:
    upstream = await Upstream().start()
    yield upstream
    await upstream.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    folder: Path = tmp_path_factory.mktemp("engine")
    async with running(CONFIG.format(folder=folder, one=upstream.base_url, key=KEY), folder) as gateway:
        yield gateway


async def test_the_engine_goes_on_for_a_provider_that_was_cut(gateway: Gateway, upstream: Upstream) -> None:
    upstream.plays["m1"] = cut("The", " capital", " of")
    body = {"model": "spill", "messages": [{"role": "user", "content": QUESTION}], "stream": True, "temperature": 0, "max_tokens": 30}
    response = await gateway.post(body)
    answer = read("openai_chat", response.content)
    assert (answer.text, answer.id, answer.finish) == ("The capital of France is Paris.", "chatcmpl-one", "stop")
    assert answer.turnout == {"continued": [{"target": "cpu", "at_characters": 14}]}
    before, after = await gateway.rows(response.headers["x-request-id"])
    assert (before.status, after.status, after.target, after.reason) == ("cut", "ok", "cpu", "continued at 14 characters")


async def test_another_target_goes_on_for_an_engine_that_died(gateway: Gateway, upstream: Upstream) -> None:
    upstream.plays["m2"] = whole(" and so on")
    body = {
        "model": "local",
        "messages": [{"role": "user", "content": "Count to 100."}],
        "stream": True,
        "max_tokens": 400,
        "ignore_eos": True,
        "temperature": 0,
    }
    parts: list[bytes] = []
    async with gateway.http.stream("POST", "/v1/chat/completions", json=body, headers={"authorization": f"Bearer {KEY}"}) as response:
        async for part in response.aiter_bytes():
            if not parts:
                pid = gateway.runtime.engines["cpu"].pid
                assert pid is not None
                os.kill(pid, signal.SIGKILL)
            parts.append(part)
    answer = read("openai_chat", b"".join(parts))
    (seam,) = answer.turnout["continued"]
    begun = upstream.journal[-1].body["messages"][-1]["content"]
    assert seam["target"] == "two/m2" and begun and answer.text.rstrip().startswith(begun) and answer.text.endswith("and so on")
    before, after = await gateway.rows(response.headers["x-request-id"])
    assert (before.status, before.error_code, after.status) == ("cut", "local_engine_lost", "ok")
