"""Gateways side by side on one core: CPU per request, requests/s, added latency, stream events/s, all in one run.

    python bench/compare.py [--passes N] [--scale S] [--quick] [--docs] [NAME ...] [--only PHASE ...]

The gateway is pinned to core 0, the mock provider and the load generator to core 1. Machines are noisy: read the ratios, which come
from one run. CPU is the kernel's scheduler accounting of the gateway's whole process tree. Peers that are not installed are left out and
named; `make bench-peers` installs them. `--docs` writes tables and plot into docs/performance.md.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path

from rig.gateways import GATEWAYS, MOCK_PORT, QUICK, USUAL
from rig.load import Failed
from rig.measure import Measurement, measure
from rig.page import between, picture
from rig.plot import Bar, bars
from rig.processes import HERE, build, end_with_us
from rig.table import Pass, tables, values

__all__ = ["HERE", "MOCK_PORT", "build", "main"]

PLOTTED = (
    ("CPU µs per request (less is better)", "cpu_us"),
    ("requests/s on one core (logarithmic, as all of these)", "rps"),
    ("added p50, ms (less is better)", "+p50_ms"),
    ("paced stream events/s, of 42,000 offered", "paced_eps"),
)


def plot(passes: list[Pass]) -> str:
    panels: list[tuple[str, list[Bar]]] = []
    for title, figure in PLOTTED:
        rows = []
        for name, gateway in GATEWAYS.items():
            found = [value for value in values(passes, name, figure) if value > 0]
            if found and name != "direct":
                rows.append((gateway.title.strip("*"), min(found), statistics.median(found), max(found)))
        panels.append((title, sorted(rows, key=lambda row: row[2], reverse=figure in ("rps", "paced_eps"))))
    return bars(panels, "Turnout")


def told(result: Measurement) -> str:
    return json.dumps({key: round(value, 2) for key, value in result.figures.items()})


def one_pass(number: int, names: list[str], scale: float, phases: list[str], missing: dict[str, str]) -> Pass:
    found: dict[str, dict[str, float]] = {}
    for name in names:
        gateway = GATEWAYS[name]
        if not gateway.available:
            missing[name] = "not installed"
            continue
        began = time.monotonic()
        try:
            result = measure(gateway, scale, phases)
        except Failed as exc:
            missing[name] = str(exc)
            print(f"pass {number} {name}: {exc}", file=sys.stderr, flush=True)
            continue
        found[name] = result.figures
        missing.update({f"{name}, {phase}": why for phase, why in result.failures.items()})
        print(f"pass {number} {name} ({time.monotonic() - began:.0f} s): {told(result)} {result.failures or ''}", file=sys.stderr, flush=True)
    return found


def conditions(passes: list[Pass], scale: float, load: tuple[float, float]) -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    processor = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    how = "one pass" if len(passes) == 1 else f"medians of {len(passes)} passes, [lowest–highest]"
    return (
        f"{time.strftime('%Y-%m-%d', time.gmtime())}, {how}, phases of {scale:g} times their usual length; {os.cpu_count()} × {processor}, Python "
        f"{platform.python_version()}; load of the machine {load[0]:.1f} before the run and {load[1]:.1f} at its end (about 2 is the run itself)."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=" ".join(GATEWAYS))
    parser.add_argument("--passes", type=int, default=1)
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies every phase's seconds")
    parser.add_argument("--quick", action="store_true", help="fewer gateways and short phases")
    parser.add_argument("--docs", action="store_true", help="write tables and plot into docs/performance.md")
    phases = ("light", "full", "bodies", "streams", "burst", "paced", "most_streams", "dialects")
    parser.add_argument("--only", nargs="+", default=[], choices=phases, help="these phases")
    options = parser.parse_args()
    build()
    end_with_us()
    scale = 0.25 if options.quick else options.scale
    before, missing, passes = os.getloadavg()[0], dict[str, str](), list[Pass]()
    for number in range(options.passes):
        passes.append(one_pass(number + 1, options.names or (QUICK if options.quick else USUAL), scale, options.only, missing))
    text = conditions(passes, scale, (before, os.getloadavg()[0])) + "\n\n" + tables(passes, missing)
    (HERE / "results/compare.json").write_text(json.dumps({"passes": passes, "missing": missing}, indent=1))
    print(text)
    if options.docs:
        picture("performance.svg", plot(passes))
        between("bench", text + "\n\n![CPU per request, requests/s, added latency and stream events of each gateway](images/performance.svg)")


if __name__ == "__main__":
    main()
