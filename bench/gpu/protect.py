"""What admission and priorities are worth: a load of twice what the engine can do, batch work under live traffic, and prompts too long for a
promise beside short ones.

    python bench/gpu/protect.py OUT overload --rate 90 --seconds 30 [--direct]
    python bench/gpu/protect.py OUT below --live 8 --batch 248 [--only both] [--label "after live"]
    python bench/gpu/protect.py OUT long --rate 10 --prompt 30000 [--label "a threshold of 0"]

Needs what bench/gpu/setup.sh started. `overload --direct` asks the engine's own server, which nothing protects. A line of JSON a run.
"""

import argparse
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from measure import GATEWAY, engine, load

BATCH_KEY = "sk-batch-bench-gpu"
LEAD_S = 5.0  # by which batch work begins before the live requests, and ends after them


def overload(options: argparse.Namespace) -> list[dict[str, Any]]:
    to, key = engine() if options.direct else GATEWAY
    requests = str(int(options.rate * options.seconds))
    label = "direct" if options.direct else "gateway"
    return [load(to, key, "--rate", str(options.rate), "--requests", requests, "--seed", "500000", "--label", f"{label} at {options.rate}/s")]


def below(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Live alone, batch alone, then both at once: batch work begins before the live requests and goes on until after they ended."""
    to, key = GATEWAY
    live = ("--streams", str(options.live), "--requests", "1000000", "--seconds", str(options.seconds), "--pause", str(options.pause))
    batch = ("--streams", str(options.batch), "--requests", "1000000", "--seconds")
    runs = []
    if options.only != "both":
        runs += [
            load(to, key, *live, "--seed", "1000000", "--label", "live alone"),
            load(to, BATCH_KEY, *batch, str(options.seconds), "--seed", "2000000", "--label", "batch alone"),
        ]
    if options.only == "alone":
        return runs
    with ThreadPoolExecutor() as pool:
        beside = pool.submit(load, to, BATCH_KEY, *batch, str(options.seconds + 2 * LEAD_S), "--seed", "3000000", "--label", "batch below live")
        time.sleep(LEAD_S)
        runs.append(load(to, key, *live, "--seed", "4000000", "--label", "live above batch"))
        return [*runs, beside.result()]


def long(options: argparse.Namespace) -> list[dict[str, Any]]:
    """One client with long prompts and no pause; another's short requests."""
    to, key = GATEWAY
    without_pause = ("--streams", "1", "--requests", "1000000", "--seconds", str(options.seconds + LEAD_S), "--out", "8")
    short = ("--rate", str(options.rate), "--requests", str(int(options.rate * options.seconds)), "--prompt", "64", "--out", "16")
    runs = [load(to, key, *short, "--seed", "5000000", "--label", "short alone")]
    with ThreadPoolExecutor() as pool:
        beside = pool.submit(load, to, key, *without_pause, "--prompt", str(options.prompt), "--seed", "6000000", "--label", "long beside short")
        time.sleep(LEAD_S / 2)
        runs.append(load(to, key, *short, "--seed", "7000000", "--label", "short beside long"))
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
    two.add_argument("--seconds", type=float, default=30.0, help="of the live requests, and of each alone")
    two.add_argument("--pause", type=float, default=0.0)
    two.add_argument("--label", default="", help="what is told of each run besides: how the engine was set up")
    two.add_argument("--only", choices=("alone", "both"))
    two.set_defaults(run=below)
    three = verbs.add_parser("long")
    three.add_argument("--rate", type=float, default=10.0, help="of short requests, a second")
    three.add_argument("--prompt", type=int, default=30_000, help="tokens of a long prompt")
    three.add_argument("--seconds", type=float, default=20.0, help="of the short requests")
    three.add_argument("--label", default="", help="what is told of each run besides: how the engine was set up")
    three.set_defaults(run=long)
    options = parser.parse_args()
    with options.out.open("a") as out:
        for run in options.run(options):
            line = json.dumps({"setup": getattr(options, "label", ""), **run})
            print(line, flush=True)
            out.write(line + "\n")


if __name__ == "__main__":
    main()
