"""A time that cuts through hours whose rows were deleted is not told as if it were whole."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, update

from ledger.database import open_engine
from ledger.reports import report
from ledger.retention import narrowed
from ledger.schema import rollup_state
from ledger.window import Window
from tests.command import turnout
from tests.ledger.deleted import DAY, GONE_S, HOUR, NOW_S, US, fill
from tests.ledger.rows import emptied, url_of


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    made = open_engine(database)
    emptied(made)
    with made.begin() as connection:
        connection.execute(update(rollup_state).values(purged_s=0))
    made.dispose()
    engine = fill(database)
    yield engine
    engine.dispose()


def window(from_s: float, to_s: float, **filters: str) -> Window:
    return Window(int((GONE_S + from_s * HOUR) * US), int((GONE_S + to_s * HOUR) * US), filters)


@pytest.mark.parametrize(
    ("asked", "groups", "rows", "whole"),
    [
        (window(5, 6), (), 12, True),
        (window(4.5, 8.5), (), 36, True),
        (window(0, 24), ("hour",), 36, True),
        (window(5 + 1 / 6, 5 + 5 / 6), (), 0, False),
        (window(5 + 1 / 6, 7 + 5 / 6), (), 12, False),
        (window(5, 7.5), (), 24, False),
        (window(5.5, 120), (), 25, False),
        (window(5.5, 120, team="blue"), (), 0, True),
        (window(4, 9), ("minute",), 0, False),
        (window(9, 120), ("minute",), 1, True),
    ],
    ids=[
        "an hour",
        "more than it",
        "a day",
        "within",
        "cut at both ends",
        "cut at its end",
        "up to now",
        "another team's",
        "minutes",
        "no row of it",
    ],
)
def test_what_is_cut_is_told(engine: Engine, asked: Window, groups: tuple[str, ...], rows: int, whole: bool) -> None:
    lines, told = report(engine, "usage", asked, groups, NOW_S)
    assert (sum(line["requests"] for line in lines), told) == (rows, whole)


def test_a_calibration_that_reads_rows_lacks_those_that_were_deleted(engine: Engine) -> None:
    day = window(0, 24)
    assert [line["attempts"] for line in report(engine, "calibration", day, (), NOW_S)[0]] == [36]
    assert report(engine, "calibration", Window(day.from_us, day.to_us, {"status": "ok"}), (), NOW_S) == ([], False)


def test_a_time_is_narrowed_where_rows_are_deleted_alone() -> None:
    purged_us = GONE_S * US + DAY * US
    assert narrowed(window(5.5, 7.5), purged_us) == window(6, 7) and narrowed(window(5.5, 30.5), purged_us) == window(6, 30.5)
    assert narrowed(window(5.2, 5.8), purged_us) == window(6, 6) and narrowed(window(25.5, 30.5), purged_us) == window(25.5, 30.5)


def test_the_commands_say_so(tmp_path: Path) -> None:
    url = url_of(tmp_path / "turnout.db")
    fill(url).dispose()

    def compared(from_s: float, to_s: float, requests: int | None = 12) -> tuple[int, str]:
        bucket = {"start_time": int(GONE_S + from_s * HOUR), "end_time": int(GONE_S + to_s * HOUR)}
        results = [] if requests is None else [{"model": "gpt-5", "num_model_requests": requests}]
        (tmp_path / "export.json").write_text(json.dumps({"data": [{**bucket, "results": results}]}))
        done = turnout("reconcile", "export.json", "--provider", "one", "--database", url, cwd=tmp_path)
        return done.returncode, done.stdout

    code, text = compared(5.5, 6)
    assert code == 1 and "our rows were deleted: not compared" in text and "requests" not in text
    code, text = compared(5.5, 6, None)
    assert code == 1 and "our rows were deleted: not compared" in text, "a bucket with nothing in it may not be called right either"
    code, text = compared(5, 6)
    assert code == 0 and "agrees" in text
    done = turnout("spend", "--since", "36500d", "--by", "minute", "--database", url, cwd=tmp_path)
    assert done.returncode == 0 and "rows of a part of this time were deleted" in done.stderr
    done = turnout("report", "usage", "--since", "36500d", "--database", url, cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == ""
    done = turnout("export", "rows.csv", "--since", "36500d", "--database", url, cwd=tmp_path)
    assert done.returncode == 0 and "they are not in it" in done.stderr
    (tmp_path / "policy.yaml").write_text(
        "teams: {red: {keys: [sk-red]}}\nproviders: {one: {kind: openai-compatible, base_url: 'http://127.0.0.1:9', api_key: k}}\n"
        "models: {m: {targets: [{provider: one, model: m}]}}\n"
    )
    done = turnout("replay", "policy.yaml", "--since", "36500d", "--database", url, cwd=tmp_path)
    assert done.returncode == 0 and "they are not in it" in done.stderr, done.stderr
    done = turnout("replay", "policy.yaml", "--since", "1h", "--database", url, cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == ""
    for since, whole in (("36500d", False), ("1h", True)):
        assert json.loads(turnout("replay", "policy.yaml", "--since", since, "--json", "--database", url, cwd=tmp_path).stdout)["whole"] is whole
