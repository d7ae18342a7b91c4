"""What admission and priorities are worth: a load of twice what the engine can do, and batch work under live traffic.

    python bench/gpu/protect.py OUT overload --rate 90 --seconds 30 [--direct]
    python bench/gpu/protect.py OUT below --live 8 --batch 248

Needs what bench/gpu/setup.sh started. `overload --direct` asks the engine's own server, which nothing protects. A line of JSON a run.
"""

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from measure import GATEWAY, engine, load

BATCH_KEY = "sk-batch-bench-gpu"


def overload(options: argparse.Namespace) -> list[dict[str, Any]]:
    to, key = engine() if options.direct else GATEWAY
    requests = str(int(options.rate * options.seconds))
    label = "direct" if options.direct else "gateway"
    return [load(to, key, "--rate", str(options.rate), "--requests", requests, "--seed", "500000", "--label", f"{label} at {options.rate}/s")]


def below(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Live alone, batch alone, then both at once."""
    to, key = GATEWAY
    live = ("--streams", str(options.live), "--requests", str(options.live * options.rounds), "--pause", str(options.pause))
    batch = ("--streams", str(options.batch), "--requests", str(options.batch * options.batch_rounds))
    runs = []
    if options.only != "both":
        runs += [
            load(to, key, *live, "--seed", "600000", "--label", "live alone"),
            load(to, BATCH_KEY, *batch, "--seed", "610000", "--label", "batch alone"),
        ]
    if options.only == "alone":
        return runs
    with ThreadPoolExecutor() as pool:
        beside = pool.submit(load, to, BATCH_KEY, *batch, "--seed", "620000", "--label", "batch below live")
        subprocess.run(["sleep", "5"], check=True)
        runs.append(load(to, key, *live, "--seed", "630000", "--label", "live above batch"))
        return [*runs, beside.result()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    verbs = parser.add_subparsers(required=True)
    one = verbs.add_parser("overload")
    one.add_argument("--rate", type=float, default=90)
    one.add_argument("--seconds", type=float, default=30)
    one.add_argument("--direct", action="store_true")
    one.set_defaults(run=overload)
    two = verbs.add_parser("below")
    two.add_argument("--live", type=int, default=8)
    two.add_argument("--batch", type=int, default=248)
    two.add_argument("--rounds", type=int, default=12, help="requests of a live stream")
    two.add_argument("--batch-rounds", type=int, default=4)
    two.add_argument("--pause", type=float, default=0.0)
    two.add_argument("--only", choices=("alone", "both"))
    two.set_defaults(run=below)
    options = parser.parse_args()
    with options.out.open("a") as out:
        for run in options.run(options):
            line = json.dumps(run)
            print(line, flush=True)
            out.write(line + "\n")


if __name__ == "__main__":
    main()
