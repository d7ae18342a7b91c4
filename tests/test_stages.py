"""bench/stages sorts a sample by its frames, and knows no file that is gone."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(1, str(ROOT / "bench"))  # after the packages: bench has a batch of its own
import stages  # noqa: E402


@pytest.mark.parametrize("place", sorted({each.rpartition("@")[2] for _, listed in stages.STAGES for each in listed.split() if "/" in each}))
def test_every_file_of_a_stage_is_there(place: str) -> None:
    assert (ROOT / place).exists()


def test_a_sample_belongs_to_the_stage_of_its_innermost_listed_frame() -> None:
    root = "Runner.run (asyncio/runners.py:118);Server.run (gateway/server.py:9);"
    stacks = ("Recorder.record (gateway/record.py:9);_other (ledger/prices.py:3) 4", "Recorder.begins (gateway/record.py:5) 2", "_other (x.py:1) 1")
    assert stages.by_stage("\n".join([*(root + each for each in stacks), "else 9"])) == {"row": 4, "note": 2, "rest": 1}


def test_time_in_a_write_counts_no_instruction() -> None:
    stack = "Runner.run (asyncio/runners.py:118);Connection.send (providers/http/connection.py:185) 3"
    assert stages.by_stage(stack) == {"upstream write": 3} and not stages.by_stage(stack, kernel=False)
