"""What a policy, a target, a team and a provider say of routing: what it means, and what is refused, where and with which words."""

from pathlib import Path

import pytest

from config.settings import PolicySettings, WeightSettings
from tests.config.files import BASE, loaded, places, refused


def policy(folder: Path, text: str) -> PolicySettings:
    return loaded(folder, f"policies: {{p: {text}}}").settings.policies["p"]


# --- what it means -----------------------------------------------------------------------------------------------------------
def test_a_policy_that_says_nothing_promises_nothing_and_tries_targets_in_order(tmp_path: Path) -> None:
    told = policy(tmp_path, "{}")
    assert (told.objective_name, told.slo, told.max_usd_per_request, told.hedge, told.residency) == ("ordered", None, None, None, "any")
    assert (told.recovery, told.held_ms, told.explore_share, told.retry.budget, told.timeouts) == ("error", 0, 0.0, 0.2, None)


@pytest.mark.parametrize("name", ["ordered", "cheapest", "fastest", "throughput", "weighted"])
def test_an_objective_may_be_one_word(tmp_path: Path, name: str) -> None:
    assert policy(tmp_path, f"{{objective: {name}}}").objective_name == name


def test_the_bare_word_weighted_weighs_all_alike(tmp_path: Path) -> None:
    assert policy(tmp_path, "{objective: weighted}").weights == WeightSettings(cost=1, latency=1, throughput=1)


def test_an_objective_may_have_weights_and_what_is_not_named_counts_nothing(tmp_path: Path) -> None:
    told = policy(tmp_path, "{objective: {weighted: {cost: 1, latency: 2.5}}}")
    assert told.objective_name == "weighted" and told.weights == WeightSettings(cost=1, latency=2.5, throughput=0)


COUNTS_COST = [("ordered", False), ("cheapest", True), ("fastest", False), ("weighted", True), ("{weighted: {cost: 1}}", True)]


@pytest.mark.parametrize(("objective", "counts"), [*COUNTS_COST, ("{weighted: {latency: 1}}", False)])
def test_an_objective_knows_whether_it_compares_prices(tmp_path: Path, objective: str, counts: bool) -> None:
    assert policy(tmp_path, f"{{objective: {objective}}}").counts_cost is counts


@pytest.mark.parametrize(("text", "share"), [("objective: cheapest", 0.02), ("explore: 0.1", 0.1), ("objective: fastest, explore: 0", 0.0)])
def test_exploration_is_on_where_the_objective_compares_unless_told_otherwise(tmp_path: Path, text: str, share: float) -> None:
    assert policy(tmp_path, f"{{{text}}}").explore_share == share


@pytest.mark.parametrize(("text", "held_ms"), [("recovery: hold", 3000), ("recovery: hold, commit_after_ms: 500", 500), ("recovery: continue", 0)])
def test_hold_runs_behind_by_two_seconds_unless_told_otherwise(tmp_path: Path, text: str, held_ms: int) -> None:
    assert policy(tmp_path, f"{{{text}}}").held_ms == held_ms


@pytest.mark.parametrize(("text", "after"), [("{}", "p95"), ("{after: p95}", "p95"), ("{after: 300}", 300), ('{after: "300"}', 300)])
def test_a_hedge_begins_after_the_p95_or_after_milliseconds(tmp_path: Path, text: str, after: object) -> None:
    told = policy(tmp_path, f"{{hedge: {text}}}").hedge
    assert told is not None and told.after == after and told.max_extra_spend == 0.05


def test_a_slo_a_price_limit_regions_and_clocks_are_read(tmp_path: Path) -> None:
    text = (
        "{slo: {ttft_p95_ms: 800, tokens_per_s: 30, deadline_ms: 30000}, max_usd_per_request: 0.5, residency: [eu, us-east-1], timeouts: {idle_s: 5}}"
    )
    told = policy(tmp_path, text)
    assert told.slo is not None and (told.slo.ttft_p95_ms, told.slo.tokens_per_s, told.slo.deadline_ms) == (800, 30, 30_000)
    assert (told.max_usd_per_request, told.residency) == (0.5, ("eu", "us-east-1"))
    assert told.timeouts is not None and (told.timeouts.idle_s, told.timeouts.total_s) == (5, None)


@pytest.mark.parametrize("text", ["slo: null, hedge: ~, timeouts: ~", "max_usd_per_request: null, explore: null", "commit_after_ms: 0"])
def test_what_is_switched_off_is_as_if_it_were_not_there(tmp_path: Path, text: str) -> None:
    assert policy(tmp_path, f"{{{text}}}").held_ms == 0


ALL = {"policy", "deadline_ms", "max_cost", "residency"}
OVERRIDES = [("{}", set()), ("{overrides: false}", set()), ("{overrides: true}", ALL), ("{overrides: [policy, max_cost]}", {"policy", "max_cost"})]


@pytest.mark.parametrize(("text", "allowed"), OVERRIDES, ids=[text for text, _ in OVERRIDES])
def test_a_team_may_override_what_it_is_allowed_to_and_nothing_by_default(tmp_path: Path, text: str, allowed: set[str]) -> None:
    assert loaded(tmp_path, f"teams: {{t: {text}}}").settings.teams["t"].allowed_overrides == allowed


KEYS = [
    ("api_key: a", ("a",)),
    ("api_keys: [a, b]", ("a", "b")),
    ("api_keys: [a, '${NONE:-}', b]", ("a", "b")),
    ("api_keys: ['${NONE:-}', '${NONE:-}', b]", ("b",)),
    ("api_keys: null", ()),
]


@pytest.mark.parametrize(("text", "keys"), KEYS, ids=[text for text, _ in KEYS])
def test_a_provider_may_have_several_keys_and_an_empty_one_is_none(tmp_path: Path, text: str, keys: tuple[str, ...]) -> None:
    assert loaded(tmp_path, f"providers: {{o: {{kind: ollama, {text}}}}}").settings.providers["o"].keys == keys


def test_a_provider_of_any_kind_may_have_a_region(tmp_path: Path) -> None:
    assert loaded(tmp_path, "providers: {o: {kind: ollama, region: eu-west-1}}").settings.providers["o"].region == "eu-west-1"


@pytest.mark.parametrize(
    "url", ["redis://127.0.0.1", "redis://:pw@h:6379/0", "rediss://u:p@h/1", "redis://[::1]:6379", "unix:///run/redis.sock?db=1"]
)
def test_the_url_of_redis_is_read_and_its_password_is_not_shown(tmp_path: Path, url: str) -> None:
    state = loaded(tmp_path, f'state: {{redis: "{url}"}}').settings.state
    assert state.redis is not None and state.redis.get_secret_value() == url and url not in repr(state)


def test_a_target_may_have_a_weight_and_a_context(tmp_path: Path) -> None:
    target = loaded(tmp_path, BASE.replace("{provider: lab, ", "{provider: lab, weight: 0.5, context: 4096, ")).settings.models["chat"].targets[0]
    assert (target.weight, target.context) == (0.5, 4096)


# --- what is refused -----------------------------------------------------------------------------------------------------------
OBJECTIVES = "must be ordered, cheapest, fastest, throughput, weighted, or {weighted: {cost: …, latency: …, throughput: …}}"
RESIDENCIES = "must be any, local_only, or a list of regions such as [eu, us-east-1]"
REDIS = "must be redis://HOST:PORT/DATABASE, rediss:// for TLS, or unix:///PATH; with USER:PASSWORD@ if need be"
AFTER = "must be p95, or milliseconds from 1 to 86400000"
NO_REGION = "is not a region; write residency: any or residency: local_only, without a list"
WRONG = [
    (
        "policies: {p: {objective: cheapst}}",
        "1:27: `policies.p.objective`: should be 'ordered', 'cheapest', 'fastest', 'throughput' or 'weighted'; did you mean `cheapest`?",
    ),
    ("policies: {p: {objective: [cheapest]}}", f"1:27: `policies.p.objective`: {OBJECTIVES}"),
    (
        "policies: {p: {objective: {weighted: {}}}}",
        "1:38: `policies.p.objective.weighted`: at least one of cost, latency and throughput must be above 0",
    ),
    ("policies: {p: {objective: {weighted: {cost: -1}}}}", "1:45: `policies.p.objective.weighted.cost`: should be greater than or equal to 0"),
    (
        "policies: {p: {objective: {weighted: {cost: 1, latncy: 2}}}}",
        "1:48: `latncy` is not a key of policies.p.objective.weighted; did you mean `latency`?",
    ),
    ("policies: {p: {residency: eu}}", f"1:27: `policies.p.residency`: {RESIDENCIES}"),
    ("policies: {p: {residency: {eu: 1}}}", "1:27: `policies.p.residency`: must be any, local_only or a list of regions"),
    ("policies: {p: {residency: [eu, any]}}", f"1:32: `policies.p.residency.1`: {NO_REGION}"),
    ("policies: {p: {residency: [local]}}", f"1:28: `policies.p.residency.0`: {NO_REGION}"),
    ("policies: {p: {residency: []}}", "1:27: `policies.p.residency`: must have at least one entry"),
    ("policies: {p: {residency: [no]}}", "1:28: `policies.p.residency.0`: must be text; put it in quotes"),
    ("policies: {p: {residency: ['e u']}}", "1:28: `policies.p.residency.0`: it must be letters, digits, `.`, `_`, `:` and `-`"),
    ("policies: {p: {slo: {deadline: 3}}}", "1:22: `deadline` is not a key of policies.p.slo; did you mean `deadline_ms`?"),
    ("policies: {p: {slo: {}}}", "1:21: `policies.p.slo`: must have at least one of ttft_p95_ms, tokens_per_s and deadline_ms"),
    ("policies: {p: {slo: {ttft_p95_ms: 0}}}", "1:35: `policies.p.slo.ttft_p95_ms`: should be greater than 0"),
    ("policies: {p: {slo: {tokens_per_s: .inf}}}", "1:36: `policies.p.slo.tokens_per_s`: should be less than or equal to 1000000"),
    (
        "policies: {p: {slo: {ttft_p95_ms: 800, deadline_ms: 300}}}",
        "1:53: `policies.p.slo.deadline_ms`: is shorter than ttft_p95_ms, by which the answer may only begin; make it longer",
    ),
    ("policies: {p: {hedge: {after: p99}}}", f"1:31: `policies.p.hedge.after`: {AFTER}"),
    ("policies: {p: {hedge: {after: 0}}}", f"1:31: `policies.p.hedge.after`: {AFTER}"),
    ("policies: {p: {hedge: {after: .nan}}}", f"1:31: `policies.p.hedge.after`: {AFTER}"),
    ("policies: {p: {hedge: {after: [p95]}}}", f"1:31: `policies.p.hedge.after`: {AFTER}"),
    ("policies: {p: {hedge: {max_extra_spend: 5}}}", "1:41: `policies.p.hedge.max_extra_spend`: should be less than or equal to 1"),
    (
        "policies: {p: {hedge: false}}",
        "1:23: `policies.p.hedge`: must not be true or false (YAML reads yes, no, on and off so too); put text in quotes",
    ),
    (
        "policies: {p: {recovery: hold, commit_after_ms: 0}}",
        "1:49: `policies.p.commit_after_ms`: holds nothing back, which recovery: hold is for; make it longer, or set recovery: error",
    ),
    (
        "policies: {p: {commit_after_ms: 100}}",
        "1:33: `policies.p.commit_after_ms`: holds a stream back under recovery: hold only; set that, or take this out",
    ),
    ("policies: {p: {recovery: repair}}", "1:26: `policies.p.recovery`: should be 'error', 'hold' or 'continue'"),
    ("policies: {p: {max_usd_per_request: .inf}}", "1:37: `policies.p.max_usd_per_request`: should be a finite number"),
    (
        "policies: {p: {max_usd_per_request: 0}}",
        "1:37: `policies.p.max_usd_per_request`: should be greater than 0; take it out for no limit, or set residency: local_only for engines alone",
    ),
    ("teams: {t: {models: []}}", "1:21: `teams.t.models`: must have at least one entry; take it out to allow all"),
    ("teams: {t: {limits: {rpm: 0}}}", "1:27: `teams.t.limits.rpm`: should be greater than or equal to 1; take it out for no limit"),
    ("teams: {t: {budget: {usd: -5}}}", "1:27: `teams.t.budget.usd`: should be greater than 0; take the budget out for no limit"),
    (
        "models: {m: {targets: [{provider: p, price: gratis}]}}",
        "1:45: `models.m.targets.0.price`: must be free, or {input_usd_per_mtok: …, output_usd_per_mtok: …}",
    ),
    (
        "models: {m: {targets: [{provider: p, price: {input_usd_per_mtok: 10001, output_usd_per_mtok: 1}}]}}",
        "1:66: `models.m.targets.0.price.input_usd_per_mtok`: should be less than or equal to 10000",
    ),
    ("policies: {p: {explore: 2}}", "1:25: `policies.p.explore`: should be less than or equal to 1"),
    ("policies: {p: {retry: {budget: 1.5}}}", "1:32: `policies.p.retry.budget`: should be less than or equal to 1"),
    ("policies: {p: {timeouts: {total: 3}}}", "1:27: `total` is not a key of policies.p.timeouts; did you mean `total_s`?"),
    (
        "teams: {t: {overrides: [polcy]}}",
        "1:25: `teams.t.overrides.0`: should be 'policy', 'deadline_ms', 'max_cost' or 'residency'; did you mean `policy`?",
    ),
    (
        "teams: {t: {overrides: {policy: true}}}",
        "1:24: `teams.t.overrides`: must be true, false or a list of policy, deadline_ms, max_cost and residency",
    ),
    (
        "providers: {o: {kind: openai, api_keys: [a, a]}}",
        "1:41: `providers.o.api_keys`: holds the same key twice; it would share one limit, so take one out",
    ),
    ("providers: {o: {kind: openai, api_keys: []}}", "1:41: `providers.o.api_keys`: must have at least one entry"),
    ("providers: {o: {kind: openai, api_keys: k}}", "1:41: `providers.o.api_keys`: must be a list"),
    ("providers: {o: {kind: openai, api_key: b, api_keys: [a]}}", "1:53: `providers.o.api_keys`: stands beside an api_key; move that into the list"),
    ("providers: {o: {kind: openai, api_keys: ['a b']}}", "1:42: `providers.o.api_keys.0`: holds a space or a character that a key cannot have"),
    ("providers: {o: {kind: openai, api_keys: ['']}}", '1:13: `providers.o.api_key` is missing; write api_key: "${OPENAI_API_KEY}"'),
    ("state: {redis: 'http://127.0.0.1'}", f"1:16: `state.redis`: {REDIS}"),
    ("state: {redis: 'redis://'}", f"1:16: `state.redis`: {REDIS}"),
    ("state: {redis: 'redis://h:0'}", f"1:16: `state.redis`: {REDIS}"),
    ("state: {redis: 'redis://h:99999'}", f"1:16: `state.redis`: {REDIS}"),
    ("state: {redis: 'redis://h/db'}", f"1:16: `state.redis`: {REDIS}"),
    ("state: {redis: 'redis://[h'}", f"1:16: `state.redis`: {REDIS}"),
    ("state: {redis: 'unix://'}", f"1:16: `state.redis`: {REDIS}"),
    ("state: {redis: 5}", "1:16: `state.redis`: must be text; put it in quotes"),
    ("models: {m: {targets: [{provider: p, weight: 0}]}}", "1:46: `models.m.targets.0.weight`: should be greater than 0"),
    ("models: {m: {targets: [{provider: p, weight: .inf}]}}", "1:46: `models.m.targets.0.weight`: should be less than or equal to 1000000"),
    ("models: {m: {targets: [{provider: p, context: 0}]}}", "1:47: `models.m.targets.0.context`: should be greater than or equal to 1"),
]


@pytest.mark.parametrize(("text", "told"), WRONG, ids=[text for text, _ in WRONG])
def test_a_wrong_value_is_refused_at_its_place_with_what_it_should_be(tmp_path: Path, text: str, told: str) -> None:
    assert places(refused(tmp_path, text)) == [told]
