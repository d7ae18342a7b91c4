"""`turnout spend`, `trace` and `report` as an operator runs them: the real command, a real file."""

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from contract.usage import Usage
from ledger.row import AttemptRow
from ledger.schema import VERSION
from ledger.store import Ledger
from tests import command
from tests.ledger.rows import row, sql, url_of

Turnout = Callable[..., subprocess.CompletedProcess[str]]
KNOWN = Usage(input_uncached=100, cache_read=20, output_visible=10, reasoning=5)


@pytest.fixture
def turnout(tmp_path: Path) -> Turnout:
    def call(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = command.turnout(*arguments, cwd=tmp_path)
        assert done.returncode == code, (done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done

    return call


def fill(file: Path, *rows: AttemptRow) -> str:
    ledger = Ledger(url_of(file))
    for one in rows:
        ledger.append(one)
    ledger.close()
    return url_of(file)


def ago(seconds: float) -> int:
    return int((time.time() - seconds) * 1e6)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return fill(
        tmp_path / "some.db",
        row("req_a", 1, started_at_us=ago(60), status="failed", error_code="upstream_error", http_status=500, queue_us=150, end_us=2_000),
        row(
            "req_a", 2, started_at_us=ago(59), target="two", reason="fallback", usage=KNOWN, cost_nusd=1_234_567, end_us=1_500_000, client_status=200
        ),
        row("req_b", 1, started_at_us=ago(7_000), team="blue", model_asked="other", usage=KNOWN),
        row("req_c", 1, started_at_us=ago(100_000), team="blue", usage=KNOWN, cost_nusd=1),
    )


def groups(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    return {found["group"]: found for found in json.loads(done.stdout)}


def words(done: subprocess.CompletedProcess[str]) -> str:
    return " ".join(done.stderr.replace("│", " ").split())


# --- spend -----------------------------------------------------------------------------------------------------------------
def test_spend_shows_a_line_for_each_team_of_the_last_day(turnout: Turnout, url: str) -> None:
    head, *lines = turnout("spend", "--database", url).stdout.splitlines()
    assert head.split() == ["team", "requests", "attempts", "failed", "input", "output", "cost", "USD", "absorbed", "USD", "unpriced"]
    assert [line.split() for line in lines] == [
        ["red", "1", "2", "1", "120", "15", "0.001234567", "-", "0"],
        ["blue", "1", "1", "0", "120", "15", "unknown", "-", "1"],
    ]


def test_spend_shows_what_the_gateway_absorbed_apart(turnout: Turnout, tmp_path: Path) -> None:
    lost = row("req_a", 2, started_at_us=ago(5), status="abandoned", billed="gateway", usage=KNOWN, cost_nusd=7)
    url = fill(tmp_path / "race.db", row("req_a", 1, started_at_us=ago(5), usage=KNOWN, cost_nusd=5), lost)
    (found,) = groups(turnout("spend", "--database", url, "--json")).values()
    assert (found["cost_usd"], found["absorbed_usd"], found["failed"]) == ("0.000000005", "0.000000007", 0)
    assert turnout("spend", "--database", url).stdout.split()[-3:] == ["0.000000005", "0.000000007", "0"]


def test_spend_as_json_has_integers_and_an_exact_cost(turnout: Turnout, url: str) -> None:
    found = groups(turnout("spend", "--database", url, "--json"))
    assert found["red"] == {
        "group": "red",
        "requests": 1,
        "attempts": 2,
        "failed": 1,
        "input_tokens": 120,
        "output_tokens": 15,
        "cost_nusd": 1_234_567,
        "absorbed_nusd": None,
        "unpriced": 0,
        "cost_usd": "0.001234567",
        "absorbed_usd": None,
    }
    assert found["blue"]["cost_nusd"] is None and found["blue"]["cost_usd"] is None and found["blue"]["unpriced"] == 1


@pytest.mark.parametrize(("since", "attempts"), [("30s", 0), ("2m", 2), ("999999999w", 4)])
def test_since_says_how_far_back_to_look(turnout: Turnout, url: str, since: str, attempts: int) -> None:
    assert sum(found["attempts"] for found in groups(turnout("spend", "--database", url, "--since", since, "--json")).values()) == attempts


@pytest.mark.parametrize(
    ("by", "names"),
    [
        ("model", {"solo", "other"}),
        ("status", {"ok", "failed"}),
    ],
)
def test_by_chooses_the_group(turnout: Turnout, url: str, by: str, names: set[str]) -> None:
    assert set(groups(turnout("spend", "--database", url, "--by", by, "--json"))) == names


def test_team_leaves_the_others_out(turnout: Turnout, url: str) -> None:
    assert set(groups(turnout("spend", "--database", url, "--team", "blue", "--since", "7d", "--json"))) == {"blue"}


def test_spend_of_nothing_says_so(turnout: Turnout, url: str) -> None:
    assert turnout("spend", "--database", url, "--since", "1s").stdout == "nothing in the last 1s\n"


@pytest.mark.parametrize("since", ["5", "1h30m", "9" * 5_000 + "h"])
def test_a_wrong_since_exits_2_and_says_what_to_write(turnout: Turnout, url: str, since: str) -> None:
    said = words(turnout("spend", "--database", url, "--since", since, code=2))
    assert "--since" in said and "is not a time span; write 30m, 24h or 7d" in said


@pytest.mark.parametrize("by", ["cost"])
def test_a_wrong_by_exits_2_and_names_the_right_ones(turnout: Turnout, url: str, by: str) -> None:
    said = words(turnout("spend", "--database", url, "--by", by, code=2))
    assert "--by" in said and "is not one of organisation, team, key, model, provider, policy" in said


def test_names_from_callers_are_shown_as_they_are_and_cannot_steer_a_terminal(turnout: Turnout, tmp_path: Path) -> None:
    names = ["[red]x[/red]", "[/nothing]", ":fire:", "a\x1b[2Jb\r\nc"]
    url = fill(tmp_path / "odd.db", *(row(f"req_{n}", started_at_us=ago(5), model_asked=name) for n, name in enumerate(names)))
    shown = turnout("spend", "--database", url, "--by", "model").stdout
    assert all(name in shown for name in ("[red]x[/red]", "[/nothing]", ":fire:", "a?[2Jb??c"))
    assert "\x1b" not in shown
    assert "req_1" in turnout("trace", "req_1", "--database", url).stdout


# --- trace -----------------------------------------------------------------------------------------------------------------
def test_trace_shows_every_attempt_of_a_request(turnout: Turnout, url: str) -> None:
    title, first, took, second, cost = turnout("trace", "req_a", "--database", url).stdout.splitlines()
    assert title.split() == ["req_a", "ok", "team", "red", "chat.completions", "model", "solo"]
    assert first.split()[:5] == ["1", "failed", "one", "model", "gpt-5"] and "upstream_error" in first
    assert took.split()[-5:] == ["2.0", "tokens:", "-", "USD:", "unknown"] and "queue 0.1  connect -" in took
    assert second.split()[:5] == ["2", "ok", "two", "model", "gpt-5"] and "fallback" in second
    assert cost.endswith("end 1500.0   tokens: 120 in, 15 out   USD: 0.001234567")


def test_trace_by_a_configuration_needs_none_of_its_secrets(turnout: Turnout, url: str, tmp_path: Path) -> None:
    file = tmp_path / "other.yaml"
    file.write_text(f'state: {{database: "{url}"}}\nproviders: {{p: {{kind: openai, api_key: "${{NOT_SET_ANYWHERE}}"}}}}\n')
    assert "req_a" in turnout("trace", "req_a", "--config", str(file)).stdout


def test_trace_as_json_is_the_whole_report(turnout: Turnout, url: str) -> None:
    told = json.loads(turnout("trace", "req_a", "--database", url, "--json").stdout)
    assert told["request_id"] == "req_a" and told["status"] == "ok" and told["cost_usd"] == "0.001234567"
    assert [attempt["upstream_status"] for attempt in told["attempts"]] == [500, None]
    assert told["attempts"][0]["usage"] is None and told["attempts"][1]["usage"]["cache_read"] == 20


def test_trace_of_a_request_that_is_not_there_exits_1_and_says_so(turnout: Turnout, url: str) -> None:
    done = turnout("trace", "req_nothing", "--database", url, "--json", code=1)
    assert done.stderr == "the ledger has no request 'req_nothing'\n" and not done.stdout


def test_trace_shows_what_was_predicted_beside_what_came(turnout: Turnout, tmp_path: Path) -> None:
    guess = {"prompt_tokens_estimated": 90, "predicted_ttft_us": 800_000, "predicted_end_us": 2_000_000, "predicted_output_tokens": 300}
    lost = row("req_a", 2, status="abandoned", billed="gateway", predicted_cost_nusd=9, predicted_p_slo=0.973)
    url = fill(tmp_path / "some.db", row("req_a", 1, first_token_us=650_000, **guess), lost)
    title, _, took, predicted, abandoned, cost, other = turnout("trace", "req_a", "--database", url).stdout.splitlines()
    assert title.split()[1] == "ok" and "first_token 650.0" in took
    assert predicted == "     predicted ms: first_token p95 800.0  end 2000.0  p95 -   tokens: 90 in, 300 out   USD: -"
    assert abandoned.split()[:2] == ["2", "abandoned"] and cost.endswith("absorbed by the gateway")
    assert other.endswith("USD: 0.000000009   SLO: 97% likely")


def test_trace_of_an_attempt_at_a_target_that_was_not_measured_says_that_and_its_own_cost(turnout: Turnout, tmp_path: Path) -> None:
    url = fill(tmp_path / "some.db", row("req_a", 1, prompt_tokens_estimated=90, cost_nusd=1_234))
    _, _, took, predicted = turnout("trace", "req_a", "--database", url).stdout.splitlines()
    assert took.endswith("USD: 0.000001234")
    assert predicted == "     predicted tokens: 90 in; nothing else was: too little was known of the target"


# --- report calibration ----------------------------------------------------------------------------------------------------
@pytest.fixture
def predicted(tmp_path: Path) -> str:
    """Twenty answers of one target, of which one came later than its p95, each twice as dear as predicted; and one of another team."""
    guess = {"stream": True, "predicted_ttft_us": 200_000, "predicted_cost_nusd": 50, "cost_nusd": 100, "usage": KNOWN}
    rows = [row(f"req_{n}", started_at_us=ago(60), first_token_us=900_000 if n == 0 else 100_000, **guess) for n in range(20)]
    return fill(tmp_path / "guessed.db", *rows, row("req_b", started_at_us=ago(60), team="blue", target="cpu", model_sent="cpu", predicted_end_us=5))


def test_calibration_shows_a_line_for_each_target(turnout: Turnout, predicted: str) -> None:
    head, *lines = turnout("report", "calibration", "--database", predicted).stdout.splitlines()
    assert head.startswith("target") and [line.split() for line in lines] == [
        ["one/gpt-5", "20", "-", "-", "95.0%", "of", "20", "-", "-", "-", "-", "-", "50.0%", "-50.0%"],
        ["cpu", "1", *["-"] * 10],
    ]


def test_calibration_as_json_has_means_and_shares(turnout: Turnout, predicted: str) -> None:
    found = json.loads(turnout("report", "calibration", "--by", "model", "--team", "red", "--database", predicted, "--json").stdout)[0]
    assert found["attempts"] == 20 and found["ttft"] == {"n": 20, "within_p95": 0.95} and found["end_ms"]["actual"] is None
    assert found["cost_usd"] == {"n": 20, "predicted": 5e-8, "actual": 1e-7, "absolute_share": 0.5, "bias_share": -0.5}


def test_calibration_by_probability_is_the_reliability_plot(turnout: Turnout, tmp_path: Path) -> None:
    rows = [row(f"req_{n}", started_at_us=ago(60), predicted_p_slo=0.3 if n < 2 else 0.97, slo_met=n > 0) for n in range(5)]
    url = fill(tmp_path / "judged.db", *rows)
    low, high = json.loads(turnout("report", "calibration", "--by", "p_slo", "--database", url, "--json").stdout)
    assert (low["p_slo"], low["slo"]["n"], low["slo"]["observed"]) == ("0.3-0.4", 2, 0.5)
    assert (high["p_slo"], high["slo"]["predicted"], high["slo"]["observed"]) == ("0.95-0.99", pytest.approx(0.97), 1.0)
    head, first, _ = turnout("report", "calibration", "--by", "p_slo", "--database", url, "--csv").stdout.splitlines()
    assert head.startswith("p_slo,attempts,slo.n,slo.unjudged,slo.predicted,slo.observed,slo.low,slo.high,slo.brier,ttft.n")
    assert first.startswith("0.3-0.4,2,2,0,0.3,0.5,")


def test_calibration_of_nothing_says_so(turnout: Turnout, url: str) -> None:
    assert turnout("report", "calibration", "--since", "1h", "--database", url).stdout == "nothing in the last 1h\n"


@pytest.mark.parametrize(
    ("option", "value", "says"), [("--since", "5", "write 30m, 24h or 7d"), ("--group-by", "team", "is not one of target, model")]
)
def test_a_wrong_option_of_calibration_exits_2_and_says_what_to_write(turnout: Turnout, url: str, option: str, value: str, says: str) -> None:
    said = words(turnout("report", "calibration", option, value, "--database", url, code=2))
    assert option in said and says in said


# --- which ledger ----------------------------------------------------------------------------------------------------------
COMMANDS = pytest.mark.parametrize("command", [["spend"], ["trace", "req_a"], ["report", "calibration"]], ids=["spend", "trace", "calibration"])


@COMMANDS
@pytest.mark.parametrize("where", [[], ["--database", "sqlite:///x.db?timeout=3"]], ids=str)
def test_without_a_ledger_it_exits_1_and_makes_none(turnout: Turnout, tmp_path: Path, command: list[str], where: list[str]) -> None:
    said = turnout(*command, *where, code=1).stderr
    assert said.startswith("there is no ledger at sqlite:///") and "--database or --config" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["mysql://db/turnout", "some.db"])
def test_a_url_that_cannot_be_used_exits_1_and_shows_one_that_can(turnout: Turnout, tmp_path: Path, where: str) -> None:
    assert "sqlite:///var/turnout.db" in turnout("spend", "--database", where, code=1).stderr
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_ledger_exits_1_and_says_so(turnout: Turnout, tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("no database, but some text\n" * 100)
    assert "cannot be opened: file is not a database" in turnout("spend", "--database", "sqlite:///x.db", code=1).stderr


def test_a_ledger_of_a_later_version_exits_1_and_says_so(turnout: Turnout, tmp_path: Path, url: str) -> None:
    sql(tmp_path / "some.db", f"UPDATE schema_version SET version = {VERSION + 1}")
    assert f"has version {VERSION + 1}; this gateway writes version {VERSION}" in turnout("spend", "--database", url, code=1).stderr


def test_the_ledger_is_the_default_one_when_none_is_named(turnout: Turnout, tmp_path: Path) -> None:
    fill(tmp_path / "var" / "turnout.db", row(started_at_us=ago(5)))
    assert set(groups(turnout("spend", "--json"))) == {"red"}


CONFIG = """
state: {database: "sqlite:///state/ledger.db"}
providers: {one: {kind: openai-compatible, base_url: "http://127.0.0.1:9/v1", api_key: sk-x}}
models: {solo: {targets: [{provider: one, model: m}]}}
"""


@pytest.mark.parametrize("command", [["spend"], ["trace", "req_a"]], ids=["spend", "trace"])
def test_the_ledger_is_the_one_that_a_configuration_names(turnout: Turnout, tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "c.yaml").write_text(CONFIG)
    fill(tmp_path / "state" / "ledger.db", row("req_a", started_at_us=ago(5), team="green"))
    assert "green" in turnout(*command, "--config", "c.yaml").stdout


def test_a_configuration_that_cannot_be_read_exits_1(turnout: Turnout) -> None:
    assert "none.yaml" in turnout("spend", "--config", "none.yaml", code=1).stderr


def test_spend_reads_while_a_gateway_writes(turnout: Turnout, tmp_path: Path) -> None:
    ledger = Ledger(url_of(tmp_path / "some.db"))
    ledger.append(row(started_at_us=ago(5)))
    assert ledger.flush()
    assert set(groups(turnout("spend", "--database", url_of(tmp_path / "some.db"), "--json"))) == {"red"}
    ledger.append(row("req_2", started_at_us=ago(5)))
    assert ledger.flush()
    ledger.close()
