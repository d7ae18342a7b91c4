"""What could never take effect as it is written: which of it is refused, which is advice, and where it is told."""

import re
from itertools import permutations
from pathlib import Path

import pytest

from config.document import ConfigError
from config.reachability import entry_for, permitted
from config.settings import ModelSettings, PolicySettings, Settings, TargetSettings
from policy.residency import Candidate, permits
from tests.config.files import loaded, places, refused

ENV = {"OPENAI_API_KEY": "sk-o", "ANTHROPIC_API_KEY": "sk-a"}
HEAD = """
providers:
  o: {kind: openai, api_key: "${OPENAI_API_KEY}"}
  eu: {kind: openai-compatible, base_url: "http://127.0.0.1:9100/v1", region: eu-west-1}
  us: {kind: openai-compatible, base_url: "http://127.0.0.1:9200/v1", region: us-east-1}
engines: {e: {kind: llamacpp, model: "builtin:smollm2-135m-instruct", context: 2048}}
"""
PRICE = "price: {input_usd_per_mtok: 1, output_usd_per_mtok: 2}"
LINES = HEAD.strip().count("\n") + 1  # of HEAD: what a test adds begins on the next


def told(folder: Path, text: str) -> list[str]:
    """The advice that a text is given behind HEAD, its lines counted from the text's first."""
    return [
        f"{f.place.line - LINES}:{f.place.column}: {f.message}" for f in loaded(folder, HEAD.strip() + "\n" + text.strip(), ENV).advice if f.place
    ]


def faults(folder: Path, text: str) -> list[str]:
    lines = [line.split(":", 1) for line in places(refused(folder, HEAD.strip() + "\n" + text.strip(), ENV))]
    return [f"{int(line) - LINES}:{rest}" for line, rest in lines]


# --- residency that leaves no target: refused ----------------------------------------------------------------------------------
NO_TARGET = [
    (
        "models: {m: {policy: p, targets: [{provider: o, model: gpt-4o}]}}\npolicies: {p: {residency: local_only}}",
        "1:22: the residency of `p` leaves no target of `m`; add an engine, or a provider whose `region` it names",
    ),
    (
        "models: {m: {policy: p, targets: [{provider: o, model: gpt-4o}, {provider: us}]}}\npolicies: {p: {residency: [eu, asia]}}",
        "1:22: the residency of `p` leaves no target of `m`; add an engine, or a provider whose `region` it names",
    ),
    (
        "models: {m: {targets: [{provider: us}]}, n: {targets: [{engine: e}]}}\npolicies: {p: {residency: [eu]}}\n"
        "teams: {t: {policy: p, models: [n, m], keys: [k]}}",
        "3:36: the residency of the team's policy `p` leaves no target of `m`; take the model out, or add a target",
    ),
    (
        "models: {m: {targets: [{provider: us}]}}\npolicies: {p: {residency: local_only}}\nteams: {t: {policy: p, keys: [k]}}",
        "3:21: the residency of `p` leaves no target of any model; add one, or choose another",
    ),
]


@pytest.mark.parametrize(("text", "fault"), NO_TARGET, ids=["local_only", "regions", "a team's models", "all of a team's models"])
def test_a_residency_that_leaves_no_target_is_refused(tmp_path: Path, text: str, fault: str) -> None:
    assert faults(tmp_path, text) == [fault]


LEFT = [
    "models: {m: {policy: p, targets: [{engine: e}]}}\npolicies: {p: {residency: local_only}}",
    "models: {m: {policy: p, targets: [{engine: e}]}}\npolicies: {p: {residency: [eu]}}",
    "models: {m: {policy: p, targets: [{provider: eu}]}}\npolicies: {p: {residency: [eu]}}",
    "models: {m: {policy: p, targets: [{provider: eu}]}}\npolicies: {p: {residency: [us, eu-west-1]}}",
    "models: {m: {targets: [{provider: us}]}, n: {targets: [{engine: e}]}}\npolicies: {p: {residency: [eu]}}\nteams: {t: {policy: p, keys: [k]}}",
    "models: {m: {targets: [{provider: us}]}}\npolicies: {p: {residency: local_only, fallback: local}}\n"
    "teams: {t: {policy: p, models: [m], keys: [k]}}",
]


@pytest.mark.parametrize("text", LEFT)
def test_a_residency_that_leaves_a_target_is_not(tmp_path: Path, text: str) -> None:
    assert loaded(tmp_path, HEAD.strip() + "\n" + text, ENV).settings.models


def test_an_engine_that_fallback_local_adds_is_a_target_too(tmp_path: Path) -> None:
    text = "models: {m: {policy: p, targets: [{provider: eu}]}}\npolicies: {p: {residency: local_only, fallback: local}}"
    assert told(tmp_path, text) == ["1:35: this target is never tried: residency: local_only"]


@pytest.mark.parametrize("residency", ["any", "local_only", ("eu",), ("eu-west-1",), ("us", "eu-west")])
def test_what_the_check_permits_is_what_the_plan_permits(residency: str | tuple[str, ...]) -> None:
    policy = PolicySettings.model_validate({"residency": residency})
    for region in (None, "eu", "eu-west-1", "eu-west-2", "europe", "us"):
        for owned in (True, False):
            assert permitted(policy, region, owned) is permits(policy.residency, Candidate(0, "t", owned, region or ""))


# --- prices that are not known where prices decide: refused --------------------------------------------------------------------
UNPRICED = [
    ("{provider: o, model: gpt-nobody-sells}", "{objective: cheapest}", "objective: cheapest"),
    ("{provider: o, model: gpt-nobody-sells}", "{objective: weighted}", "objective: weighted"),
    ("{provider: o, model: gpt-nobody-sells}", "{objective: {weighted: {cost: 1, latency: 3}}}", "objective: weighted"),
    ("{provider: o, model: gpt-nobody-sells}", "{max_usd_per_request: 1}", "max_usd_per_request"),
    ("{provider: eu}", "{objective: cheapest}", "objective: cheapest"),
]


@pytest.mark.parametrize(("target", "policy", "why"), UNPRICED, ids=[f"{target} {policy}" for target, policy, _ in UNPRICED])
def test_a_target_without_a_price_is_refused_where_the_policy_decides_by_it(tmp_path: Path, target: str, policy: str, why: str) -> None:
    text = f"models: {{m: {{policy: p, targets: [{{engine: e}}, {target}]}}}}\npolicies: {{p: {policy}}}"
    assert faults(tmp_path, text) == [
        f"1:48: the price of this target is not known, and `p` decides by it ({why}); add `price`, or `price: free` where nothing is paid"
    ]


def test_a_teams_policy_decides_too(tmp_path: Path) -> None:
    text = "models: {m: {targets: [{provider: eu}]}}\npolicies: {p: {objective: cheapest}}\nteams: {t: {policy: p, keys: [k]}}"
    assert faults(tmp_path, text)[0].startswith("1:24: the price of this target is not known, and `p` decides by it")


SPENDERS = [
    ("teams: {t: {budget: {usd: 5}, keys: [k]}}", "team `t` has a budget"),
    ("teams: {t: {models: [m], max_usd_per_request: 1, keys: [k]}}", "team `t` has a max_usd_per_request"),
    ("organisations: {o: {budget: {usd: 5}}}\nteams: {t: {organisation: o, keys: [k]}}", "organisation `o` has a budget"),
]


@pytest.mark.parametrize(("tenants", "who"), SPENDERS, ids=[who for _, who in SPENDERS])
def test_a_target_without_a_price_is_refused_where_a_teams_money_is_counted(tmp_path: Path, tenants: str, who: str) -> None:
    text = f"models: {{m: {{targets: [{{provider: eu}}]}}, n: {{targets: [{{engine: e}}]}}}}\n{tenants}"
    expected = f"1:24: the price of this target is not known, and {who}, which counts it; add `price`, or `price: free` where nothing is paid"
    assert faults(tmp_path, text) == [expected]


def test_a_budget_of_a_team_that_may_not_ask_for_it_needs_no_price(tmp_path: Path) -> None:
    text = "models: {m: {targets: [{provider: eu}]}, n: {targets: [{engine: e}]}}\nteams: {t: {models: [n], budget: {usd: 5}, keys: [k]}}"
    assert all("which counts it" not in line for line in told(tmp_path, text))


def test_free_is_a_price(tmp_path: Path) -> None:
    assert told(tmp_path, "models: {m: {policy: p, targets: [{provider: eu, price: free}]}}\npolicies: {p: {objective: cheapest}}") == []


PRICED = [
    ("{provider: o, model: gpt-4o-mini}", "{objective: cheapest}"),
    (f"{{provider: o, model: gpt-nobody-sells, {PRICE}}}", "{objective: cheapest}"),
    (f"{{provider: eu, {PRICE}}}", "{max_usd_per_request: 1}"),
    ("{provider: eu}", "{objective: fastest}"),
    ("{provider: eu}", "{objective: {weighted: {latency: 1}}}"),
]


@pytest.mark.parametrize(("target", "policy"), PRICED)
def test_a_price_that_is_known_or_does_not_decide_is_none(tmp_path: Path, target: str, policy: str) -> None:
    assert told(tmp_path, f"models: {{m: {{policy: p, targets: [{{engine: e}}, {target}]}}}}\npolicies: {{p: {policy}}}") == []


def test_what_a_pattern_matches_has_its_price_looked_up_when_it_is_asked_for(tmp_path: Path) -> None:
    assert told(tmp_path, 'models: {"o/*": {policy: p, targets: [{provider: o, model: "*"}]}}\npolicies: {p: {objective: cheapest}}') == []


# --- weights --------------------------------------------------------------------------------------------------------------------
NO_EFFECT = "a weight shares requests under `objective: ordered` only, and this model's policy has another; take it out"
BEFORE = "this target has no weight and stands before one that has, which would always go first; give it one, or list it after those"
WEIGHTS = [
    ("{provider: eu}, {provider: us, weight: 0.1}", "{}", [f"1:35: {BEFORE}"]),
    ("{engine: e}, {provider: eu, weight: 2}, {provider: us, weight: 1}", "{}", [f"1:35: {BEFORE}"]),
    ("{provider: eu, weight: 9}, {provider: us, weight: 1}", "{objective: fastest}", [f"1:58: {NO_EFFECT}"]),
]


@pytest.mark.parametrize(("targets", "policy", "fault"), WEIGHTS)
def test_a_weight_that_would_do_something_else_than_it_says_is_refused(tmp_path: Path, targets: str, policy: str, fault: list[str]) -> None:
    assert faults(tmp_path, f"models: {{m: {{policy: p, targets: [{targets}]}}}}\npolicies: {{p: {policy}}}") == fault


@pytest.mark.parametrize(
    "targets", ["{provider: eu, weight: 9}, {provider: us, weight: 1}", "{provider: eu, weight: 9}, {provider: us, weight: 1}, {engine: e}"]
)
@pytest.mark.parametrize("policy", ["{}", "{fallback: none}", "{slo: {ttft_p95_ms: 900}}"])
def test_weights_share_requests_and_what_has_none_may_follow(tmp_path: Path, targets: str, policy: str) -> None:
    assert told(tmp_path, f"models: {{m: {{policy: p, targets: [{targets}]}}}}\npolicies: {{p: {policy}}}") == []


def test_weights_may_be_for_another_policy_that_a_request_may_ask_for(tmp_path: Path) -> None:
    text = (
        "models: {m: {policy: p, targets: [{provider: eu, weight: 9}, {provider: us, weight: 1}]}}\npolicies: {p: {objective: fastest}, canary: {}}\n"
    )
    assert told(tmp_path, text + "teams: {t: {overrides: [policy], keys: [k]}}") == []
    assert faults(tmp_path, text + "teams: {t: {overrides: [residency], keys: [k]}}") == [f"1:58: {NO_EFFECT}"]


def test_a_single_weight_is_advice(tmp_path: Path) -> None:
    text = "models: {m: {targets: [{provider: eu, weight: 1}, {provider: us}]}}"
    assert told(tmp_path, text) == ["1:47: a single weight shares nothing; give another target one"]


# --- targets that are never tried: advice ---------------------------------------------------------------------------------------
NEVER_TRIED = [
    ("{fallback: none}", {1: "fallback: none", 2: "fallback: none"}),
    ("{fallback: local}", {1: "fallback: local"}),
    ("{residency: local_only}", {0: "residency: local_only", 1: "residency: local_only"}),
    ("{residency: [eu]}", {1: "residency: its provider's `region` is not permitted"}),
    ("{residency: [us], fallback: none}", {0: "residency: its provider's `region` is not permitted", 2: "fallback: none"}),
    ("{}", {}),
    ("{retry: {max_attempts: 1}}", {}),  # those behind take the place of one that is not ready
    ("{fallback: none, objective: fastest}", {}),
    ("{fallback: none, slo: {ttft_p95_ms: 900}}", {}),
    ("{fallback: local, objective: throughput}", {}),
]


@pytest.mark.parametrize(("policy", "never"), NEVER_TRIED, ids=[policy for policy, _ in NEVER_TRIED])
def test_a_target_that_its_policy_never_tries_is_advice(tmp_path: Path, policy: str, never: dict[int, str]) -> None:
    targets = "      - {provider: eu}\n      - {provider: us}\n      - {engine: e}"
    text = f"policies: {{p: {policy}}}\nmodels:\n  m:\n    policy: p\n    targets:\n{targets}"
    assert told(tmp_path, text) == [f"{6 + index}:9: this target is never tried: {why}" for index, why in never.items()]


def test_a_provider_without_a_region_is_in_none(tmp_path: Path) -> None:
    text = "models: {m: {policy: p, targets: [{provider: eu}, {provider: o, model: gpt-4o}]}}\npolicies: {p: {residency: [eu]}}"
    assert told(tmp_path, text) == ["1:51: this target is never tried: residency: its provider has no `region`"]


def test_a_target_that_a_teams_policy_tries_is_none(tmp_path: Path) -> None:
    text = "models: {m: {policy: p, targets: [{provider: eu}, {provider: us}]}}\npolicies: {p: {fallback: none}, q: {}}\n"
    assert told(tmp_path, text + "teams: {t: {policy: q, keys: [k]}}") == []


# --- other advice ---------------------------------------------------------------------------------------------------------------
MODEL = "models: {m: {targets: [{provider: eu}, {engine: e}]}}\n"
TWICE = "this target stands in the list twice; `retry.max_attempts` is for trying it again, and `weight` for its share"
ADVICE = [
    ("models: {m: {targets: [{provider: eu}, {provider: eu, model: m}]}}", [f"1:40: {TWICE}"]),
    ("models: {m: {targets: [{engine: e, model: a}, {engine: e}]}}", [f"1:47: {TWICE}"]),
    ("models: {m: {targets: [{provider: eu, model: a}, {provider: eu, model: b}, {provider: us, model: a}]}}", []),
    (MODEL + "policies: {p: {}}", ["2:12: no model and no team names this policy"]),
    (MODEL + "policies: {p: {}}\nteams: {t: {keys: [k]}}", ["2:12: no model and no team names this policy"]),
    (MODEL + "policies: {p: {}}\nteams: {t: {keys: [k], overrides: [policy]}}", []),
    (MODEL + "policies: {p: {}}\nteams: {t: {keys: [k], policy: p}}", []),
    (MODEL + "policies: {p: {hedge: {}, fallback: none}}\nteams: {t: {policy: p}}", ["2:23: fallback: none leaves no second target to hedge with"]),
    (
        "models: {m: {policy: p, targets: [{provider: eu}]}, n: {targets: [{provider: eu}, {engine: e}]}}\npolicies: {p: {hedge: {}}}",
        ["2:23: no model that it decides has a second target to hedge with"],
    ),
    (MODEL + "policies: {p: {hedge: {}}}\nteams: {t: {policy: p}}", []),
]  # fmt: skip


@pytest.mark.parametrize(("text", "advice"), ADVICE, ids=range(len(ADVICE)))
def test_what_has_no_effect_is_advice(tmp_path: Path, text: str, advice: list[str]) -> None:
    assert told(tmp_path, text) == advice


def test_fallback_local_without_any_engine_is_advice(tmp_path: Path) -> None:
    text = "providers: {o: {kind: ollama}}\nmodels: {m: {policy: p, targets: [{provider: o}]}}\npolicies: {p: {fallback: local}}"
    assert [finding.message for finding in loaded(tmp_path, text).advice] == ["there is no engine to fall back to"]


def test_a_context_beyond_the_engines_own_is_refused(tmp_path: Path) -> None:
    assert faults(tmp_path, "models: {m: {targets: [{engine: e, context: 4096}]}}") == [
        "1:45: is more than the engine's own `context`; make that larger"
    ]


# --- cycles: refused ----------------------------------------------------------------------------------------------------------
def own(folder: Path, models: str, url: str = "http://127.0.0.1:8080/v1", server: str = "{}") -> list[str]:
    """Where requests go round, and how."""
    text = f"models: {models}\nproviders: {{self: {{kind: openai-compatible, base_url: '{url}'}}, other: {{kind: ollama}}}}\nserver: {server}"
    try:
        loaded(folder, text)
    except ConfigError as error:
        return [re.sub("this provider is the gateway itself, and requests go round: |; name another .*", "", line) for line in places(error)]
    return []


CYCLES = [
    ("{m: {targets: [{provider: self}]}}", ["1:24: `m` → `m`"]),
    ("{m: {targets: [{provider: other}, {provider: self, model: m}]}}", ["1:43: `m` → `m`"]),
    (
        "{a: {targets: [{provider: self, model: b}]}, b: {targets: [{provider: self, model: a}]}}",
        ["1:24: `a` → `b` → `a`", "1:68: `b` → `a` → `b`"],
    ),
    ("{a: {targets: [{provider: self, model: b}]}, b: {targets: [{provider: other}, {provider: self}]}}", ["1:87: `b` → `b`"]),
    ('{"*": {targets: [{provider: self, model: "*"}]}}', ["1:26: `*` → `*`"]),
    ('{"a/*": {targets: [{provider: self}]}}', ["1:28: `a/*` → `a/*`"]),
    ('{"*": {targets: [{provider: self, model: "b/*"}]}}', ["1:26: `*` → `*`"]),
    ('{m: {targets: [{provider: self, model: "x/y"}]}, "x/*": {targets: [{provider: self, model: m}]}}',
     ["1:24: `m` → `x/*` → `m`", "1:76: `x/*` → `m` → `x/*`"]),
]  # fmt: skip


@pytest.mark.parametrize(("models", "cycles"), CYCLES, ids=[models for models, _ in CYCLES])
def test_a_model_that_leads_back_to_itself_is_refused(tmp_path: Path, models: str, cycles: list[str]) -> None:
    assert own(tmp_path, models) == cycles


NO_CYCLES = [
    "{m: {targets: [{provider: other}]}}",
    "{m: {targets: [{provider: self, model: n}]}, n: {targets: [{provider: other}]}}",
    '{"a/*": {targets: [{provider: self, model: "*"}]}, m: {targets: [{provider: other}]}}',
    "{m: {targets: [{provider: self, model: nobody}]}}",
]


@pytest.mark.parametrize("models", NO_CYCLES)
def test_a_model_that_leads_elsewhere_is_not(tmp_path: Path, models: str) -> None:
    assert own(tmp_path, models) == []


ADDRESSES = [
    ("http://127.0.0.1:8080/v1", "{}", True),
    ("http://localhost:8080/v1/", "{}", True),
    ("http://127.0.0.1:8081/v1", "{}", False),
    ("http://127.0.0.1:8081/v1", "{port: 8081}", True),
    ("http://127.0.0.1:8080/v1", "{port: 0}", False),
    ("http://127.0.0.1:8080/v1", "{host: 0.0.0.0}", True),
    ("http://[::1]:8080/v1", "{host: '::'}", True),
    ("http://[::1]:8080/v1", "{}", False),
    ("http://10.0.0.5:8080/v1", "{host: 10.0.0.5}", True),
    ("http://10.0.0.5:8080/v1", "{}", False),
    ("http://127.0.0.1/v1", "{port: 80}", True),
    ("https://127.0.0.1:8080/v1", "{}", False),
    ("http://127.0.0.1:8080/other/v1", "{}", False),
]


@pytest.mark.parametrize(("url", "server", "is_own"), ADDRESSES)
def test_the_gateways_own_address_is_known_under_each_of_its_names(tmp_path: Path, url: str, server: str, is_own: bool) -> None:
    assert bool(own(tmp_path, "{m: {targets: [{provider: self}]}}", url, server)) is is_own


def test_a_kind_whose_usual_port_is_the_gateways_own_is_told_so(tmp_path: Path) -> None:
    text = "providers: {l: {kind: llama.cpp}}\nmodels: {m: {targets: [{provider: l}]}}"
    assert places(refused(tmp_path, text)) == [
        "2:24: this provider is the gateway itself, and requests go round: `m` → `m`; name another `base_url` or `server.port`"
    ]


# --- patterns -------------------------------------------------------------------------------------------------------------------
PATTERNS = ["*", "a*", "*a", "a*a", "ab*", "*ba", "a*b", "aa*", "*-x", "a/*", "a/b*", "a/*x"]


@pytest.mark.parametrize(("one", "other"), list(permutations(PATTERNS, 2)))
def test_no_pattern_hides_another(one: str, other: str) -> None:
    settings = Settings(models={name: ModelSettings(targets=(TargetSettings(engine="e"),)) for name in (one, other, "a/b")})
    assert {entry_for(settings, each.replace("*", "§")) for each in (one, other)} == {one, other}
    assert entry_for(settings, "a/b") == "a/b"
