"""Processes of a benchmark: built, started on a core, measured by the kernel's accounting, and stopped."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent


def build() -> None:
    """Compiles the mock provider and the load generator."""
    for folder in ("bin", "logs", "results"):
        (HERE / folder).mkdir(exist_ok=True)
    for name in ("mockup", "loadgen"):
        source, binary = HERE / f"src/{name}.c", HERE / "bin" / name
        if not binary.exists() or binary.stat().st_mtime < source.stat().st_mtime:
            subprocess.run(["gcc", "-O2", "-w", "-o", str(binary), str(source), "-lm"], check=True)


def end_with_us() -> None:
    """A benchmark that is told to end (by `timeout`, by CI) ends what it started too, by its own `finally`."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def taken(port: int) -> bool:
    """Whether somebody listens there, who would be measured instead."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def spawn(command: tuple[str, ...], core: int | str, env: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as out:
        return subprocess.Popen(
            ["taskset", "-c", str(core), *command],
            cwd=HERE,
            env={**{name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}, **env},
            stdout=out,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )


def stop(process: subprocess.Popen[bytes]) -> None:
    for sig in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sig)
            process.wait(8)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
        return


def tree(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        found.append(todo.pop())
        todo += children.get(found[-1], [])
    return found


def own_cpu_s(pid: int) -> float:
    """Seconds on a CPU of every live thread of one process."""
    total = 0
    for thread in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        try:
            total += int(thread.read_text().split()[0])
        except OSError:
            continue
    return total / 1e9


def cpu_s(pid: int) -> float:
    """Seconds on a CPU of every live thread of the process tree."""
    return sum(own_cpu_s(process) for process in tree(pid))


def rss_mb(pid: int) -> float:
    kb = 0
    for process in tree(pid):
        try:
            kb += next(int(line.split()[1]) for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("VmRSS"))
        except (OSError, StopIteration):
            continue
    return round(kb / 1024, 2)
