"""What several workers cannot count together without a Redis is a fault at its place; with one, or with nothing to count, they may be many."""

from pathlib import Path

import pytest
import yaml

from config.processes import uncounted
from config.settings import Settings
from tests.config.files import BASE, loaded, places, refused

WORKERS = "server: {workers: 4}\n"
ADVICE = "each of the 4 workers would count by itself; name a `state.redis` for all of them, or set `server.workers` to 1"
COUNTED = [
    ("teams: {t: {limits: {rpm: 600}}}", f"2:21: {ADVICE}"),
    ("teams: {t: {budget: {usd: 500}}}", f"2:21: {ADVICE}"),
    ("organisations: {o: {limits: {concurrency: 8}}}", f"2:29: {ADVICE}"),
    ("organisations: {o: {budget: [{usd: 5, window: day}]}}", f"2:29: {ADVICE}"),
]


@pytest.mark.parametrize(("text", "told"), COUNTED, ids=[text for text, _ in COUNTED])
def test_limits_and_budgets_that_each_worker_would_count_for_itself_are_refused_at_their_place(tmp_path: Path, text: str, told: str) -> None:
    assert told in places(refused(tmp_path, f"{WORKERS}{text}"))


@pytest.mark.parametrize("text", [text for text, _ in COUNTED])
def test_with_a_redis_or_with_one_worker_they_are_not(text: str) -> None:
    data = yaml.safe_load(text)
    for served in ({"server": {"workers": 4}, "state": {"redis": "redis://127.0.0.1:6379/0"}}, {"server": {"workers": 1}}):
        assert list(uncounted(Settings.model_validate({**served, **data}))) == []


def test_workers_without_a_redis_and_without_anything_to_count_are_noted(tmp_path: Path) -> None:
    result = loaded(tmp_path, WORKERS + BASE.strip())
    assert [finding.message for finding in result.notes] == ["without a `state.redis` each of the 4 workers learns of its targets by itself"]
    assert result.advice == [] and result.notes[0].place is not None and result.notes[0].place.line == 1
