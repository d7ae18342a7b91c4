"""`turnout replay` on a generated week: targets whose behaviour is known, real plans, and what another policy would really have come to."""

import json
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from bench.policy.week import BUDGET_USD, TEAMS, Truth, Week, config
from config.load import load
from contract.usage import Usage
from gateway.cli.main import app
from gateway.cli.settings import known_kinds
from gateway.replay.past import seen_of
from gateway.replay.replaying import Span
from gateway.replay.run import replay
from gateway.replay.sums import PRICES
from ledger.database import open_engine
from ledger.history import history
from tests.command import turnout as command
from tests.ledger.rows import row, sql
from tests.ledger.test_commands import ago, fill

WEEK = Week(requests=6_000, days=1.5)
WITHIN = 0.02
US = 1_000_000


@dataclass(frozen=True)
class Lived:
    """A folder with the ledger of a week and the turnout.yaml that was in force; `truth`: what really came of it."""

    folder: Path
    truth: Truth

    def turnout(self, policy: str, *arguments: str) -> Result:
        """The command in this process: under one of the week's policies, or the one that was in force."""
        file = self.folder / f"{policy}.yaml"
        if policy != "turnout":
            file.write_text(config(policy).replace("sqlite:///turnout.db", f"sqlite:///{self.folder}/turnout.db"))
        where = ["--database", f"sqlite:///{self.folder}/turnout.db"]
        return CliRunner().invoke(app, ["replay", str(file), *where, *arguments])

    def replayed(self, policy: str, *arguments: str) -> dict[str, Any]:
        done = self.turnout(policy, *arguments, "--json")
        assert done.exit_code == 0, done.stderr
        told: dict[str, Any] = json.loads(done.stdout)
        return told


def lived(folder: Path, policy: str) -> Lived:
    return Lived(folder, WEEK.record(folder, policy, (time.time_ns() // 1000) - US))


@pytest.fixture(scope="module")
def fast(tmp_path_factory: pytest.TempPathFactory) -> Lived:
    """Under `fastest` with an SLO: the others are only measured now and then."""
    return lived(tmp_path_factory.mktemp("fast"), "fast")


@pytest.fixture(scope="module")
def spread(tmp_path_factory: pytest.TempPathFactory) -> Lived:
    """Shares by weight: of every target there is evidence."""
    return lived(tmp_path_factory.mktemp("spread"), "spread")


def shares(told: dict[str, Any], side: str) -> dict[str, float]:
    return {each["target"]: each[f"{side}_share"] for each in told["targets"]}


# --- the policy that was in force ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("which", ["fast", pytest.param("spread", marks=pytest.mark.slow)])
def test_the_policy_that_was_in_force_reproduces_what_happened(which: str, request: pytest.FixtureRequest) -> None:
    week: Lived = request.getfixturevalue(which)
    told, truth = week.replayed("turnout"), week.truth
    count = truth.result.requests
    assert told["requests"] == {"recorded": count, "planned": count} | {"compared": told["requests"]["compared"]} | dict.fromkeys(
        ("kept_answers", "refused", "not_served"), 0
    )
    assert told["no_evidence"]["share"] <= 0.01
    assert abs(told["cost"]["change"]) <= WITHIN and float(told["cost"]["replayed_usd"]) == pytest.approx(truth.cost_usd, rel=WITHIN)
    assert abs(told["ttft"]["p95_change"]) <= WITHIN and told["ttft"]["replayed_p95_ms"] == pytest.approx(truth.p95_ttft_ms, rel=WITHIN)
    assert abs(told["end"]["p95_change"]) <= WITHIN
    for target, share in shares(told, "replayed").items():
        assert share == pytest.approx(truth.first[target] / count, abs=WITHIN)
    if which == "fast":
        assert told["slo"]["replayed"] == pytest.approx(truth.result.attainment, abs=WITHIN)


def test_what_is_recorded_is_told_as_the_ledger_has_it(spread: Lived) -> None:
    told = spread.replayed("turnout")
    (total,) = sql(spread.folder / "turnout.db", "SELECT SUM(cost_nusd) FROM attempts")[0]
    assert told["cost"]["recorded_usd"] == f"{total // 10**9}.{total % 10**9:09}"
    assert told["slo"] == {"requests": 0, "recorded": None, "replayed": None, "change": None}, "nothing was promised"


# --- another one -----------------------------------------------------------------------------------------------------------
def change(spread: Lived, truth: Truth) -> float:
    return truth.cost_usd / spread.truth.cost_usd - 1


def test_the_saving_of_a_cheaper_order_is_the_one_that_it_would_really_have_had(spread: Lived) -> None:
    told, truth = spread.replayed("cheap-first"), WEEK.truth("cheap-first")
    assert told["cost"]["change"] == pytest.approx(change(spread, truth), abs=WITHIN)
    assert told["ttft"]["replayed_p95_ms"] == pytest.approx(truth.p95_ttft_ms, rel=0.06)
    assert shares(told, "replayed")["cheap/small"] == 1.0 and told["no_evidence"]["share"] < 0.05
    assert (told["failed"]["replayed"] or 0) < 0.001, "who failed at the first goes to the second"


@pytest.mark.slow
def test_the_saving_under_an_slo_is_near_the_one_that_it_would_really_have_had(spread: Lived) -> None:
    told, truth = spread.replayed("frugal"), WEEK.truth("frugal")
    assert told["cost"]["change"] == pytest.approx(change(spread, truth), abs=0.06)
    assert told["slo"]["replayed"] > told["slo"]["recorded"], "the SLO of the new policy, on both sides"
    assert told["slo"]["replayed"] == pytest.approx(truth.result.attainment, abs=0.03)


def test_traffic_that_moves_onto_an_engine_waits_for_its_slots(spread: Lived) -> None:
    told, truth = spread.replayed("own-first"), WEEK.truth("own-first")
    assert truth.p95_ttft_ms > 1.5 * spread.replayed("turnout")["ttft"]["recorded_p50_ms"]
    assert told["ttft"]["replayed_p95_ms"] == pytest.approx(truth.p95_ttft_ms, rel=0.25)
    assert told["cost"]["change"] < -0.98, "its tokens cost nothing more"


@pytest.mark.slow
def test_a_replay_is_the_same_whenever_it_is_made(spread: Lived) -> None:
    told = [spread.replayed("frugal") for _ in range(2)]
    assert told[0] == told[1]


def test_a_long_ledger_is_replayed_in_parts_that_add_up(fast: Lived) -> None:
    settings = load(fast.folder / "turnout.yaml", {}, known_kinds()).settings
    ledger, now_us = open_engine(f"sqlite:///{fast.folder}/turnout.db"), time.time_ns() // 1000
    span = Span(now_us - 7 * 86_400 * US, now_us)
    whole, parts = (replay(settings, ledger, span, part_rows=rows) for rows in (10**9, 2_500))
    ledger.dispose()
    assert parts["requests"]["planned"] == whole["requests"]["planned"] == fast.truth.result.requests
    assert parts["no_evidence"]["share"] == pytest.approx(whole["no_evidence"]["share"], abs=0.01)
    assert abs(parts["cost"]["change"]) <= WITHIN and abs(parts["ttft"]["p95_change"]) <= WITHIN
    assert [each["scope"] for each in parts["budgets"]] == [each["scope"] for each in whole["budgets"]]


# --- evidence --------------------------------------------------------------------------------------------------------------
def test_without_recorded_answers_of_a_target_nothing_is_claimed_of_it(fast: Lived, tmp_path: Path) -> None:
    """Nobody ever asked for the first target's model: who would go there is in no figure."""
    text = config("own-first").replace("      - {engine: cpu}\n", "      - {provider: middle, model: unheard, price: free}\n")
    (tmp_path / "new.yaml").write_text(text)
    done = CliRunner().invoke(app, ["replay", str(tmp_path / "new.yaml"), "--database", f"sqlite:///{fast.folder}/turnout.db", "--json"])
    told = json.loads(done.stdout)
    assert (
        done.exit_code == 0 and told["no_evidence"] == {"requests": told["requests"]["planned"], "share": 1.0} and told["requests"]["compared"] == 0
    )
    assert told["cost"]["replayed_usd"] is None and told["ttft"]["replayed_p95_ms"] is None and told["failed"]["replayed"] is None
    (unheard,) = [each for each in told["targets"] if each["target"] == "middle/unheard"]
    assert unheard["no_evidence"] == unheard["replayed"] == told["requests"]["planned"]


def test_the_share_without_evidence_is_that_of_targets_without_answers_near_that_time(fast: Lived) -> None:
    """With less time around a request there is less evidence."""
    hour, minute = (fast.replayed("cheap-first", "--evidence", span)["no_evidence"]["share"] for span in ("1h", "1m"))
    assert 0.0 < hour < minute and minute > 0.9


# --- whose, and what is not planned again -----------------------------------------------------------------------------------
def test_one_team_s_requests_are_planned_again_and_all_others_stay_as_they_were(spread: Lived) -> None:
    everybody, search = spread.replayed("cheap-first"), spread.replayed("cheap-first", "--team", "search")
    share = search["requests"]["planned"] / everybody["requests"]["planned"]
    assert share == pytest.approx(TEAMS.count("search") / len(TEAMS), abs=0.03)
    assert search["cost"]["change"] == pytest.approx(everybody["cost"]["change"], abs=0.05)
    assert "there is no team 'nobody'" in (refused := spread.turnout("cheap-first", "--team", "nobody")).stderr and refused.exit_code == 2


def test_requests_that_no_target_was_asked_for_stay_as_they_were(tmp_path: Path) -> None:
    usage = Usage(input_uncached=100, output_visible=10)
    plain = {"team": "search", "model_asked": "chat", "route": "chat", "target": "cheap", "model_sent": "small", "stream": True, "end_us": 500_000}
    good = {**plain, "first_token_us": 100_000, "usage": usage, "cost_nusd": 42_000}
    url = fill(
        tmp_path / "some.db",
        *(row(f"req_{n}", started_at_us=ago(60 - n), **good) for n in range(4)),
        row("req_kept", 0, started_at_us=ago(30), **{**plain, "target": "cache", "model_sent": "", "cost_nusd": 0, "reason": "kept"}),
        row(
            "req_refused",
            0,
            started_at_us=ago(30),
            **{**plain, "target": "", "model_sent": "", "status": "failed", "error_code": "rate_limit_exceeded"},
        ),
        row("req_gone", started_at_us=ago(30), **{**good, "model_asked": "other"}),
    )
    (tmp_path / "new.yaml").write_text(config("cheap-first"))
    told = json.loads(command("replay", "new.yaml", "--database", url, "--json", cwd=tmp_path).stdout)
    assert told["requests"] == {"recorded": 7, "planned": 4, "compared": 4, "kept_answers": 1, "refused": 1, "not_served": 1}
    assert told["cost"] == {
        "requests": 4,
        "unpriced": 0,
        "recorded_usd": "0.000168000",
        "replayed_usd": "0.000168000",
        "change": 0.0,
        "prices": PRICES,
    }
    assert told["ttft"]["replayed_p95_ms"] == pytest.approx(100, rel=0.01) and told["same_target"] == 1.0


def test_a_cost_that_is_not_known_is_in_neither_sum(tmp_path: Path) -> None:
    plain = {"team": "search", "model_asked": "chat", "route": "chat", "target": "cheap", "model_sent": "small", "end_us": 500_000}
    url = fill(
        tmp_path / "some.db",
        row("req_a", started_at_us=ago(60), usage=Usage(input_uncached=100, output_visible=10), cost_nusd=42_000, **plain),
        row("req_b", started_at_us=ago(50), usage=Usage(input_uncached=100, output_visible=10), **plain),
    )
    (tmp_path / "new.yaml").write_text(config("cheap-first"))
    told = json.loads(command("replay", "new.yaml", "--database", url, "--json", cwd=tmp_path).stdout)
    assert told["cost"] == {
        "requests": 1,
        "unpriced": 1,
        "recorded_usd": "0.000042000",
        "replayed_usd": "0.000042000",
        "change": 0.0,
        "prices": PRICES,
    }


def alone() -> str:
    """The first target of `cheap-first`, and nobody to follow it."""
    return re.sub(r"\n +- {provider: middle[^\n]*", "", config("cheap-first"))


def test_a_cost_is_unknown_to_a_replay_where_it_is_to_the_reports(tmp_path: Path) -> None:
    """Pictures without usage, cut ones, and those whose client left have no tokens that were told; what was never sent costs nothing."""
    plain = {"team": "search", "model_asked": "chat", "route": "chat", "target": "cheap", "model_sent": "small", "end_us": 500_000}
    charged = {**plain, "usage": Usage(source="estimated"), "bytes_request": 900}
    rows = [
        row("req_known", started_at_us=ago(60), usage=Usage(input_uncached=100, output_visible=10), cost_nusd=42_000, **plain),
        row("req_untold", started_at_us=ago(55), **plain),
        row("req_cut", started_at_us=ago(50), status="cut", error_code="upstream_connection_lost", **charged),
        row("req_left", started_at_us=ago(45), status="client_closed", error_code="client_closed", **charged),
        row("req_late", started_at_us=ago(40), status="failed", error_code="upstream_timeout", billed="gateway", **charged),
        row("req_refused", started_at_us=ago(35), status="failed", error_code="upstream_unavailable", billed="gateway", **plain),
    ]
    url = fill(tmp_path / "some.db", *rows)
    (tmp_path / "new.yaml").write_text(alone())
    told = json.loads(command("replay", "new.yaml", "--database", url, "--json", cwd=tmp_path).stdout)
    (line,) = json.loads(command("report", "cost", "--database", url, "--json", cwd=tmp_path).stdout)
    ledger = open_engine(url)
    recorded = list(history(ledger, 0, time.time_ns() // 1000))
    ledger.dispose()
    read = {each.request_id: each.priced for each in recorded}
    failures = {each.request_id: seen.cost_nusd for each in recorded if (seen := seen_of(each, 0, 0)) is not None and not seen.answered}
    assert failures == {"req_cut": None, "req_late": None, "req_refused": 0}, "as which they stand for others"
    assert line["unpriced"] == 4 and read == {each.request_id: each.priced for each in rows}
    assert (told["cost"]["requests"], told["cost"]["unpriced"], told["cost"]["recorded_usd"]) == (2, 4, "0.000042000")


def test_where_nothing_was_promised_a_failure_breaks_no_promise(tmp_path: Path) -> None:
    plain = {"team": "search", "model_asked": "chat", "route": "chat", "target": "cheap", "model_sent": "small", "end_us": 500_000}
    good = {**plain, "usage": Usage(input_uncached=100, output_visible=10), "cost_nusd": 42_000}
    bad = {**plain, "status": "failed", "error_code": "upstream_error", "billed": "gateway", "http_status": 500}
    rows = [row(f"req_{n}", started_at_us=ago(90 - n), **(bad if n % 4 == 3 else good)) for n in range(40)]
    (tmp_path / "new.yaml").write_text(alone())
    done = command("replay", "new.yaml", "--database", fill(tmp_path / "some.db", *rows), "--json", "--fail-if", "slo<95%", cwd=tmp_path)
    told = json.loads(done.stdout)
    assert told["requests"]["compared"] == 40 and told["failed"]["recorded"] == 0.25
    assert told["slo"] == {"requests": 0, "recorded": None, "replayed": None, "change": None}
    assert (done.returncode, told["failures"]) == (1, ["slo<95%: not known"])


# --- budgets ---------------------------------------------------------------------------------------------------------------
def test_what_is_held_for_an_answer_of_unknown_cost_is_spent(tmp_path: Path) -> None:
    plain = {"team": "search", "model_asked": "chat", "route": "chat", "target": "cheap", "model_sent": "small", "end_us": 500_000}
    used = Usage(input_uncached=100, output_visible=10)
    url = fill(tmp_path / "some.db", row("req_a", started_at_us=ago(60), usage=used, held_nusd=10**12, **plain))
    (tmp_path / "new.yaml").write_text(config("cheap-first"))
    done = command("replay", "new.yaml", "--database", url, "--json", "--fail-if", "breaches>0", cwd=tmp_path)
    (beyond,) = json.loads(done.stdout)["budgets"]
    assert done.returncode == 1 and (beyond["scope"], beyond["recorded_usd"], beyond["replayed_usd"]) == (
        "team:search",
        "1000.000000000",
        "1000.000000000",
    )


def test_a_budget_that_the_replayed_spending_exceeds_is_told_with_the_moment(spread: Lived) -> None:
    """Everything at the dearest target: its team's day is over sooner, and on more days."""
    text = config("own-first").replace("      - {engine: cpu}\n", "")
    (spread.folder / "dear.yaml").write_text(text)
    done = CliRunner().invoke(app, ["replay", str(spread.folder / "dear.yaml"), "--database", f"sqlite:///{spread.folder}/turnout.db", "--json"])
    told = json.loads(done.stdout)
    assert told["budgets"] and {each["scope"] for each in told["budgets"]} == {"team:search"}
    for each in told["budgets"]:
        assert float(each["replayed_usd"]) > float(each["budget_usd"]) == BUDGET_USD and each["replayed_beyond"] is not None
        assert each["recorded_beyond"] is None or each["recorded_beyond"] >= each["replayed_beyond"]
    frugal = spread.replayed("frugal")
    assert all(each["replayed_beyond"] is None for each in frugal["budgets"])


# --- in CI -----------------------------------------------------------------------------------------------------------------
def test_a_condition_that_is_so_exits_1_and_says_why(spread: Lived) -> None:
    done = spread.turnout("turnout", "--fail-if", "cost>+10%", "--fail-if", "p95_ttft>+2%", "--fail-if", "no_evidence>1%")
    assert done.exit_code == 0 and not done.stderr
    done = spread.turnout("cheap-first", "--fail-if", "cost>+10%", "--fail-if", "p95_ttft>+10%")
    assert done.exit_code == 1 and re.fullmatch(r"failed: p95_ttft>\+10%: \d+ ms to \d+ ms, \+\d+\.\d\d%\n", done.stderr)
    assert "cost USD" in done.stdout, "with the whole table"
    told = json.loads(spread.turnout("cheap-first", "--fail-if", "cost<-10%", "--json").stdout)
    assert len(told["failures"]) == 1 and told["failures"][0].startswith("cost<-10%: $")


@pytest.mark.parametrize("text", ["cost", "price>+10%", "cost>10%"])
def test_what_is_no_condition_exits_2(spread: Lived, text: str) -> None:
    done = spread.turnout("turnout", "--fail-if", text)
    assert done.exit_code == 2 and "--fail-if" in done.stderr and not done.stdout


@pytest.mark.parametrize(("arguments", "code"), [([], 0), (["--fail-if", "cost>+10%"], 1)])
def test_an_empty_ledger_says_so_and_holds_no_condition(tmp_path: Path, arguments: list[str], code: int) -> None:
    (tmp_path / "new.yaml").write_text(config("cheap-first"))
    done = command("replay", "new.yaml", "--database", fill(tmp_path / "empty.db"), *arguments, cwd=tmp_path)
    assert done.returncode == code and done.stdout == "no request of the last 7d can be planned again\n"
    assert done.stderr == ("failed: cost>+10%: not known\n" if code else "")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "new.yaml: cannot be read: No such file"),
        ("models: [", "new.yaml:1:10: not valid YAML"),
        ("models: {chat: {targets: [{provider: none}]}}\n", "new.yaml:1:"),
    ],
)
def test_a_configuration_that_cannot_be_used_exits_1_with_its_findings(tmp_path: Path, text: str | None, says: str) -> None:
    if text is not None:
        (tmp_path / "new.yaml").write_text(text)
    done = command("replay", "new.yaml", "--database", fill(tmp_path / "some.db"), cwd=tmp_path)
    assert done.returncode == 1 and says in done.stderr and not done.stdout and "Traceback" not in done.stderr


def test_without_a_ledger_there_is_nothing_to_replay(tmp_path: Path) -> None:
    (tmp_path / "new.yaml").write_text(config("cheap-first"))
    done = command("replay", "new.yaml", cwd=tmp_path)
    assert done.returncode == 1 and "there is no ledger at sqlite:///turnout.db" in done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["new.yaml"]
