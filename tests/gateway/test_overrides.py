"""What a request may say of its own policy: by header and by the body's member, only where its team allows it, and only to narrow."""

import json
from collections.abc import AsyncIterator
from itertools import product
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from contract.errors import InvalidRequest
from gateway.auth import Principal
from gateway.overrides import ALL, common, overridden
from gateway.peek import read_chat_call
from policy.residency import Candidate, permits
from policy.rule import Residency, Rule
from tests.gateway.conftest import Gateway, running
from tests.gateway.upstream import Upstream, silent

CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
providers:
  one: {{kind: openai-compatible, base_url: "{one}", region: eu-west-1}}
  two: {{kind: openai-compatible, base_url: "{two}", region: us-east-1}}
models:
  pair:
    targets:
      - {{provider: one, model: m1, price: {{input_usd_per_mtok: 1000, output_usd_per_mtok: 1000}}}}
      - {{provider: two, model: m2, price: {{input_usd_per_mtok: 1, output_usd_per_mtok: 1}}}}
  europe: {{policy: europe, targets: [{{provider: one, model: m1}}, {{provider: two, model: m2}}]}}
policies:
  europe: {{residency: [eu]}}
  america: {{residency: [us]}}
  cheap: {{objective: cheapest, explore: 0}}
{teams}
"""
TEAMS = """
teams:
  free: {keys: [sk-free], overrides: true}
  some: {keys: [sk-some], overrides: [policy, deadline_ms]}
  none: {keys: [sk-none]}
  fixed: {keys: [sk-fixed], policy: europe, overrides: true}
"""
HELLO = {"model": "pair", "messages": [{"role": "user", "content": "Hello?"}]}
PATHS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": HELLO,
    "/v1/messages": {**HELLO, "max_tokens": 20},
    "/v1/completions": {"model": "pair", "prompt": "Hello?"},
    "/v1/responses": {"model": "pair", "input": "Hello?"},
}


@pytest.fixture
async def free(one: Upstream, two: Upstream, tmp_path: Path) -> AsyncIterator[Gateway]:
    yaml = CONFIG.format(folder=tmp_path, one=one.base_url, two=two.base_url, teams=TEAMS)
    async with running(yaml, tmp_path) as gateway:
        yield gateway


async def answered_by(gateway: Gateway, body: dict[str, Any], key: str = "sk-free", **headers: str) -> str:
    answer = await gateway.post(body, key, **headers)
    assert answer.status_code == 200, answer.text
    return answer.headers["x-turnout-target"]


async def refusal(gateway: Gateway, body: dict[str, Any], key: str = "sk-free", **headers: str) -> tuple[int, str, str | None]:
    answer = await gateway.post(body, key, **headers)
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["param"]


def said(member: str, value: Any) -> dict[str, Any]:
    return {**HELLO, "turnout": {member: value}}


# --- what is said is done --------------------------------------------------------------------------------------------------
DONE = [("policy", "cheap"), ("policy", "america"), ("residency", "us-east-1"), ("max-cost", "0.005"), ("max-cost", "5e-03"), ("max-cost", "5.0E-3")]


@pytest.mark.parametrize(("name", "value"), DONE)
async def test_a_header_chooses_another_target_than_the_models_own_policy(free: Gateway, name: str, value: str) -> None:
    assert await answered_by(free, HELLO) == "one/m1"
    assert await answered_by(free, HELLO, **{f"x-turnout-{name}": value}) == "two/m2"


MEMBERS = [("policy", "cheap"), ("residency", ["us-east-1"]), ("residency", ["asia", "us"]), ("max_cost_usd", 0.005)]


@pytest.mark.parametrize(("member", "value"), MEMBERS)
async def test_the_bodys_member_does_what_the_header_does(free: Gateway, member: str, value: Any) -> None:
    assert await answered_by(free, said(member, value)) == "two/m2"


@pytest.mark.parametrize("path", PATHS)
async def test_every_dialect_takes_the_header(free: Gateway, path: str) -> None:
    answer = await free.post(PATHS[path], "sk-free", path, **{"x-turnout-policy": "cheap"})
    assert (answer.status_code, answer.headers["x-turnout-target"]) == (200, "two/m2")


@pytest.mark.parametrize("path", PATHS)
async def test_every_dialect_takes_the_bodys_member_and_nothing_of_it_goes_upstream(free: Gateway, two: Upstream, path: str) -> None:
    answer = await free.post({**PATHS[path], "turnout": {"policy": "cheap"}}, "sk-free", path)
    assert (answer.status_code, answer.headers["x-turnout-target"]) == (200, "two/m2")
    assert b"turnout" not in two.journal[-1].raw and not any("turnout" in name for name in two.journal[-1].head)


async def test_all_else_of_the_body_goes_upstream_as_it_came(free: Gateway, two: Upstream) -> None:
    await free.post(
        b'{"model":"pair","turnout":{"policy":"cheap"},"messages":[{"role":"user","content":"H\\u0065llo?","x":1.50}],"own":[ 1e2 ]}', "sk-free"
    )
    assert two.journal[-1].raw == b'{"model":"m2","messages":[{"role":"user","content":"H\\u0065llo?","x":1.50}],"own":[ 1e2 ]}'


async def test_the_official_sdk_may_say_it_either_way(free: Gateway) -> None:
    client = free.sdk.with_options(api_key="sk-free")
    for extra in ({"extra_headers": {"x-turnout-policy": "cheap"}}, {"extra_body": {"turnout": {"policy": "cheap"}}}):
        raw = await client.chat.completions.with_raw_response.create(model="pair", messages=[{"role": "user", "content": "Hello?"}], **extra)
        assert raw.headers["x-turnout-target"] == "two/m2"


@pytest.mark.parametrize("say", ["header", "member"])
async def test_a_deadline_ends_a_request_that_no_target_answers(free: Gateway, one: Upstream, two: Upstream, say: str) -> None:
    one.plays["m1"] = two.plays["m2"] = silent
    began = monotonic()
    body, headers = (said("deadline_ms", 400), {}) if say == "member" else (HELLO, {"x-turnout-deadline-ms": "400"})
    answer = await free.post(body, "sk-free", **headers)
    assert answer.status_code == 504 and 0.3 < monotonic() - began < 20


@pytest.mark.parametrize("value", [None, {}, {"policy": None, "residency": None}])
async def test_a_member_that_says_nothing_is_taken_out_and_changes_nothing(free: Gateway, one: Upstream, value: Any) -> None:
    assert await answered_by(free, {**HELLO, "turnout": value}, "sk-none") == "one/m1"
    assert b"turnout" not in one.journal[-1].raw


async def test_several_overrides_hold_together(free: Gateway) -> None:
    assert await answered_by(free, said("policy", "cheap"), **{"x-turnout-residency": "eu"}) == "one/m1"


async def test_a_residency_in_the_body_that_leaves_no_target_is_named(free: Gateway) -> None:
    error = (await free.post({**said("residency", ["asia"]), "model": "pair"}, "sk-free")).json()["error"]
    assert error["message"].startswith("the residency that this request asks for")


# --- only to narrow -----------------------------------------------------------------------------------------------------------
NOTHING_LEFT = [
    ("pair", "sk-free", {"x-turnout-residency": "local_only"}),
    ("pair", "sk-free", {"x-turnout-residency": "asia"}),
    ("europe", "sk-free", {"x-turnout-policy": "america"}),
    ("europe", "sk-free", {"x-turnout-residency": "us"}),
    ("pair", "sk-fixed", {"x-turnout-policy": "america"}),
    ("pair", "sk-free", {"x-turnout-policy": "europe", "x-turnout-residency": "us"}),
]


@pytest.mark.parametrize(("model", "key", "headers"), NOTHING_LEFT)
async def test_where_a_residency_leaves_no_target_none_is_asked(
    free: Gateway, one: Upstream, two: Upstream, model: str, key: str, headers: dict[str, str]
) -> None:
    answer = await free.post({**HELLO, "model": model}, key, **headers)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (403, "no_allowed_target")
    blamed = "the residency that this request asks for" if "x-turnout-residency" in headers else f"the policy '{headers['x-turnout-policy']}' leaves"
    assert error["message"].startswith(blamed)
    assert not one.journal and not two.journal


@pytest.mark.parametrize("headers", [{"x-turnout-residency": "any"}, {"x-turnout-policy": "cheap"}, {"x-turnout-residency": "eu, us"}])
async def test_no_override_widens_a_residency(free: Gateway, two: Upstream, headers: dict[str, str]) -> None:
    for model, key in (("europe", "sk-free"), ("pair", "sk-fixed")):
        assert await answered_by(free, {**HELLO, "model": model}, key, **headers) == "one/m1"
    assert not two.journal


RESIDENCIES: list[Residency] = ["any", "local_only", ("eu",), ("us",), ("eu-west-1",), ("eu", "us"), ("eu-west-1", "us-east-1"), ("eu-west", "asia")]
PLACES = ["", "eu", "eu-west-1", "eu-west-2", "us", "us-east-1", "asia", "asia-east", "europe"]


@pytest.mark.parametrize(("one", "other"), list(product(RESIDENCIES, RESIDENCIES)))
def test_what_two_residencies_have_in_common_is_what_both_permit(one: Residency, other: Residency) -> None:
    candidates = [Candidate(0, "t", owned, region) for owned in (True, False) for region in PLACES]
    both = common(one, other)
    assert [permits(both, each) for each in candidates] == [permits(one, each) and permits(other, each) for each in candidates]


# --- only where the team allows it ---------------------------------------------------------------------------------------------
SAID = [
    ({"x-turnout-policy": "cheap"}, None, "x-turnout-policy"),
    ({"x-turnout-deadline-ms": "900"}, None, "x-turnout-deadline-ms"),
    ({"x-turnout-max-cost": "1"}, None, "x-turnout-max-cost"),
    ({"x-turnout-residency": "eu"}, None, "x-turnout-residency"),
    ({}, {"policy": "cheap"}, "turnout.policy"),
    ({}, {"deadline_ms": 900}, "turnout.deadline_ms"),
    ({}, {"max_cost_usd": 1}, "turnout.max_cost_usd"),
    ({}, {"residency": "eu"}, "turnout.residency"),
]


@pytest.mark.parametrize(("headers", "member", "param"), SAID, ids=[param for _, _, param in SAID])
async def test_a_team_that_may_not_is_refused_and_no_target_is_asked(
    free: Gateway, one: Upstream, headers: dict[str, str], member: dict[str, Any] | None, param: str
) -> None:
    body = HELLO if member is None else {**HELLO, "turnout": member}
    assert await refusal(free, body, "sk-none", **headers) == (403, "override_not_allowed", param)
    assert not one.journal


async def test_a_team_may_do_what_it_is_allowed_and_no_more(free: Gateway) -> None:
    assert await answered_by(free, HELLO, "sk-some", **{"x-turnout-policy": "cheap", "x-turnout-deadline-ms": "60000"}) == "two/m2"
    told = await refusal(free, HELLO, "sk-some", **{"x-turnout-policy": "cheap", "x-turnout-residency": "us"})
    assert told == (403, "override_not_allowed", "x-turnout-residency")


async def test_the_bootstrap_key_may_override_everything(one: Upstream, two: Upstream, tmp_path: Path) -> None:
    yaml = CONFIG.format(folder=tmp_path, one=one.base_url, two=two.base_url, teams="")
    async with running(yaml, tmp_path) as gateway:
        key = gateway.runtime.bootstrap_key
        headers = {"x-turnout-policy": "cheap", "x-turnout-residency": "us", "x-turnout-max-cost": "1", "x-turnout-deadline-ms": "60000"}
        assert await answered_by(gateway, HELLO, str(key), **headers) == "two/m2"


# --- what makes no sense --------------------------------------------------------------------------------------------------------
BAD_HEADERS = [
    ("x-turnout-policy", "chaep", "did you mean `cheap`?"),
    ("x-turnout-policy", "", "known: america, cheap, europe"),
    *[
        ("x-turnout-deadline-ms", value, "a number of milliseconds from 1 to")
        for value in ("soon", "", "0", "-5", "nan", "1e9", "9" * 40, "86400001")
    ],
    *[
        ("x-turnout-max-cost", value, "a number of US dollars from 0 to")
        for value in ("cheap", "-1", "-1e-3", "inf", "nan", "$1", "1,5", "1000001", "1e7", "1e99", "1e999", "1e", "e5", "1e-5" + "0" * 20, "9" * 400)
    ],
    *[
        ("x-turnout-residency", value, "must be any, local_only, or a list")
        for value in ("", ",", "eu,", "e u", "eu,any", "eu/1", ",".join(["eu"] * 51))
    ],
    ("x-turnout-residence", "eu", "did you mean `x-turnout-residency`?"),
    ("x-turnout-", "eu", "there is no header"),
]


def refused(body: dict[str, Any], headers: list[tuple[bytes, bytes]]) -> InvalidRequest:
    """What the edge refuses a request with that a team of every right sends."""
    principal, rules = Principal("free", "k", overrides=ALL), {name: Rule(name) for name in ("america", "cheap", "europe")}
    with pytest.raises(InvalidRequest) as caught:
        overridden(Rule(), read_chat_call("req_1", json.dumps(body).encode(), headers), headers, principal, rules)
    return caught.value


@pytest.mark.parametrize(("name", "value", "words"), BAD_HEADERS, ids=[f"{name}: {value[:20]}" for name, value, _ in BAD_HEADERS])
def test_a_header_that_makes_no_sense_is_refused_by_name(name: str, value: str, words: str) -> None:
    error = refused(HELLO, [(b"accept", b"*/*"), (name.encode(), value.encode())])
    assert error.param == name and words in error.message


BAD_MEMBERS: list[tuple[Any, str]] = [
    ({"policy": "chaep"}, "turnout.policy"),
    ({"policy": 5}, "turnout.policy"),
    ({"policy": ["cheap"]}, "turnout.policy"),
    *[({"deadline_ms": value}, "turnout.deadline_ms") for value in ("900", True, 0, -1, [900], 1e30)],
    *[({"max_cost_usd": value}, "turnout.max_cost_usd") for value in ("1", True, -0.1, [1], 1e30)],
    *[({"residency": value}, "turnout.residency") for value in (5, [], [5], ["any"], [["eu"]], {"eu": 1}, "", ["eu"] * 51)],
    ({"residence": "eu"}, "turnout"),
    ([], "turnout"),
    ("cheap", "turnout"),
    (True, "turnout"),
]


@pytest.mark.parametrize(("member", "param"), BAD_MEMBERS, ids=[str(member)[:40] for member, _ in BAD_MEMBERS])
def test_a_member_that_makes_no_sense_is_refused_by_name(member: Any, param: str) -> None:
    assert refused({**HELLO, "turnout": member}, []).param == param


@pytest.mark.parametrize("header", ["x-turnout-policy", "x-turnout-residency"])
def test_what_is_said_twice_is_refused(header: str) -> None:
    assert refused(HELLO, [(header.encode(), b"eu")] * 2).param == header
    assert refused(said(header.removeprefix("x-turnout-"), "eu"), [(header.encode(), b"eu")]).param == header.replace("x-turnout-", "turnout.")


async def test_a_refusal_is_told_as_400_and_no_target_is_asked(free: Gateway, one: Upstream) -> None:
    assert await refusal(free, HELLO, **{"x-turnout-max-cost": "cheap"}) == (400, "invalid_request", "x-turnout-max-cost")
    assert not one.journal


def test_a_request_that_says_nothing_keeps_its_rule_and_its_call() -> None:
    rule, call, headers = Rule(), read_chat_call("req_1", json.dumps(HELLO).encode(), []), [(b"accept", b"*/*")]
    told = overridden(rule, call, headers, Principal("none", "k"), {})
    assert told[0] is rule and told[1] is call


async def test_the_specification_tells_every_override(free: Gateway) -> None:
    operation = (await free.http.get("/openapi.json")).json()["paths"]["/v1/chat/completions"]["post"]
    assert {parameter["name"] for parameter in operation["parameters"]} == {param for _, member, param in SAID if member is None}
    member = operation["requestBody"]["content"]["application/json"]["schema"]["properties"]["turnout"]
    assert {f"turnout.{name}" for name in member["properties"]} == {param for _, member, param in SAID if member is not None}
