"""`turnout keys` and `turnout teams` as an operator runs them: the real command over a real file, no gateway running."""

import json
import re
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gateway.auth import KeyTable
from gateway.made_keys import Principals
from ledger.database import open_engine
from ledger.keys import PREFIX, Keys
from tests import command
from tests.config.files import loaded
from tests.gateway.test_command import clean_env

CONFIG = """
state: {database: "sqlite:///var/turnout.db"}
providers:
  one: {kind: openai-compatible, base_url: "http://127.0.0.1:9/v1", api_key: k}
models:
  solo: {targets: [{provider: one, model: m1, price: free}]}
  other: {targets: [{provider: one, model: m1, price: free}]}
teams:
  search: {models: [solo], keys: [sk-of-the-file]}
  ads: {}
"""
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Any command with the configuration; exit code and output are for the test."""
    (tmp_path / "turnout.yaml").write_text(CONFIG)

    def run(*args: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = command.turnout(*args, "--config", "turnout.yaml", cwd=tmp_path, env=clean_env())
        assert done.returncode == code, (done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done

    return run


def listed(run: Run, *args: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(run("keys", "list", "--json", *args).stdout)
    return rows


def holding(folder: Path) -> KeyTable:
    """The keys as a gateway would have them."""
    settings = loaded(folder, CONFIG.encode()).settings
    engine = open_engine(f"sqlite:///{folder}/var/turnout.db")
    table = KeyTable([])
    made = Principals(settings, {})
    Keys(engine).snapshot(made.take)
    table.set_made(made.found, ())
    engine.dispose()
    return table


def test_a_secret_is_all_that_stdout_has_and_is_found_nowhere_again(run: Run, tmp_path: Path) -> None:
    done = run("keys", "create", "--team", "search", "--name", "ci")
    secret = done.stdout.strip()
    assert re.fullmatch(re.escape(PREFIX) + r"[A-Za-z0-9_-]{43}", secret) and secret not in done.stderr
    assert holding(tmp_path).principal([(b"x-api-key", secret.encode())]).team == "search"
    shown = run("keys", "list").stdout + run("keys", "list", "--json").stdout
    assert secret not in shown and secret[-4:] in shown and "ci" in shown
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and secret.encode() in file.read_bytes()]


def test_a_key_has_all_that_it_was_made_with(run: Run) -> None:
    limits = ("--rpm", "5", "--tpm", "1000", "--concurrency", "2", "--budget-usd", "3.5", "--window", "week")
    one = ("--models", "solo, other", "--expires", "90d", "--max-usd-per-request", "0.25", "--max-tokens-per-request", "100")
    made = json.loads(run("keys", "create", "--team", "ads", "--json", *limits, *one).stdout)
    assert made.pop("key").startswith(PREFIX)
    assert listed(run) == [made]
    assert made["limits"] == {"rpm": 5, "tpm": 1000, "concurrency": 2, "max_wait_s": 0.0} and made["models"] == ["solo", "other"]
    assert (made["budget"]["usd"], made["budget"]["window"], made["max_usd_per_request"], made["max_tokens_per_request"]) == (3.5, "week", 0.25, 100)
    assert "by the command line" in made["made_by"]
    assert "5 rpm, 1000 tpm, 2 concurrency" in run("keys", "list").stdout


def test_a_list_may_be_of_one_team(run: Run) -> None:
    for team in ("search", "ads"):
        run("keys", "create", "--team", team)
    assert [row["team"] for row in listed(run)] == ["search", "ads"] and [row["team"] for row in listed(run, "--team", "ads")] == ["ads"]


def test_a_rotated_key_keeps_its_id_and_its_old_secret_for_the_grace(run: Run, tmp_path: Path) -> None:
    made = json.loads(run("keys", "create", "--team", "search", "--json").stdout)
    second = run("keys", "rotate", made["id"], "--grace", "1h").stdout.strip()
    table = holding(tmp_path)
    old, new = (table.principal([(b"x-api-key", secret.encode())]) for secret in (made["key"], second))
    assert old.key_id == new.key_id == made["id"] and old.expires_at is not None and new.expires_at is None
    third = json.loads(run("keys", "rotate", made["id"], "--json").stdout)
    assert third["key"] != second and third["id"] == made["id"] and third["last4"] == third["key"][-4:]
    with closing(sqlite3.connect(tmp_path / "var" / "turnout.db")) as connection:
        assert connection.execute("SELECT count(*) FROM key_secrets").fetchone() == (1,)


def test_a_revoked_key_is_over_for_good(run: Run) -> None:
    made = json.loads(run("keys", "create", "--team", "search", "--json").stdout)
    assert "is revoked" in run("keys", "revoke", made["id"]).stdout
    assert json.loads(run("keys", "revoke", made["id"], "--json").stdout)["status"] == listed(run)[0]["status"] == "revoked"
    assert "there is no valid key" in run("keys", "rotate", made["id"], code=1).stderr


def test_what_is_not_there_is_exit_code_1(run: Run) -> None:
    assert "there is no ledger" in run("keys", "list", code=1).stderr
    run("keys", "create", "--team", "search")
    assert "there is no key 'key_0'" in run("keys", "revoke", "key_0", code=1).stderr


USAGE = {
    "an unknown team": (("--team", "serch"), "did you mean `search`?"),
    "what the team may not use": (("--team", "search", "--models", "other"), "the team 'search' may not use 'other'"),
    "a model that is not there": (("--team", "ads", "--models", "gone"), "there is no model 'gone'"),
    "a limit of nothing": (("--team", "ads", "--rpm", "0"), "limits.rpm: "),
    "a span that is none": (("--team", "ads", "--expires", "soon"), "'soon' is not a time span"),
    "a window that is none": (("--team", "ads", "--budget-usd", "1", "--window", "year"), "budget.window: "),
    "a window of no budget": (("--team", "ads", "--window", "day"), "--window is of a --budget-usd"),
    "a budget of nothing": (("--team", "ads", "--budget-usd", "0"), "budget.usd: "),
    "no end": (("--team", "ads", "--expires", "0d"), "expires_in_s: "),
}


@pytest.mark.parametrize(("options", "told"), USAGE.values(), ids=USAGE)
def test_what_a_key_cannot_have_is_exit_code_2_and_makes_nothing(run: Run, tmp_path: Path, options: tuple[str, ...], told: str) -> None:
    assert told in re.sub(r"\s+", " ", run("keys", "create", *options, code=2).stderr)
    assert not (tmp_path / "var").exists() or listed(run) == []


def test_a_grace_has_its_bound(run: Run) -> None:
    made = json.loads(run("keys", "create", "--team", "search", "--json").stdout)
    assert "7d at most" in run("keys", "rotate", made["id"], "--grace", "8d", code=2).stderr


def test_teams_are_listed_with_their_keys_whether_there_is_a_database_or_not(run: Run, tmp_path: Path) -> None:
    def keys() -> dict[str, Any]:
        return {row["team"]: row["keys"] for row in json.loads(run("teams", "list", "--json").stdout)}

    assert keys() == {"search": {"of_the_file": 1, "made": 0}, "ads": {"of_the_file": 0, "made": 0}}
    assert not (tmp_path / "var").exists()
    run("keys", "create", "--team", "ads")
    assert keys()["ads"] == {"of_the_file": 0, "made": 1}
    table = run("teams", "list").stdout
    assert re.search(r"-\s+search\s+solo\s", table) and "sk-of-the-file" not in table


def test_a_ledger_that_somebody_holds_is_told_in_a_line(run: Run, tmp_path: Path) -> None:
    run("keys", "create", "--team", "search")
    with closing(sqlite3.connect(tmp_path / "var/turnout.db")) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        told = run("keys", "create", "--team", "search", code=1).stderr
        holder.rollback()
    assert "database is locked" in told and "try again" in told and "Traceback" not in told
    assert len(listed(run)) == 1
