"""Several keys for one provider, and none that is ready: what a client sees and what reaches the provider."""

import json
import time
from collections.abc import AsyncIterator

import pytest

from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.upstream import Exchange, Play, Upstream, chunk, good, status

ASK = [{"role": "user", "content": "Hi"}]
BOTH = pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])


async def limited_in_band(x: Exchange) -> None:
    """In a stream the limit may be told after its head; a unary answer has a status for it."""
    if not x.seen.body.get("stream"):
        await status(429, retry_after="60")(x)
        return
    await x.start_stream()
    await x.event(chunk({"role": "assistant", "content": ""}))
    await x.event({"error": {"message": "CANARY", "type": "requests", "code": "rate_limit_exceeded"}})
    await x.end_stream()


def for_first(play: Play) -> Play:
    """What the first of two keys meets; the other one has a good day."""

    async def played(x: Exchange) -> None:
        await (play if x.seen.head["authorization"] == "Bearer sk-first" else good)(x)

    return played


@pytest.fixture
async def keyed(one: Upstream, tmp_path) -> AsyncIterator[Gateway]:
    yaml = f"""
state: {{database: "sqlite:///{tmp_path}/t.db"}}
providers:
  two_keys: {{kind: openai-compatible, base_url: "{one.base_url}", api_keys: [sk-first, sk-second]}}
  one_key: {{kind: openai-compatible, base_url: "{one.base_url}", api_key: sk-only}}
models:
  m: {{targets: [{{provider: two_keys, model: m1}}]}}
  solo: {{targets: [{{provider: one_key, model: m1}}]}}
teams: {{t: {{keys: [{KEY}]}}}}
"""
    async with running(yaml, tmp_path) as gateway:
        yield gateway


def body(model: str, stream: bool = False) -> dict[str, object]:
    return {"model": model, "messages": ASK, "stream": stream}


@BOTH
@pytest.mark.parametrize(
    "play", [status(429, retry_after="60"), status(429), status(401), limited_in_band], ids=["429 and when", "429", "401", "in a stream"]
)
async def test_what_one_key_may_not_do_the_other_does_at_once(keyed: Gateway, one: Upstream, play: Play, stream: bool) -> None:
    one.plays["m1"] = for_first(play)
    began = time.monotonic()
    first = await keyed.post(body("m", stream))
    assert (first.status_code, first.headers["x-turnout-attempts"], first.headers["x-turnout-target"]) == (200, "2", "two_keys/m1")
    assert time.monotonic() - began < 20  # it does not wait for the key's rest
    for _ in range(2):
        assert (await keyed.post(body("m", stream))).headers["x-turnout-attempts"] == "1"
    assert [seen.head["authorization"] for seen in one.journal] == ["Bearer sk-first"] + ["Bearer sk-second"] * 3


async def test_with_no_key_left_a_client_is_told_when_to_come_back_and_the_provider_is_left_alone(keyed: Gateway, one: Upstream) -> None:
    one.plays["m1"] = status(401)
    assert (await keyed.post(body("m"))).json()["error"]["code"] == "upstream_auth_failed"
    assert len(one.journal) == 2
    answer = await keyed.post(body("m"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_target_ready")
    assert 50 <= int(answer.headers["retry-after"]) <= 60
    assert len(one.journal) == 2


@pytest.mark.parametrize(("asked", "least_s", "most_s"), [({}, 4, 5), ({"retry_after": "40"}, 40, 41), ({"retry_after": "1000"}, 1000, 1001)])
async def test_a_client_is_told_to_wait_as_long_as_the_key_rests_or_the_provider_wants(
    keyed: Gateway, one: Upstream, asked: dict[str, str], least_s: int, most_s: int
) -> None:
    one.plays["m1"] = status(429, **asked)
    answer = await keyed.post(body("solo"))
    assert answer.status_code == 429 and least_s <= int(answer.headers["retry-after"]) <= most_s
    again = await keyed.post(body("solo"))
    assert again.status_code == 503 and 1 <= int(again.headers["retry-after"]) <= min(most_s, 300)
    assert len(one.journal) == 1


async def test_the_rest_of_a_limited_key_ends_with_the_time_it_was_given(keyed: Gateway, one: Upstream) -> None:
    one.plays["m1"] = [status(429, retry_after_ms="300"), good, good]
    began = time.monotonic()
    assert (await keyed.post(body("solo"))).status_code == 200, "so short a time is waited for"
    assert time.monotonic() - began >= 0.29
    assert (await keyed.post(body("solo"))).headers["x-turnout-attempts"] == "1"


@BOTH
async def test_keys_that_are_spent_or_not_accepted_use_up_no_attempts(one: Upstream, tmp_path, stream: bool) -> None:
    spent = status(429, b'{"error":{"message":"CANARY","code":"insufficient_quota"}}')
    by_key = {"sk-spent": spent, "sk-wrong": status(401), "sk-limited": status(429), "sk-good": good}

    async def play(x: Exchange) -> None:
        await by_key[x.seen.head["authorization"].removeprefix("Bearer ")](x)

    one.plays["m1"] = play
    yaml = f"""
state: {{database: "sqlite:///{tmp_path}/t.db"}}
providers: {{four: {{kind: openai-compatible, base_url: "{one.base_url}", api_keys: [{", ".join(by_key)}]}}}}
models: {{m: {{targets: [{{provider: four, model: m1}}]}}}}
teams: {{t: {{keys: [{KEY}]}}}}
"""
    async with running(yaml, tmp_path) as gateway:
        answer = await gateway.post(body("m", stream))
        assert (answer.status_code, answer.headers.get("x-turnout-attempts")) == (200, "4"), answer.text
        by_key["sk-good"] = status(401)
        assert (await gateway.post(body("m", stream))).json()["error"]["code"] == "upstream_auth_failed"
        assert len(one.journal) == 5, "each key is asked once"


async def test_used_up_credit_at_anthropic_sets_the_keys_aside_and_another_target_answers(one: Upstream, tmp_path) -> None:
    told = "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits."
    one.plays["claude"] = status(400, json.dumps({"type": "error", "error": {"type": "invalid_request_error", "message": told}}).encode())
    yaml = f"""
state: {{database: "sqlite:///{tmp_path}/t.db"}}
providers:
  claude: {{kind: anthropic, base_url: "{one.base_url}", api_keys: [sk-first, sk-second]}}
  other: {{kind: openai-compatible, base_url: "{one.base_url}", api_key: k}}
models: {{m: {{targets: [{{provider: claude, model: claude}}, {{provider: other, model: m1}}]}}}}
teams: {{t: {{keys: [{KEY}]}}}}
"""
    async with running(yaml, tmp_path) as gateway:
        answers = [await gateway.post({**body("m"), "max_tokens": 8}) for _ in range(2)]
    assert [(each.headers.get("x-turnout-target"), each.headers.get("x-turnout-attempts")) for each in answers] == [
        ("other/m1", "3"),
        ("other/m1", "1"),
    ]
    assert [seen.head.get("x-api-key") for seen in one.journal] == ["sk-first", "sk-second", None, None]
