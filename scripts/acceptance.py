"""`make acceptance`: tests and programs of others against a gateway before scripted and recorded providers; docs/acceptance.md.

The data and the stand-in are in the folder that TURNOUT_ACCEPTANCE names; without it there is nothing to run.
"""

import argparse
import collections
import inspect
import os
import shutil
import sys
import tempfile
from pathlib import Path

from acceptance_parts import PARTS, TESTS, Run
from acceptance_results import Gap, Result, gaps_table, read_gaps, table

SHOWN = 15  # failures of one part that are printed; its log holds all


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"default: all of {', '.join(PARTS)}")
    parser.add_argument("--control", action="store_true", help="against the stand-in itself, with no gateway")
    parser.add_argument("--keep", action="store_true", help="keep the folder of logs also when all is well")
    parser.add_argument("--describe", action="store_true", help="print the parts and gaps as docs/acceptance.md shows them, and run nothing")
    options = parser.parse_args()
    gaps = read_gaps(TESTS / "gaps.toml")
    if options.describe:
        print(described(gaps))
        return 0
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    wanted = options.parts or list(PARTS)
    acceptance = os.environ.get("TURNOUT_ACCEPTANCE", "")
    if not acceptance:
        print(f"TURNOUT_ACCEPTANCE names no folder with the acceptance data: left out {', '.join(wanted)}")
        return 0
    folder = Path(tempfile.mkdtemp(prefix="turnout-acceptance-"))
    run = Run(Path(acceptance).resolve(), folder, gaps, options.control)
    results = run_parts(run, wanted)
    print("\n" + table(results))
    for reason, count in collections.Counter(why for result in results for _, why in result.gaps).most_common():
        print(f"gap, {count} times: {reason}")
    seen = {why for result in results for _, why in result.gaps}
    for gap in gaps:
        if gap.why not in seen and any(gap.part.fullmatch(result.part) for result in results):
            print(f"no longer a gap, in this run: {gap.part.pattern}: {gap.test.pattern}")
    failed = any(result.failures for result in results)
    if failed or options.keep:
        print(f"logs: {folder}")
    else:
        shutil.rmtree(folder)
    return 1 if failed else 0


def described(gaps: list[Gap]) -> str:
    rows = [f"| `{name}` | {inspect.getdoc(part)} |" for name, part in PARTS.items()]
    parts = "\n".join(["| part | what runs |", "|---|---|", *rows])
    return f"{parts}\n\n## Gaps\n\nFailures that are expected, as `tests/acceptance/gaps.toml` names them.\n\n{gaps_table(gaps)}"


def run_parts(run: Run, wanted: list[str]) -> list[Result]:
    """Every part, also after one that could not run at all."""
    results = []
    for part in wanted:
        if part in ("node", "agents") and shutil.which("npm") is None:
            print(f"{part}: left out, npm is not installed")
            continue
        try:
            for result in PARTS[part](run):
                tell(result)
                results.append(result)
        except Exception as exc:  # noqa: BLE001  a part that breaks is a failure of the run, not its end
            results.append(Result(part, failures=[("the part itself", f"{type(exc).__name__}: {exc}")]))
            tell(results[-1])
    return results


def tell(result: Result) -> None:
    print(f"{result.part}: {result.passed} passed, {len(result.failures)} failed, {len(result.gaps)} gaps, {result.seconds:.1f} s", flush=True)
    for test, said in result.failures[:SHOWN]:
        print(f"    {test}: {said}")
    if len(result.failures) > SHOWN:
        print(f"    and {len(result.failures) - SHOWN} more")


if __name__ == "__main__":
    sys.exit(main())
