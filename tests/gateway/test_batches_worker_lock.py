"""Which workers of a host live is told by the kernel: a process that dies lets go of its lock, whatever its leases say."""

import subprocess
import sys
from pathlib import Path

from gateway.batches.worker_lock import WorkerLock

HOLDS = """
import sys
from pathlib import Path
from gateway.batches.worker_lock import WorkerLock
worker_lock = WorkerLock(Path(sys.argv[1]), "other")
worker_lock.hold()
print("held", flush=True)
sys.stdin.read()
"""


def test_a_worker_lives_until_its_process_dies(tmp_path: Path) -> None:
    own = WorkerLock(tmp_path / "workers", "own")
    assert own.dead() == []
    own.hold()
    other = subprocess.Popen([sys.executable, "-c", HOLDS, str(tmp_path / "workers")], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout is not None and other.stdout.readline() == b"held\n"
    assert own.dead() == []
    other.kill()
    other.communicate()
    assert own.dead() == ["other"]
    own.bury(["other"])
    assert own.dead() == []
    own.close()
    assert list((tmp_path / "workers").iterdir()) == []
