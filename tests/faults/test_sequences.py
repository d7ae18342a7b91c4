"""What one request's failure means for the next: keys and targets that rest, breakers that open, probes, and 503 at once when nobody is left."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic

import pytest

from policy.breaker import FIRST_OPEN_S, SPREAD
from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.upstream import Exchange, Upstream, good, status

CONFIG = """
state: {{database: "sqlite:///{folder}/t.db"}}
providers:
  one: {{kind: openai-compatible, base_url: "{one}", api_key: k}}
  two: {{kind: openai-compatible, base_url: "{two}", api_key: k}}
policies: {{alone: {{fallback: none}}}}
models:
  pair: {{targets: [{{provider: one, model: m1}}, {{provider: two, model: m2}}]}}
  other: {{targets: [{{provider: one, model: m3}}, {{provider: two, model: m2}}]}}
  solo: {{policy: alone, targets: [{{provider: one, model: m1}}]}}
teams: {{t: {{keys: [{key}]}}}}
"""
BOTH = pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])


@pytest.fixture
async def gateway(one: Upstream, two: Upstream, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running(CONFIG.format(folder=tmp_path, one=one.base_url, two=two.base_url, key=KEY), tmp_path) as gateway:
        yield gateway


async def ask(gateway: Gateway, model: str, stream: bool = False) -> tuple[int, str]:
    """Status and target."""
    answer = await gateway.post({"model": model, "messages": [{"role": "user", "content": "Hi"}], "stream": stream})
    return answer.status_code, answer.headers.get("x-turnout-target", "")


def asked(upstream: Upstream, model: str) -> int:
    return sum(seen.body["model"] == model for seen in upstream.journal)


@BOTH
async def test_a_limited_model_rests_as_long_as_its_provider_said_and_others_of_that_provider_do_not(
    gateway: Gateway, one: Upstream, stream: bool
) -> None:
    one.plays["m1"] = [status(429, retry_after="1"), good]
    assert await ask(gateway, "pair", stream) == (200, "two/m2")
    assert await ask(gateway, "pair", stream) == (200, "two/m2") and asked(one, "m1") == 1
    assert await ask(gateway, "other", stream) == (200, "one/m3")
    await asyncio.sleep(1.05)
    assert await ask(gateway, "pair", stream) == (200, "one/m1")


@pytest.mark.parametrize(
    "play",
    [status(429, b'{"error":{"code":"insufficient_quota","message":"CANARY"}}'), status(401)],
    ids=["no quota", "not accepted"],
)
async def test_a_sole_key_that_is_spent_or_not_accepted_rests_for_that_model_alone(gateway: Gateway, one: Upstream, play) -> None:
    one.plays["m1"] = play
    assert await ask(gateway, "pair") == (200, "two/m2")
    assert await ask(gateway, "pair") == (200, "two/m2") and asked(one, "m1") == 1
    assert await ask(gateway, "other") == (200, "one/m3")


async def opened(gateway: Gateway, one: Upstream) -> None:
    """m1's breaker opens."""
    one.plays["m1"] = status(500)
    assert (await ask(gateway, "solo"))[0] == 502
    assert asked(one, "m1") == 3


async def test_with_nobody_left_a_request_fails_at_once_and_is_told_when_to_come_again(gateway: Gateway, one: Upstream) -> None:
    await opened(gateway, one)
    took = []
    for _ in range(20):
        began = monotonic()
        answer = await gateway.post({"model": "solo", "messages": [{"role": "user", "content": "Hi"}]})
        took.append(monotonic() - began)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_target_ready")
        assert 0 < int(answer.headers["retry-after-ms"]) <= FIRST_OPEN_S * 1000 and answer.headers["retry-after"] in ("1", "2")
        assert answer.headers["x-should-retry"] == "true"
    assert sorted(took)[10] < 0.5 and asked(one, "m1") == 3
    (row,) = await gateway.rows(answer.headers["x-request-id"])
    assert (row.attempt, row.status, row.error_code, row.client_status) == (0, "failed", "no_target_ready", 503)


async def test_who_is_open_is_passed_over_and_one_probe_at_a_time_asks_whether_it_is_back(gateway: Gateway, one: Upstream) -> None:
    await opened(gateway, one)
    assert [await ask(gateway, "pair") for _ in range(3)] == [(200, "two/m2")] * 3 and asked(one, "m1") == 3

    async def slowly_good(x: Exchange) -> None:
        await asyncio.sleep(0.3)
        await good(x)

    one.plays["m1"] = slowly_good
    await asyncio.sleep(FIRST_OPEN_S)
    answers = await asyncio.gather(*(ask(gateway, "pair") for _ in range(6)))
    assert sorted(answers) == [(200, "one/m1"), *[(200, "two/m2")] * 5]
    one.plays["m1"] = good
    assert await ask(gateway, "pair") == (200, "one/m1")


async def test_a_probe_that_fails_keeps_the_target_away_for_longer(gateway: Gateway, one: Upstream) -> None:
    await opened(gateway, one)
    await asyncio.sleep(FIRST_OPEN_S)
    assert await ask(gateway, "pair") == (200, "two/m2")
    assert asked(one, "m1") == 4, "one probe, not retried"
    answer = await gateway.post({"model": "solo", "messages": [{"role": "user", "content": "Hi"}]})
    assert answer.status_code == 503 and int(answer.headers["retry-after-ms"]) > FIRST_OPEN_S * 1000 * (1 - SPREAD)


@BOTH
async def test_a_kept_connection_that_is_reset_once_the_request_was_read_costs_an_attempt(gateway: Gateway, one: Upstream, stream: bool) -> None:
    async def dies(x: Exchange) -> None:
        x.reset()

    assert await ask(gateway, "pair", stream) == (200, "one/m1")
    one.plays["m1"] = [dies, good]
    assert await ask(gateway, "pair", stream) == (200, "one/m1")
    assert [row.status for row in await gateway.all_rows()] == ["ok", "failed", "ok"]
