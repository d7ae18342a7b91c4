"""The examples of docs/limits.md and docs/budgets.md load, and the times that they tell are those of the code."""

import re
from pathlib import Path

import pytest

from config.load import load
from gateway import asking
from gateway.metering import bounds, redis_meter, redis_store
from tests.config.files import KNOWN, ROOT, written

PAGES = {name: (ROOT / "docs" / f"{name}.md").read_text() for name in ("limits", "budgets")}
BLOCKS = [block for text in PAGES.values() for block in re.findall(r"^```yaml\n(.*?)^```", text, re.M | re.S)]
ENV = {"OPENAI_API_KEY": "sk-openai", "SEARCH_KEY": "sk-search", "NIGHTLY_KEY": "sk-nightly", "ALERT_SECRET": "whsec_c2VjcmV0"}


@pytest.mark.parametrize("block", BLOCKS)
def test_every_example_loads(tmp_path: Path, block: str) -> None:
    assert load(written(tmp_path, block.encode()), ENV, KNOWN).advice == []


def test_the_numbers_are_those_of_the_code() -> None:
    assert (bounds.UNTOLD_TOKENS, bounds.UNTOLD_MOST, bounds.MOST_PICTURE_TOKENS, asking.MOST_MEDIUM_TOKENS) == (4096, 32_768, 16_384, 5000)
    assert "4,096" in PAGES["limits"] and "5,000" in PAGES["limits"] and "32,768" in PAGES["budgets"] and "16,384" in PAGES["budgets"]


def test_the_times_are_those_of_the_code() -> None:
    assert (redis_meter.LEASE_S, redis_meter.PULSE_S, redis_meter.MAX_PAUSE_S, redis_meter.WRITTEN_S) == (30.0, 0.25, 2.0, 0.1)
    assert (redis_store.DEADLINE_S, redis_store.DEADLINE_S / redis_store.SLICES * redis_store.SLOW_SLICES, redis_store.SLOW_AT_ONCE) == (
        0.05,
        0.02,
        8,
    )
    assert "a lease of 30 s" in PAGES["limits"] and "50 ms" in PAGES["limits"] and "20 ms, eight times" in PAGES["limits"]
