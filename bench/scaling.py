"""What grows: CPU per request against workers, concurrency, teams, keys, targets and ledger rows; memory of idle streams, and how many are held.

    python bench/scaling.py [--docs] [--rows 10000000] [workers concurrency streams teams keys models targets rows ...]

Each point is a gateway freshly started on core 0, the mock and the load generator on core 1; its figure is the least of several short loads. The
first point of each curve is measured again at its end: how far these two differ is the noise. `--docs` writes into docs/performance.md.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen

from rig.bodies import CHAT, body
from rig.configs import config
from rig.gateways import BIN, Gateway
from rig.load import Failed, load, loadgen, mock_does, start_mock, wait_for_answer
from rig.page import between, picture
from rig.plot import curves
from rig.processes import HERE, build, cpu_s, end_with_us, own_cpu_s, rss_mb, spawn, stop, taken, tree
from rig.rows import add_keys, add_rows

Row = dict[str, float]
PORT = 8393
ROUNDS, SECONDS = 4, 0.8
NOBODY = Gateway("scaling", "Turnout", None, PORT)


@contextmanager
def running(path: Path, core: int | str = 0, served: bool = False) -> "Iterator[tuple[Popen[bytes], float]]":
    """The gateway with this configuration and the seconds to its first answer. `served`: by `turnout serve`, with its workers."""
    command = (str(BIN / "python"), "-I", str(HERE / "front.py"), str(path), str(PORT))
    if served:
        command = (str(BIN / "turnout"), "serve", "--config", str(path), "--host", "127.0.0.1", "--port", str(PORT))
    if taken(PORT):
        raise Failed(f"something listens on port {PORT} already: it would be measured instead")
    mock = start_mock()
    process = spawn(command, core, {}, HERE / "logs/scaling.log")
    try:
        yield process, wait_for_answer(NOBODY, process)
    finally:
        stop(process)
        stop(mock)


def settled(process: "Popen[bytes]", limit_s: float = 30) -> None:
    """Until nothing starts any more: beside several workers a spare one imports what it will need."""
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        before = cpu_s(process.pid)
        time.sleep(1)
        if cpu_s(process.pid) - before < 0.05:
            return


def cost(process: "Popen[bytes]", connections: int = 16) -> float:
    """CPU µs of a request, the least of some rounds."""
    found = []
    seconds = SECONDS + connections / 120  # what is half done at the end must not count
    load(NOBODY, body("chat"), c=connections, s=seconds)
    for _ in range(ROUNDS if connections < 100 else 2):
        time.sleep(0.2)
        before = cpu_s(process.pid)
        got = load(NOBODY, body("chat"), c=connections, s=seconds)
        found.append((cpu_s(process.pid) - before) * 1e6 / (got["requests"] + connections / 2))
    return min(found)


def of_size(name: str, sizes: list[int]) -> list[Row]:
    """The curve of one size of the configuration."""
    rows = []
    for size in [*sizes, sizes[0]]:
        with tempfile.TemporaryDirectory() as folder:
            path = config(Path(folder), **({} if name == "keys" else {name: size}))
            if name == "keys":
                add_keys(Path(folder) / "ledger.db", size - 1)
            with running(path) as (process, start_s):
                rows.append({name: size, "cpu_us": cost(process), "start_s": start_s, "rss_mb": rss_mb(process.pid)})
            tell(name, rows[-1])
    return rows


def concurrency() -> list[Row]:
    rows = []
    with tempfile.TemporaryDirectory() as folder, running(config(Path(folder))) as (process, _):
        mock_does("-t20")  # so that nobody's connections are idle
        for connections in (10, 32, 100, 320, 1000, 10):
            rows.append({"concurrency": connections, "cpu_us": cost(process, connections), "rss_mb": rss_mb(process.pid)})
            tell("concurrency", rows[-1])
    return rows


def workers() -> list[Row]:
    """All on core 0, so that what a request costs does not depend on who else computes beside it. `busiest`: the share of the one that did most."""
    rows = []
    for count in (1, 2, 1):
        with tempfile.TemporaryDirectory() as folder, running(config(Path(folder), workers=count, limited=False), served=True) as (process, start_s):
            load(NOBODY, body("chat"), c=64, s=SECONDS)
            settled(process)
            pids = tree(process.pid)
            before = [own_cpu_s(pid) for pid in pids]
            got = load(NOBODY, body("chat"), c=64, s=4)
            spent = [own_cpu_s(pid) - was for pid, was in zip(pids, before, strict=True)]
            rows.append(
                {
                    "workers": count,
                    "cpu_us": sum(spent) * 1e6 / got["requests"],
                    "busiest": max(spent) / sum(spent),
                    "start_s": start_s,
                    "rss_mb": rss_mb(process.pid),
                }
            )
            rows[-1]["speed-up"] = rows[0]["cpu_us"] / (rows[-1]["cpu_us"] * rows[-1]["busiest"]) * rows[0]["busiest"]
            tell("workers", rows[-1])
    return rows


def streams() -> list[Row]:
    """Streams that have had their first event and wait for the next. A process needs two files for each, hence two workers for 10,000 where the
    limit of open files is 20,000."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    rows = []
    for count, asked in ((1, 1000), (1, 4000), (2, 10000)):
        with tempfile.TemporaryDirectory() as folder, running(config(Path(folder), workers=count, limited=False), served=True) as (process, _):
            load(NOBODY, body("chat"), c=16, s=SECONDS)
            settled(process)
            before = rss_mb(process.pid)
            mock_does("-c100-d60000-q3")
            held_s = 10 + asked / 400
            with Popen(loadgen(NOBODY, body("chat_stream"), CHAT, c=asked, s=held_s), stdout=subprocess.PIPE, text=True) as generator:
                time.sleep(held_s * 0.9)
                after = rss_mb(process.pid)
                told = json.loads(generator.communicate()[0])
            rows.append(
                {
                    "streams": told["open"],
                    "asked": asked,
                    "workers": count,
                    "KB a stream": (after - before) * 1024 / max(1, told["open"]),
                    "rss_mb": after,
                }
            )
            tell("streams", rows[-1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return rows


def ledger_rows(most: int) -> list[Row]:
    found: list[Row] = []
    with tempfile.TemporaryDirectory(dir=HERE / "results") as folder:
        path, have = config(Path(folder)), 0
        for size in [0, *(step for step in (100_000, 1_000_000, 10_000_000) if step <= most)]:
            if size:
                began = time.monotonic()
                add_rows(Path(folder) / "ledger.db", have, size, most)
                print(f"{size:,} rows after {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
                have = size
            with running(path) as (process, start_s):
                found.append({"rows": size, "cpu_us": cost(process), "start_s": start_s, "rss_mb": rss_mb(process.pid)})
                tell("rows", found[-1])
    return found


def tell(name: str, row: Row) -> None:
    print(f"{name}: " + ", ".join(f"{key} {value:,.6g}" for key, value in row.items()), file=sys.stderr, flush=True)


def shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or float(value).is_integer() else f"{value:.2f}"


def table(rows: list[Row]) -> str:
    heads = list(rows[-1])
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    return "\n".join(lines + ["| " + " | ".join(shown(row[head]) for head in heads) + " |" for row in rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--rows", type=int, default=10_000_000, help="the most rows of a ledger")
    parser.add_argument("--docs", action="store_true", help="write tables and plots into docs/performance.md")
    options = parser.parse_args()
    build()
    end_with_us()
    parts: dict[str, tuple[str, Callable[[], list[Row]]]] = {
        "workers": ("Workers, all on one core", workers),
        "concurrency": ("Concurrent requests, of 20 ms each", concurrency),
        "streams": ("Idle streams", streams),
        "teams": ("Teams with limits, a budget and a key each", lambda: of_size("teams", [1, 10, 100, 1_000])),
        "keys": ("Keys of the team that asks", lambda: of_size("keys", [1, 100, 10_000, 100_000])),
        "models": ("Models with a target each", lambda: of_size("models", [1, 10, 100, 1_000])),
        "targets": ("Targets of the model that is asked", lambda: of_size("targets", [1, 10, 100, 1_000])),
        "rows": ("Rows in the ledger", lambda: ledger_rows(options.rows)),
    }
    text = [f"{time.strftime('%Y-%m-%d', time.gmtime())}, load of the machine {os.getloadavg()[0]:.1f} before the run."]
    for name in options.names or parts:
        title, measured = parts[name]
        try:
            rows = measured()
        except Failed as exc:
            text.append(f"{title}: not measured, {exc}")
            continue
        (HERE / f"results/scaling-{name}.json").write_text(json.dumps(rows, indent=1))
        text += [f"{title}:", table(rows)]
        if name not in ("workers", "streams") and options.docs:
            points = [(row[name], row["cpu_us"]) for row in (rows if name == "rows" else rows[:-1])]
            picture(f"scaling-{name}.svg", curves(title, name, "CPU µs a request", [("everything on", points)]))
            text.append(f"![CPU of a request against {title.lower()}](images/scaling-{name}.svg)")
    print("\n\n".join(text))
    if options.docs:
        between("scaling", "\n\n".join(text))


if __name__ == "__main__":
    main()
