"""docs/workers.md: its example loads with nothing to say, and the times that it tells are those of the code."""

import re
from pathlib import Path

import yaml

from gateway import server
from gateway.workers import acceptor, desk, restarts
from ledger import continuity, store
from tests.config.files import ROOT, loaded

PAGE = (ROOT / "docs" / "workers.md").read_text()
DECISION = (ROOT / "docs" / "decisions" / "010-workers.md").read_text()


def test_the_example_loads_with_nothing_to_say(tmp_path: Path) -> None:
    [block] = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.M | re.S)
    result = loaded(tmp_path, block)
    assert (result.settings.server.workers, result.advice, result.notes) == (4, [], [])
    without = {name: section for name, section in yaml.safe_load(block).items() if name != "state"}
    assert len(loaded(tmp_path, yaml.safe_dump(without)).notes) == 1


def test_the_times_are_those_of_the_code() -> None:
    quick, ever = restarts.Restarts(), 0.0
    pauses = [quick.pause_s(ever, ever) for _ in range(restarts.MOST)]
    assert pauses == [0.0, 1.0, 2.0, 4.0, None] and "at once, then after 1, 2 and 4 s; at the fifth" in PAGE.replace("\n", " ")
    assert f"within {restarts.QUICK_S:g} s of its start" in PAGE and f"streams have {server.GRACE_S} s" in PAGE
    assert (continuity.NEW_ANSWER_S, continuity.NEW_STATE_S, store.GATHER_S) == (0.5, 0.1, 0.03)
    assert f"every {desk.TELL_QUEUE_S * 1000:g} ms" in DECISION and f"for {acceptor.POLITE_S * 1000:g} ms" in DECISION
