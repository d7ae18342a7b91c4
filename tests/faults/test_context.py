"""A prompt that is too long for one model may fit another; the same model is not asked again."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.gateway import anthropic_upstream as anthropic
from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.upstream import Upstream, status

CONFIG = """
state: {{database: "sqlite:///{folder}/t.db"}}
providers:
  one: {{kind: anthropic, base_url: "{one}", api_key: k}}
  two: {{kind: anthropic, base_url: "{two}", api_key: k}}
  three: {{kind: openai-compatible, base_url: "{one}", api_key: k}}
  four: {{kind: openai-compatible, base_url: "{two}", api_key: k}}
models:
  larger: {{targets: [{{provider: one, model: m1, context: 1000}}, {{provider: two, model: m2, context: 9000}}]}}
  same: {{targets: [{{provider: one, model: m1, context: 1000}}, {{provider: two, model: m1, context: 1000}}]}}
  said: {{targets: [{{provider: three, model: m1}}, {{provider: four, model: m1}}, {{provider: four, model: m2}}]}}
teams: {{t: {{keys: [{key}]}}}}
"""
LONG = "word " * 650  # about 800 tokens: it might fit


@pytest.fixture
async def gateway(one: Upstream, two: Upstream, tmp_path: Path) -> AsyncIterator[Gateway]:
    one.plays["m1"] = anthropic.error(400, "invalid_request_error")
    two.plays["m2"] = anthropic.says(anthropic.text("Hello"))
    async with running(CONFIG.format(folder=tmp_path, one=one.base_url, two=two.base_url, key=KEY), tmp_path) as gateway:
        yield gateway


async def ask(gateway: Gateway, model: str, text: str) -> tuple[int, str]:
    """Status, error code or target."""
    body = {"model": model, "max_tokens": 10, "messages": [{"role": "user", "content": text}]}
    answer = await gateway.post(body, path="/v1/messages")
    return answer.status_code, answer.headers.get("x-turnout-target") or answer.json()["error"]["code"]


async def test_a_refusal_that_says_nothing_may_be_of_the_length_of_a_prompt_that_is_nearly_too_long(gateway: Gateway, one: Upstream) -> None:
    assert await ask(gateway, "larger", LONG) == (200, "two/m2")
    assert len(one.journal) == 1


async def test_a_refusal_of_a_short_prompt_is_final(gateway: Gateway, two: Upstream) -> None:
    assert await ask(gateway, "larger", "Hi") == (400, "upstream_rejected")
    assert not two.journal


async def test_the_same_model_elsewhere_is_not_asked(gateway: Gateway, two: Upstream) -> None:
    assert await ask(gateway, "same", LONG) == (400, "upstream_rejected")
    assert not two.journal


async def test_where_the_provider_says_so_another_model_is_asked_and_the_same_one_is_not(gateway: Gateway, one: Upstream, two: Upstream) -> None:
    one.plays["m1"] = status(400, b'{"error":{"code":"context_length_exceeded","message":"CANARY"}}')
    del two.plays["m2"]
    assert await ask(gateway, "said", LONG) == (200, "four/m2")
    assert [seen.body["model"] for seen in two.journal] == ["m2"]


def refusal(message: str) -> bytes:
    return b'{"type":"error","error":{"type":"invalid_request_error","message":"%b"}}' % message.encode()


async def test_where_the_provider_says_so_in_words_alone_another_model_is_asked_however_short_the_prompt_seemed(
    gateway: Gateway, one: Upstream
) -> None:
    one.plays["m1"] = status(400, refusal("prompt is too long: 209353 tokens > 200000 maximum"))
    assert await ask(gateway, "larger", "Hi") == (200, "two/m2")


async def test_what_a_content_filter_blocked_is_asked_of_nobody_else_however_long_the_prompt(gateway: Gateway, one: Upstream, two: Upstream) -> None:
    one.plays["m1"] = status(400, refusal("Output blocked by content filtering policy"))
    assert await ask(gateway, "larger", LONG) == (400, "content_policy_violation")
    assert not two.journal
