"""Keys made at run time before a real gateway: they work within a moment, stop within a moment, and never stand for more than their team."""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from structlog.testing import capture_logs

from gateway.key_watch import EVERY_S
from ledger.database import open_engine
from ledger.keys import Keys
from tests.gateway.conftest import Gateway, running
from tests.gateway.test_command import serving
from tests.gateway.upstream import Upstream

CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
providers:
  one: {{kind: openai-compatible, base_url: "{one}", api_key: sk-upstream-one}}
models:
  solo: {{targets: [{{provider: one, model: m1, price: free}}]}}
  other: {{targets: [{{provider: one, model: m1, price: free}}]}}
teams:
  search: {{keys: [{key}]}}
  narrow: {{models: [solo]}}
"""
QUESTION = {"model": "solo", "messages": [{"role": "user", "content": "Hello"}]}
WITHIN_S = 1.0


@pytest.fixture
def text(one: Upstream, tmp_path: Path) -> str:
    return CONFIG.format(folder=tmp_path, one=one.base_url, key="sk-of-the-file")


@pytest.fixture
async def gateway(text: str, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running(text, tmp_path) as gateway:
        yield gateway


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Keys]:
    """The keys as another process has them."""
    engine = open_engine(f"sqlite:///{tmp_path}/turnout.db")
    yield Keys(engine)
    engine.dispose()


async def eventually(ask: Callable[[], Any], wanted: int) -> float:
    """Asks until the answer has that status; gives how long that took."""
    began = time.monotonic()
    while (status := (await ask()).status_code) != wanted:
        assert status in (200, 401) and time.monotonic() - began < 20
        await asyncio.sleep(0.01)
    return time.monotonic() - began


async def known(gateway: Gateway, secret: str) -> None:
    await eventually(lambda: gateway.post(QUESTION, secret), 200)


async def gone(gateway: Gateway, secret: str) -> None:
    await eventually(lambda: gateway.post(QUESTION, secret), 401)


async def test_a_key_that_another_process_makes_works_and_its_requests_are_its_own(gateway: Gateway, store: Keys) -> None:
    key, secret = store.make("search", "ci", "ada")
    await known(gateway, secret)
    answer = await gateway.post(QUESTION, secret)
    (row,) = await gateway.rows(answer.headers["x-request-id"])
    assert (row.team, row.key_id) == ("search", key.id)
    assert (await gateway.http.get("/v1/models", headers={"x-api-key": secret})).status_code == 200
    assert (await gateway.post(QUESTION, "sk-of-the-file")).status_code == 200


async def test_a_key_that_was_made_before_the_gateway_is_known_from_its_first_request(text: str, tmp_path: Path, store: Keys) -> None:
    _, secret = store.make("search", "ci", "ada")
    async with running(text, tmp_path) as gateway:
        assert (await gateway.post(QUESTION, secret)).status_code == 200


async def test_where_a_key_was_made_no_bootstrap_key_is(text: str, tmp_path: Path, store: Keys) -> None:
    without = text.replace("keys: [sk-of-the-file]", "")
    async with running(without, tmp_path) as gateway:
        bootstrap = gateway.runtime.bootstrap_key
        assert bootstrap is not None and (await gateway.post(QUESTION, bootstrap)).status_code == 200
    store.make("search", "ci", "ada")
    async with running(without, tmp_path) as gateway:
        assert gateway.runtime.bootstrap_key is None and (await gateway.post(QUESTION, bootstrap)).status_code == 401


async def test_revoked_expired_and_unknown_keys_look_alike(gateway: Gateway, store: Keys) -> None:
    revoked, expired = store.make("search", "ci", "ada"), store.make("search", "ci", "ada", expires_in_s=1)
    await known(gateway, revoked[1])
    store.revoke(revoked[0].id)
    answers = []
    for secret in (revoked[1], expired[1], "sk-turnout-never-made"):
        await gone(gateway, secret)
        answer = await gateway.post(QUESTION, secret)
        error = answer.json()["error"]
        assert error.pop("request_id") == answer.headers["x-request-id"]
        headers = {name for name, _ in answer.headers.multi_items()}
        answers.append((answer.status_code, error, headers))
    assert answers[0] == answers[1] == answers[2]


async def test_a_key_ends_on_time_though_nothing_changes_and_the_database_is_not_read(gateway: Gateway, store: Keys) -> None:
    _, secret = store.make("search", "ci", "ada", expires_in_s=2)
    await known(gateway, secret)
    await gateway.runtime.key_watch.stop()
    await gone(gateway, secret)


async def test_a_rotated_key_s_old_secret_holds_for_its_grace_alone(gateway: Gateway, store: Keys) -> None:
    key, old = store.make("search", "ci", "ada")
    await known(gateway, old)
    done = store.rotate(key.id, 2)
    assert done is not None
    await known(gateway, done[1])
    assert (await gateway.post(QUESTION, old)).status_code == 200
    await gone(gateway, old)
    answer = await gateway.post(QUESTION, done[1])
    (row,) = await gateway.rows(answer.headers["x-request-id"])
    assert row.key_id == key.id


async def test_a_key_never_may_more_than_its_team_whatever_it_was_made_with(gateway: Gateway, store: Keys) -> None:
    own = json.dumps({"models": ["solo", "other"]})
    both, narrow, bare = (store.make(team, "", "ada", own)[1] for team, own in (("search", own), ("narrow", own), ("narrow", "{}")))
    less = store.make("search", "", "ada", json.dumps({"models": ["other"]}))[1]
    await eventually(lambda: gateway.post({**QUESTION, "model": "other"}, less), 200)
    for secret, models in ((both, {"solo", "other"}), (narrow, {"solo"}), (bare, {"solo"}), (less, {"other"})):
        listed = (await gateway.http.get("/v1/models", headers={"authorization": f"Bearer {secret}"})).json()["data"]
        assert {model["id"] for model in listed} == models
        for model in ("solo", "other"):
            assert (await gateway.post({**QUESTION, "model": model}, secret)).status_code == (200 if model in models else 404)


@pytest.mark.parametrize(("team", "own"), [("gone", "{}"), ("search", "not JSON"), ("search", '{"rpm": 1}'), ("search", '{"limits": {"rpm": 0}}')])
async def test_a_key_of_no_team_or_that_cannot_be_read_is_not_valid(gateway: Gateway, store: Keys, team: str, own: str) -> None:
    _, secret = store.make(team, "", "ada", own)
    _, good = store.make("search", "", "ada")
    await known(gateway, good)
    assert (await gateway.post(QUESTION, secret)).status_code == 401


async def test_limits_and_budgets_of_a_key_count_beside_its_team_s(gateway: Gateway, store: Keys) -> None:
    own = {"limits": {"rpm": 5}, "budget": {"usd": 1.5, "window": "day"}, "max_usd_per_request": 0.1, "max_tokens_per_request": 9}
    key, secret = store.make("search", "", "ada", json.dumps(own))
    await known(gateway, secret)
    principal = gateway.runtime.keys.principal([(b"x-api-key", secret.encode())])
    (scope,) = principal.scopes
    assert (scope.id, scope.limits.rpm, scope.budgets[0].nusd, scope.budgets[0].window) == (f"key:{key.id}", 5, 1_500_000_000, "day")
    assert (principal.max_nusd, principal.max_tokens) == (100_000_000, 9)


async def test_a_second_team_s_first_key_ends_being_the_only_team_and_its_last_does_not_bring_it_back(gateway: Gateway, store: Keys) -> None:
    assert gateway.runtime.keys.one_team
    _, same = store.make("search", "", "ada")
    await known(gateway, same)
    assert gateway.runtime.keys.one_team
    key, other = store.make("narrow", "", "ada")
    await known(gateway, other)
    assert not gateway.runtime.keys.one_team
    store.revoke(key.id)
    await gone(gateway, other)
    assert not gateway.runtime.keys.one_team


async def test_a_database_that_fails_leaves_the_keys_that_were_known(gateway: Gateway, store: Keys, tmp_path: Path) -> None:
    _, secret = store.make("search", "", "ada")
    await known(gateway, secret)
    with store.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE tenancy_changes RENAME TO elsewhere")
    with capture_logs() as logged:
        for _ in range(3):
            await gateway.runtime.key_watch.look()
            assert (await gateway.post(QUESTION, secret)).status_code == 200
    told = [line["event"] for line in logged if "the keys" in line["event"]]
    assert told == ["the keys cannot be read: those that were known last hold"]
    with store.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO tenancy_changes")
    _, later = store.make("search", "", "ada")
    await known(gateway, later)


async def test_a_thousand_hostile_keys_are_401_and_none_is_anything_else(gateway: Gateway, store: Keys) -> None:
    """SQL, paths, formats, half secrets, other alphabets and plain noise, as the header's bytes."""
    _, secret = store.make("search", "", "ada")
    await known(gateway, secret)
    dice = random.Random(7)
    cores = ["' OR '1'='1", '" OR ""="', "'; DROP TABLE keys;--", "1) UNION SELECT digest FROM key_secrets--", "%00", "%s%n", "${KEY}", "{{7*7}}"]
    cores += ["../../etc/passwd", "null", "true", "*", "%", "_", "[]", "{}", "0", "-1", "admin", "Bearer", secret[:-1], secret + "x", secret.upper()]
    cores += [secret.replace("sk-", "SK-"), f"{secret},{secret}", f"{secret} {secret}", "ключ", "🔑", "é" * 9, "A" * 9000, "default"]
    tried = [core.encode() for core in cores]
    while len(tried) < 1000:
        noise = bytes(dice.choice([*range(0x21, 0x7F), *range(0x80, 0x100)]) for _ in range(dice.randrange(1, 80)))
        tried.append(dice.choice([noise, dice.choice(cores).encode() + noise, noise + dice.choice(cores).encode()]))
    host, port = gateway.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    for number, key in enumerate(tried):
        header = (b"authorization: Bearer ", b"x-api-key: ")[number % 2] + key
        writer.write(b"GET /v1/models HTTP/1.1\r\nhost: a\r\n" + header + b"\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        body = json.loads(await reader.readexactly(length))
        assert head.startswith(b"HTTP/1.1 401 ") and body["error"]["code"] == "invalid_api_key", key
        assert body["error"]["message"] == "the API key is not valid", key
    writer.close()
    assert (await gateway.post(QUESTION, secret)).status_code == 200


async def test_in_two_processes_a_key_works_and_once_revoked_stops_within_a_second(text: str, tmp_path: Path, store: Keys) -> None:
    (tmp_path / "turnout.yaml").write_text(text)
    with serving(tmp_path, "--config", "turnout.yaml") as (first, _), serving(tmp_path, "--config", "turnout.yaml") as (second, _):
        async with httpx2.AsyncClient(trust_env=False, timeout=20) as http:
            key, secret = store.make("search", "ci", "ada")
            asks = [lambda url=url: http.get(f"{url}/v1/models", headers={"x-api-key": secret}) for url in (first, second)]
            await asyncio.gather(*(eventually(ask, 200) for ask in asks))
            store.revoke(key.id)
            took = await asyncio.gather(*(eventually(ask, 401) for ask in asks))
    assert EVERY_S <= WITHIN_S / 5 and max(took) < WITHIN_S
