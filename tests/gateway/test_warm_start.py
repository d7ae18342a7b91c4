"""A warm start: the ledger's last hours become the targets' statistics, each attempt at its age; nothing unknown is made."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import SQLAlchemyError

from contract.usage import Usage
from gateway.warm import HOURS, MOST_ROWS, warm_start
from ledger.store import Ledger
from policy.forecast import Forecast
from policy.stats import HALF_LIFE_S, TargetStats
from tests.ledger.rows import row, url_of

NOW_UNIX = 1_790_000_000.0
NOW = 5_000.0  # time.monotonic() at that moment
KEY = ("one", "gpt-5")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(url_of(tmp_path / "turnout.db"))
    yield opened
    opened.close()


class History:
    """Attempts in a ledger, told by how long ago they ended."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._rows = 0

    def ended(self, ago_s: float = 0.0, **fields: Any) -> "History":
        plain = {"stream": True, "first_token_us": 200_000, "end_us": 1_200_000, "usage": Usage(input_uncached=90, cache_read=10, output_visible=51)}
        told = {**plain, **fields}
        started_at_us = int((NOW_UNIX - ago_s) * 1e6) - (told["end_us"] or 0)
        self._rows += 1
        self.ledger.append(row(f"req_{self._rows}", started_at_us=started_at_us, **told))
        return self


@pytest.fixture
def history(ledger: Ledger) -> History:
    return History(ledger)


def warmed(history: History, *keys: tuple[str, str]) -> dict[tuple[str, str], TargetStats]:
    assert history.ledger.flush()
    stats = {key: TargetStats() for key in keys or (KEY,)}
    warm_start(history.ledger.engine, stats, NOW, NOW_UNIX)
    return stats


def expected(history: History, streamed: bool = True, prompt_tokens: int = 90, load: int = 0) -> Forecast:
    return warmed(history)[KEY].forecast(NOW, streamed=streamed, prompt_tokens=prompt_tokens, load=load)


def test_a_target_starts_with_what_the_ledger_knows_of_it(history: History) -> None:
    seen = expected(history.ended())
    assert seen.samples == pytest.approx(1) and seen.ttft_mean_s == pytest.approx(0.2)
    assert seen.token_s_mean == pytest.approx(0.02) and seen.output_mean == pytest.approx(51)
    assert seen.cache_share == pytest.approx(0.1)


def test_an_attempt_counts_by_its_age(history: History) -> None:
    assert expected(history.ended(HALF_LIFE_S)).samples == pytest.approx(0.5)


def test_a_unary_answer_counts_by_its_whole_time(history: History) -> None:
    seen = expected(history.ended(stream=False), streamed=False)
    assert seen.total_mean_s == pytest.approx(1.2) and seen.ttft_mean_s is None


def test_the_wait_in_an_engines_queue_is_not_the_engines_speed(history: History) -> None:
    seen = expected(history.ended(queue_us=150_000))
    assert seen.ttft_mean_s == pytest.approx(0.05) and seen.total_mean_s == pytest.approx(1.05)


def test_how_many_ran_beside_an_attempt_is_known_from_their_times(history: History) -> None:
    for number in range(24):
        history.ended(number * 0.01, first_token_us=200_000 if number == 23 else 1_000_000)  # the oldest began alone
    stats = warmed(history)[KEY]
    crowded = stats.forecast(NOW, streamed=True, prompt_tokens=90, load=20)
    alone = stats.forecast(NOW, streamed=True, prompt_tokens=90, load=0)
    assert crowded.ttft_mean_s == pytest.approx(1.0, rel=0.2)  # at the middle of 20 to 23, where most were fewer
    assert alone.ttft_mean_s is not None and alone.ttft_mean_s < 0.9


def test_failures_and_limits_count_as_what_they_were(history: History) -> None:
    history.ended(status="failed", error_code="upstream_error", usage=None)
    history.ended(status="cut", error_code="upstream_stream_truncated")
    history.ended(status="failed", error_code="upstream_rate_limited", usage=None)
    seen = expected(history)
    assert seen.error_rate == pytest.approx(2 / 5) and seen.limited_rate == pytest.approx(1 / 5)
    assert seen.samples == 0.0


@pytest.mark.parametrize(("cost_nusd", "attempts"), [(500, 3 / 2), (0, 1.0), (None, 1.0)])
def test_a_failure_that_cost_money_is_an_attempt_that_is_paid_for(history: History, cost_nusd: int | None, attempts: float) -> None:
    seen = expected(history.ended(status="cut", error_code="upstream_stream_truncated", cost_nusd=cost_nusd))
    assert seen.waste_factor == pytest.approx(attempts)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("client_closed", "client_closed"),
        ("failed", "server_shutting_down"),
        ("abandoned", None),
        ("failed", "upstream_rejected"),
        ("failed", "context_length_exceeded"),
        ("failed", "unsupported_field"),
    ],
)
def test_ends_that_are_not_the_targets_fault_say_nothing_of_it(history: History, status: str, code: str | None) -> None:
    seen = expected(history.ended(status=status, error_code=code))
    assert (seen.samples, seen.error_rate, seen.limited_rate) == (0.0, 0.0, 0.0)


def test_targets_that_are_not_configured_are_not_made(history: History) -> None:
    stats = warmed(history.ended(model_sent="made-up").ended())
    assert list(stats) == [KEY] and stats[KEY].forecast(NOW, streamed=True, prompt_tokens=90, load=0).samples == pytest.approx(1)


def test_a_target_without_history_stays_cold(history: History) -> None:
    stats = warmed(history.ended(), KEY, ("two", "m"))
    assert stats["two", "m"].forecast(NOW, streamed=True, prompt_tokens=90, load=0).samples == 0.0


def test_what_is_older_than_the_last_hours_is_not_read(history: History) -> None:
    history.ended(HOURS * 3600 + 10)
    assert history.ledger.flush()
    assert warm_start(history.ledger.engine, {KEY: TargetStats()}, NOW, NOW_UNIX) == 0


def test_an_attempt_that_ended_by_a_clock_ahead_of_ours_counts_as_of_now(history: History) -> None:
    assert expected(history.ended(-3600)).samples == pytest.approx(1)


def test_history_is_not_counted_as_done_since_the_start_nor_told_to_others(history: History) -> None:
    stats = warmed(history.ended())[KEY]
    told = stats.summary(NOW)
    assert (told["attempts"], told["output_tokens"]) == (0, 0)
    again = TargetStats()
    again.merge(stats.dump(NOW), NOW)
    assert again.forecast(NOW, streamed=True, prompt_tokens=90, load=0).samples == 0.0


def test_a_ledger_that_cannot_be_read_changes_nothing(history: History) -> None:
    stats = {KEY: TargetStats()}
    with history.ledger.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE attempts")
    with pytest.raises(SQLAlchemyError):
        warm_start(history.ledger.engine, stats, NOW, NOW_UNIX)
    assert stats[KEY].forecast(NOW, streamed=True, prompt_tokens=90, load=0).samples == 0.0


def test_only_the_newest_rows_are_read_however_many_there_are(history: History) -> None:
    for number in range(MOST_ROWS + 500):
        history.ended(number * 0.05, stream=number % 2 == 0, model_sent=f"m{number % 9}")
    assert history.ledger.flush(60)
    stats = {("one", f"m{number}"): TargetStats() for number in range(9)}
    assert warm_start(history.ledger.engine, stats, NOW, NOW_UNIX) == MOST_ROWS
