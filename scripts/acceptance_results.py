"""What a part of the acceptance run found: passed, failed, and the gaps that tests/acceptance/gaps.toml names."""

import re
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Gap:
    """A failure that is expected: where it is (a pattern over part and test) and why."""

    part: re.Pattern[str]
    test: re.Pattern[str]
    why: str


@dataclass(slots=True)
class Result:
    """One line of the table. `failures` and `gaps` hold (test, what it said)."""

    part: str
    passed: int = 0
    skipped: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    gaps: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, test: str, said: str, known: Iterable[Gap]) -> None:
        gap = next((g for g in known if g.part.fullmatch(self.part) and g.test.search(f"{test}: {said}")), None)
        if gap is None:
            self.failures.append((test, first_words(said)))
        else:
            self.gaps.append((test, gap.why))


def read_gaps(path: Path) -> list[Gap]:
    rows = tomllib.loads(path.read_text())["gap"] if path.exists() else []
    return [Gap(re.compile(row["part"]), re.compile(row["test"]), row["why"]) for row in rows]


def from_junit(part: str, path: Path, known: Iterable[Gap]) -> Result:
    """What pytest and node wrote down. No file: the program did not come so far, which is a failure."""
    result = Result(part)
    if not path.exists() or not path.stat().st_size:
        result.add("the run itself", "wrote no report", known)
        return result
    known = list(known)
    for case in ET.parse(path).iter("testcase"):
        name = f"{case.get('classname', '')}::{case.get('name', '')}"
        bad = case.find("failure") if case.find("failure") is not None else case.find("error")
        if bad is not None:
            result.add(name, f"{bad.get('message') or ''} {bad.text or ''}", known)
        elif case.find("skipped") is not None:
            result.skipped += 1
        else:
            result.passed += 1
    return result


def first_words(text: str) -> str:
    return " ".join(text.split())[:300]


def gaps_table(gaps: list[Gap]) -> str:
    """The gaps as docs/acceptance.md shows them."""
    rows = ["| " + " | ".join(cell.replace("|", r"\|") for cell in (f"`{g.part.pattern}`", f"`{g.test.pattern}`", g.why)) + " |" for g in gaps]
    return "\n".join(["| part | test, or what it said | why |", "|---|---|---|", *rows])


def table(results: list[Result]) -> str:
    """The table that a run prints."""
    width = max((len(r.part) for r in results), default=len("total"))
    head = f"{'part':<{width}}  passed  failed  gaps  skipped  seconds"
    rows = [f"{r.part:<{width}}  {r.passed:6}  {len(r.failures):6}  {len(r.gaps):4}  {r.skipped:7}  {r.seconds:7.1f}" for r in results]
    total = Result("total", sum(r.passed for r in results), sum(r.skipped for r in results))
    sums = f"{'total':<{width}}  {total.passed:6}  {sum(len(r.failures) for r in results):6}  {sum(len(r.gaps) for r in results):4}"
    sums += f"  {total.skipped:7}  {sum(r.seconds for r in results):7.1f}"
    return "\n".join([head, "-" * len(head), *rows, "-" * len(head), sums])
