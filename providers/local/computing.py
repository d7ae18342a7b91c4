"""How much processor time a process group has had: what tells one that is slow from one that is stopped."""

import contextlib
import os
from pathlib import Path

PROC = Path("/proc")


def computed_ns(group: int) -> int | None:
    """Of all threads that the group's processes have now, in nanoseconds; None: this system does not tell so exactly (Linux alone does)."""
    spent = [each for pid in members(group) if (each := process_ns(pid)) is not None]
    return sum(spent) if spent else None


def members(group: int) -> list[int]:
    """The group's processes, those that ended and were not reaped among them."""
    found = []
    with contextlib.suppress(OSError):
        for pid in [int(each) for each in os.listdir(PROC) if each.isdigit()]:  # noqa: PTH208
            with contextlib.suppress(OSError):
                if os.getpgid(pid) == group:
                    found.append(pid)
    return found


def process_ns(pid: int) -> int | None:
    """Of one process; None: it is not known, or is gone."""
    spent = []
    with contextlib.suppress(OSError, ValueError):  # it ended meanwhile, or there is no such file
        for thread in (PROC / str(pid) / "task").iterdir():
            with contextlib.suppress(OSError, ValueError):
                spent.append(int((thread / "schedstat").read_text().split()[0]))
    return sum(spent) if spent else None
