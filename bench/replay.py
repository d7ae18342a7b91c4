"""How long `turnout replay` takes over a generated week, and how near it comes to what another policy would really have done.

python bench/replay.py [--requests 100000] [--recorded spread] [--policies spread frugal]
python bench/replay.py --make FOLDER [--requests 8000]     (only the week: a ledger, and a configuration for each policy)
"""

import argparse
import resource
import sys
import tempfile
from pathlib import Path
from time import perf_counter, time, time_ns

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.policy.week import DAYS, POLICIES, Truth, Week, config
from config.load import load
from gateway.cli.settings import known_kinds
from gateway.replay.replaying import Span
from gateway.replay.run import replay
from ledger.database import open_engine

US = 1_000_000
WHOSE = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
MARGIN_DAYS = 0.05  # so that all of it is in the last seven days for an hour to come


def make(folder: Path, requests: int, recorded: str) -> tuple[Week, Truth]:
    """The week under a policy, and the files of all the others."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in POLICIES:
        (folder / f"{name}.yaml").write_text(config(name))
    week = Week(requests, days=DAYS - MARGIN_DAYS)
    return week, week.record(folder, recorded, time_ns() // 1000 - US)


def cpu_s() -> float:
    """Of this process, and of those that have ended."""
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, WHOSE))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--recorded", default="spread", choices=POLICIES)
    parser.add_argument("--policies", nargs="+", default=["spread", "frugal"], choices=POLICIES)
    parser.add_argument("--make", type=Path)
    options = parser.parse_args()
    if options.make is not None:
        make(options.make, options.requests, options.recorded)
        return
    with tempfile.TemporaryDirectory() as folder:
        began = perf_counter()
        week, truth = make(Path(folder), options.requests, options.recorded)
        print(f"{truth.result.requests:,} requests made in {perf_counter() - began:.0f} s, under {options.recorded}", flush=True)
        ledger = open_engine(f"sqlite:///{folder}/turnout.db")
        for name in options.policies:
            settings = load(Path(folder) / f"{name}.yaml", {}, known_kinds()).settings
            began, before_s = perf_counter(), cpu_s()
            told = replay(settings, ledger, Span(int((time() - DAYS * 86_400) * US), time_ns() // 1000))
            took_s, its_s = perf_counter() - began, cpu_s() - before_s
            peak = max(resource.getrusage(whose).ru_maxrss for whose in WHOSE) >> 10
            print(
                f"\n{name}: {told['requests']['planned']:,} requests planned again in {took_s:.1f} s (CPU {its_s:.1f} s), {peak} MiB a process",
                flush=True,
            )
            real = week.truth(name)
            changes = (told["cost"]["change"], real.cost_usd / truth.cost_usd - 1)
            print("  cost        replayed {:+.1%}   really {:+.1%}".format(*changes))
            print(f"  p95 ttft    replayed {told['ttft']['replayed_p95_ms']:.0f} ms   really {real.p95_ttft_ms:.0f} ms")
            print(f"  no evidence {told['no_evidence']['share']:.1%}", flush=True)
        ledger.dispose()


if __name__ == "__main__":
    main()
