"""What becomes of requests when a real engine is killed, hangs, or runs out of memory under them. `make engine-loss`: a hundred times, with times."""

from pathlib import Path

import pytest

from tests.gateway.engine_loss import FAULTS, told, world


@pytest.mark.timeout(110)
async def test_streams_are_told_in_band_and_the_queue_is_answered_elsewhere_however_the_engine_is_lost(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        outcomes = [await here.lose(fault) for fault in FAULTS]
        assert [outcome for outcome in outcomes if not told(outcome)] == []
        rows = await here.gateway.all_rows()
        assert len({row.request_id for row in rows}) == here.asked, "each has its rows"
        assert here.engine.generation >= len(FAULTS)
