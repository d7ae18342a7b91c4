"""What each stage of a request costs: microseconds of CPU, user-space instructions and system calls, through the real gateway process.

    python bench/stages.py [--seconds S] [--requests N] [--front limits|uvicorn] [--tree FOLDER] [--flame FILE] [--no-instructions] [unary|stream ...]

Everything is on: key check, limits, budget reservation, ledger, statistics, metrics, decision record. Three measures of the same process kind:
CPU by the kernel's accounting, split over the stages by samples of its stacks while it holds
Python's lock, so that waiting for sockets is in none (py-spy, where it is on the PATH or in $PY_SPY); instructions
counted by valgrind, the main thread's split by the same samples; system calls counted by strace. What is not installed is left out and named.
Instructions do not depend on what else the machine does: judge by them. `--tree`: another checkout, to compare with.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rig.bodies import body
from rig.gateways import Gateway
from rig.load import load as asked
from rig.load import start_mock, wait_for_answer
from rig.processes import HERE, build, spawn, stop

PORT = 8311
SHAPES = {"unary": ("chat", 32), "stream": ("chat_stream", 16), "100k": ("chat_100k", 4)}
LEDGER = "ledger's thread"

# (stage, frames): a sample belongs to the stage of its innermost frame that is listed, as FUNCTION@FILE or all of FILE
STAGES = (
    ("parse", "gateway/connection.py gateway/peek.py gateway/scan.py httptools_impl.py take@gateway/cycle.py whole_body@gateway/client.py"),
    ("auth", "gateway/auth.py gateway/job_making.py"),
    ("admit", "gateway/metering/ policy/meter.py policy/gcra.py"),
    ("plan", "gateway/planner.py gateway/asking.py policy/plan.py policy/predict.py forecast@policy/stats.py _forecast@policy/stats.py"),
    ("note", "begins@gateway/record.py ledger/spool.py begin@ledger/store.py"),
    ("upstream write", "send@providers/http/connection.py providers/http/client.py providers/backend.py providers/routes.py rewrite_request@tap.py"),
    ("upstream read, tap", "providers/http/connection.py providers/http/response.py providers/exchange.py providers/wires/ providers/sse.py"),
    ("row", "gateway/record.py gateway/accounting.py append@ledger/store.py"),
    ("statistics", "gateway/learning.py policy/stats.py policy/sketch.py policy/breaker.py gateway/health.py"),
    ("metrics", "gateway/metrics/ gateway/watching.py"),
    ("send", "send@httptools_impl.py gateway/cycle.py gateway/client.py gateway/delivery.py"),
    ("rest", "gateway/server.py"),
    ("pipeline", "gateway/"),
)
WRITES = re.compile(r"(Connection\.send@|Cycle\.(end|write|_flush)@|RequestResponseCycle\.send@|_Segment\.write@)[^;]*$")  # innermost: a write(2)
BUDGET_US = {  # what each may cost on a quiet reference machine; together a little more than the 165 that a request may
    "parse": 16, "auth": 5, "admit": 16, "plan": 12, "note": 5, "upstream write": 32, "upstream read, tap": 14, "row": 8, "statistics": 8,
    "metrics": 4, "send": 16, "pipeline": 10, "rest": 10, LEDGER: 26,
}  # fmt: skip


@contextmanager
def gateway(tree: Path, front: str, wrapped: tuple[str, ...] = ()) -> Iterator[subprocess.Popen[bytes]]:
    """A fresh mock and a fresh gateway of that checkout; `wrapped`: the command that runs it."""
    for old in (tree / "bench/logs").glob("bench*.db*"):
        old.unlink()
    (tree / "bench/logs").mkdir(exist_ok=True)
    mock = start_mock()
    command = (*wrapped, sys.executable, "-P", str(tree / "bench/front.py"), front, str(PORT))
    process = spawn(command, 0, {"PYTHONPATH": str(tree)}, HERE / "logs/stages.log")
    try:
        wait_for_answer(Gateway("stages", "Turnout", command, PORT), process)
        yield process
    finally:
        stop(process)
        stop(mock)


def load(shape: str, few: bool = False, **options: float) -> dict[str, float]:
    """`few`: connections, for a gateway that is so slow under its tool that many would run out of time."""
    content, connections = SHAPES[shape]
    return asked(Gateway("stages", "Turnout", None, PORT), body(content), c=min(connections, 4) if few else connections, **options)


def threads_us(pid: int) -> tuple[float, float]:
    """CPU of the main thread, and of the others."""
    times = {thread.parent.name: int(thread.read_text().split()[0]) / 1e3 for thread in Path(f"/proc/{pid}/task").glob("*/schedstat")}
    main = times.pop(str(pid))
    return main, sum(times.values())


def cpu(tree: Path, front: str, shape: str, seconds: float) -> tuple[float, float, Counter[str], str]:
    """Microseconds a request of the main thread and of the others; samples by stage; the stacks."""
    spy = os.environ.get("PY_SPY") or shutil.which("py-spy")
    with gateway(tree, front) as process, tempfile.TemporaryDirectory() as folder:
        load(shape, s=1.0)
        before = threads_us(process.pid)
        found = load(shape, s=seconds)
        time.sleep(0.3)  # the ledger's last group
        main, others = (now - then for now, then in zip(threads_us(process.pid), before, strict=True))
        stacks = Path(folder) / "stacks"
        if spy is not None:
            sampling = subprocess.Popen(
                [spy, "record", "-p", str(process.pid), "-d", str(max(1, int(seconds))), "-r", "400", "--gil", "-f", "raw", "-o", str(stacks)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            load(shape, s=seconds + 1)
            sampling.wait(60)
        told = stacks.read_text() if stacks.exists() else ""
    return main / found["requests"], others / found["requests"], by_stage(told), told


def by_stage(stacks: str, kernel: bool = True) -> Counter[str]:
    """Samples of the event loop's thread; `kernel` False: without those in a system call, in which no instruction is counted."""
    found: Counter[str] = Counter()
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        if "Runner.run" not in stack:
            continue
        frames = re.sub(r"(\S+) \(([^:)]*)(:\d+)?\)", r"\1@\2", stack)
        if not kernel and WRITES.search(frames):
            continue
        found[next((stage for frame in reversed(frames.split(";")) if (stage := stage_of(frame))), "rest")] += int(count)
    return found


def stage_of(frame: str) -> str | None:
    name, _, file = frame.rpartition("@")
    name = name.rpartition(".")[2]
    for one_function in (True, False):
        for stage, listed in STAGES:
            for each in listed.split():
                function, _, place = each.rpartition("@")
                if bool(function) is one_function and place in file and (not function or function == name):
                    return stage
    return None


def instructions(tree: Path, front: str, shape: str, requests: int) -> tuple[float, float] | None:
    """Of a request: the main thread's and the others'. None: there is no valgrind."""
    if shutil.which("callgrind_control") is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "count"
        tool = ("valgrind", "--tool=callgrind", "--instr-atstart=no", "--separate-threads=yes", f"--callgrind-out-file={out}")
        with gateway(tree, front, tool) as process:
            load(shape, few=True, s=100, n=requests)
            subprocess.run(["callgrind_control", "-i", "on", str(process.pid)], check=True, capture_output=True)
            found = load(shape, few=True, s=100, n=requests)
            time.sleep(0.5)
            subprocess.run(["callgrind_control", "-i", "off", str(process.pid)], check=True, capture_output=True)
            process.send_signal(signal.SIGTERM)
            process.wait(60)
        totals = [int(match[1]) for path in sorted(Path(folder).glob("count-*")) if (match := re.search(r"^totals: (\d+)", path.read_text(), re.M))]
    return totals[0] / found["requests"], sum(totals[1:]) / found["requests"]


def calls(tree: Path, front: str, shape: str, requests: int) -> dict[str, float]:
    """System calls a request, those that there is at least one of in ten. Empty: there is no strace."""
    if shutil.which("strace") is None:
        return {}
    with gateway(tree, front) as process, tempfile.TemporaryDirectory() as folder:
        load(shape, few=True, s=20, n=requests)
        tracing = subprocess.Popen(["strace", "-c", "-f", "-p", str(process.pid), "-o", f"{folder}/calls"], stderr=subprocess.DEVNULL)
        time.sleep(1)
        found = load(shape, few=True, s=60, n=requests)
        tracing.send_signal(signal.SIGINT)
        tracing.wait(30)
        rows = re.findall(r"^ *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:\d+ +)?(\w+)$", Path(f"{folder}/calls").read_text(), re.M)
    return {name: round(int(count) / found["requests"], 2) for count, name in rows if name != "total" and int(count) * 10 >= found["requests"]}


def show(shape: str, options: argparse.Namespace) -> None:
    tree = options.tree.resolve()
    main, others, samples, stacks = cpu(tree, options.front, shape, options.seconds)
    counted = None if options.no_instructions else instructions(tree, options.front, shape, options.requests)
    print(f"\n{shape}: {main + others:.1f} us of CPU a request, {main:.1f} of them the event loop's thread")
    if counted is not None:
        print(f"{sum(counted):,.0f} instructions of user space a request, {counted[0]:,.0f} of them the event loop's thread")
    print(f"system calls a request: {json.dumps(calls(tree, options.front, shape, options.requests))}")
    if not samples:
        print("no split by stage: py-spy is not installed")
        return
    print("| stage | us | of the request | instructions | budget, us on a quiet machine |\n|---|---|---|---|---|")
    whole, user = samples.total(), by_stage(stacks, kernel=False)
    for stage in (*[name for name, _ in STAGES if name != "rest"], "rest"):
        share = samples[stage] / whole
        told = "" if counted is None else f"{user[stage] / user.total() * counted[0]:,.0f}"
        print(f"| {stage} | {share * main:.1f} | {share * main / (main + others):.0%} | {told} | {BUDGET_US[stage]} |")
    told = "" if counted is None else f"{counted[1]:,.0f}"
    print(f"| {LEDGER} | {others:.1f} | {others / (main + others):.0%} | {told} | {BUDGET_US[LEDGER]} |")
    if options.flame:
        options.flame.write_text(stacks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", nargs="*", choices=[*SHAPES, []], default=["unary", "stream"])
    parser.add_argument("--seconds", type=float, default=6.0, help="of load for each measure of time")
    parser.add_argument("--requests", type=int, default=500, help="that instructions and system calls are counted for")
    parser.add_argument("--front", choices=("limits", "uvicorn"), default="limits", help="uvicorn: without limits and budgets")
    parser.add_argument("--tree", type=Path, default=HERE.parent, help="the checkout to measure")
    parser.add_argument("--flame", type=Path, help="where the stacks go, for a tool that draws flame graphs")
    parser.add_argument("--no-instructions", action="store_true", help="valgrind takes half a minute for each shape")
    options = parser.parse_args()
    build()
    for shape in options.shapes:
        show(shape, options)


if __name__ == "__main__":
    main()
