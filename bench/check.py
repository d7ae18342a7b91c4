"""Instructions of a request in user space, by valgrind, beside those that bench/baseline.json keeps: fails where one costs a tenth more.

    python bench/check.py              about a minute
    python bench/check.py --write      keeps what it measures as the new baseline
    python bench/check.py --slower 15  with a loop of 15 % of a chat request's instructions put in front of each: it must fail

The gateway with everything on answers fixed loads one after another. Counted are the event loop's thread, so that neither other work on the
machine nor how the ledger's thread happened to group its rows counts; that thread's instructions are shown only. Instructions depend on the
version of Python and its libraries: a baseline of another one is not compared.
"""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.error import URLError

from rig.bodies import CHAT, MESSAGES, RESPONSES, body
from rig.gateways import BIN, Gateway
from rig.load import ask, load, mock_does, start_mock
from rig.processes import HERE, build, end_with_us, spawn, stop, taken

BASELINE = HERE / "baseline.json"
ALLOWED = 0.10
SPIN_TURN = 74  # instructions of a turn of front.py's empty loop in Python 3.11, counted with valgrind
# name: body, path, requests before, requests counted
LOADS = {
    "chat": ("chat", CHAT, 60, 100),
    "chat, 53 events": ("chat_stream", CHAT, 10, 25),
    "chat, 100 KB": ("chat_100k", CHAT, 5, 15),
    "messages to chat": ("messages", MESSAGES, 20, 40),
    "messages to chat, 53 events": ("messages_stream", MESSAGES, 5, 15),
    "responses to chat": ("responses", RESPONSES, 20, 40),
}
GATEWAY = Gateway("check", "Turnout", (str(BIN / "python"), "-I", str(HERE / "front.py"), "limits", "8391"), 8391)


def control(pid: int, *command: str) -> None:
    subprocess.run(["callgrind_control", *command, str(pid)], check=True, capture_output=True, timeout=60)


def counted(pid: int, folder: Path) -> dict[int, int]:
    """Instructions by thread since the last call."""
    known = set(folder.iterdir())
    control(pid, "-d")
    found: dict[int, int] = {}
    for path in set(folder.iterdir()) - known:
        text = path.read_text()
        if (thread := re.search(r"^thread: (\d+)", text, re.M)) and (total := re.search(r"^totals: (\d+)", text, re.M)):
            found[int(thread[1])] = found.get(int(thread[1]), 0) + int(total[1])
    return found


def wait_until_up(process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            ask(GATEWAY, body("chat").read_bytes(), 30)
            return
        except (OSError, URLError):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the gateway did not start under valgrind; see {HERE}/logs/check.log") from None
            time.sleep(0.2)


def measured(spin: int) -> dict[str, tuple[int, int]]:
    """By load: a request's instructions in the event loop's thread, and in all others."""
    found = {}
    if taken(GATEWAY.port):
        raise SystemExit(f"something listens on port {GATEWAY.port} already: it would be measured instead")
    with tempfile.TemporaryDirectory() as folder:
        valgrind = ("valgrind", "--tool=callgrind", "--instr-atstart=no", "--separate-threads=yes", f"--callgrind-out-file={folder}/out")
        (HERE / "logs/bench-limits.db").unlink(missing_ok=True)
        mock = start_mock("0-1")
        env = {"PYTHONHASHSEED": "0", "BENCH_SPIN": str(spin), "OMP_NUM_THREADS": "1"}
        gateway = spawn((*valgrind, *(GATEWAY.command or ())), f"0-{(os.cpu_count() or 1) - 1}", env, HERE / "logs/check.log")
        try:
            wait_until_up(gateway)
            mock_does("")
            for name, (content, path, before, requests) in LOADS.items():
                load(GATEWAY, body(content), path, c=1, s=60, n=before)
                control(gateway.pid, "-i", "on")
                counted(gateway.pid, Path(folder))
                load(GATEWAY, body(content), path, c=1, s=60, n=requests)
                control(gateway.pid, "-i", "off")
                threads = counted(gateway.pid, Path(folder))
                loop = threads.pop(1)
                found[name] = (round(loop / requests), round(sum(threads.values()) / requests))
        finally:
            stop(gateway)
            stop(mock)
    return found


def compared(found: dict[str, tuple[int, int]], kept: dict[str, list[int]]) -> list[str]:
    """Prints each load beside the baseline; gives those that cost too much."""
    worse = []
    print(f"{'instructions of a request':32}{'event loop':>12}{'kept':>12}{'':>9}{'ledger and others':>20}")
    for name, (loop, others) in found.items():
        before = kept.get(name, [0])[0]
        ratio = loop / before if before else 1.0
        print(f"{name:32}{loop:12,}{before:12,}{ratio - 1:+9.1%}{others:20,}{'  TOO MUCH' if ratio > 1 + ALLOWED else ''}")
        if ratio > 1 + ALLOWED:
            worse.append(name)
    return worse


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--slower", type=float, default=0.0, metavar="PERCENT")
    options = parser.parse_args()
    if shutil.which("valgrind") is None:
        sys.exit("bench/check.py counts instructions with valgrind, which is not installed: for example, apt-get install valgrind")
    build()
    end_with_us()
    baseline = json.loads(BASELINE.read_text()) if BASELINE.exists() else {"python": "", "loads": {}}
    spin = round(options.slower / 100 * baseline["loads"]["chat"][0] / SPIN_TURN) if options.slower else 0
    began = time.monotonic()
    found = measured(spin)
    python = f"{platform.python_version()} {platform.machine()}"
    if options.write:
        BASELINE.write_text(json.dumps({"python": python, "loads": found}, indent=1) + "\n")
    comparable = options.write or baseline["python"].split(".")[:2] == python.split(".")[:2]
    worse = compared(found, {name: list(counts) for name, counts in found.items()} if options.write else baseline["loads"])
    print(f"{time.monotonic() - began:.0f} s")
    if not comparable:
        print(f"the baseline is of Python {baseline['python']} and this is {python}: nothing is judged")
    elif worse:
        sys.exit(f"more than {ALLOWED:.0%} above bench/baseline.json: {', '.join(worse)}. Mend it, or keep it on purpose with `make bench-baseline`")


if __name__ == "__main__":
    main()
