"""docs/caching.md: its examples load, and its figures are those of the code."""

import re
from pathlib import Path

import pytest

from cache import port, redis
from config.load import load
from gateway.kept import cacheable, caching, likeness
from ledger.row import CacheUse
from tests.config.files import KNOWN, ROOT, written

TEXT = (ROOT / "docs" / "caching.md").read_text()
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", TEXT, re.M | re.S)
ENV = {"OPENAI_API_KEY": "sk-openai", "SEARCH_KEY": "sk-search"}


@pytest.mark.parametrize("block", BLOCKS)
def test_every_example_loads(tmp_path: Path, block: str) -> None:
    assert load(written(tmp_path, block.encode()), ENV, KNOWN).settings.teams


def test_the_table_has_every_use_of_the_cache() -> None:
    told = set(re.findall(r"^\| `\w+` \| `(\w+)` \|", TEXT, re.M))
    assert told == set(CacheUse.__args__)


def test_the_figures_are_those_of_the_code() -> None:
    assert (port.MAX_ANSWER, cacheable.MAX_BODY) == (2 << 20, 1 << 20)
    assert (redis.DEADLINE_S, redis.REST_S, redis.LEASE_MS, caching.MAX_FLIGHTS) == (0.05, 1.0, 1500, 2)
    assert redis.PREFIX.startswith(b"turnout:cache:") and redis.LEASES.startswith(b"turnout:cache:")


def test_what_is_said_of_questions_that_mean_the_same_is_so() -> None:
    assert (likeness.EMBED_S, likeness.MAX_QUESTION) == (2.0, 2000)
    pairs = (ROOT / "bench" / "semantic" / "pairs.jsonl").read_text().splitlines()
    assert f"{len(pairs)} pairs of questions" in TEXT
    assert f"the {len((ROOT / 'bench' / 'semantic' / 'unseen.jsonl').read_text().splitlines())} of `bench/semantic/unseen.jsonl`" in TEXT
    (script,) = re.findall(r"^\.venv/bin/python (bench/\S+) ", TEXT, re.M)
    assert (ROOT / script).is_file()
