"""Why the Ray actors of batches ended stands in the log."""

import asyncio
import sys
from pathlib import Path

from structlog.testing import capture_logs

from config.tenancy import RayActorSettings
from gateway.batches.ray_launcher import RayLauncher


async def test_the_last_words_of_what_ended_are_told(tmp_path: Path) -> None:
    """An interpreter without Ray."""
    launcher = RayLauncher(RayActorSettings(python=sys.executable, config=str(tmp_path / "actors.yaml")))
    with capture_logs() as told:
        launcher.keep()
        async with asyncio.timeout(60):
            while not any("ended" in each["event"] for each in told):
                await asyncio.sleep(0.02)
        await launcher.stop()
    (ended, *_) = [each for each in told if "ended" in each["event"]]
    assert "No module named 'ray'" in ended["last_words"]
