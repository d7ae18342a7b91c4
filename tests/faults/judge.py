"""What came of a cell beside what was to come: the answer, the headers, the ledger, the upstreams' own journals."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tests.faults.dialects import PROMPT_TOKENS, TOKENS, Said
from tests.faults.rows import Cell, Expect
from tests.faults.upstreams import Script

FILTERED = ("content_filter", "refusal")
LATE = "took longer"


@dataclass(frozen=True)
class Outcome:
    status: int
    said: Said
    headers: dict[str, str]
    elapsed_s: float
    leaked: bool
    request_id: str
    breaker: str


@dataclass
class Stage:
    """A cell's upstreams: `urls` of a, b and c, and their scripts."""

    urls: dict[str, str]
    scripts: dict[str, Script]


def differences(cell: Cell, outcome: Outcome, stage: Stage, rows: list[Any]) -> Iterable[str]:
    expect = cell.expect
    said = outcome.said
    answer = " ".join(part for part in (said.told, said.code) if part) if not said.whole else said.told
    trail = [walked(row) for row in rows]
    pattern = trail_pattern(expect.trail)
    if outcome.status != expect.status:
        yield f"status {outcome.status}, not {expect.status}"
    if not re.fullmatch(expect.answer, answer):
        yield f"answer {answer!r}, not {expect.answer!r}"
    if said.whole is not bool(re.fullmatch(r"[abc]:60", expect.answer)):
        yield f"the answer looks {'whole' if said.whole else 'cut'}"
    if not re.fullmatch(pattern, ", ".join(trail)):
        yield f"ledger {', '.join(trail)!r}, not {expect.trail!r}"
    if outcome.elapsed_s > expect.elapsed[1]:
        yield f"{LATE}: {outcome.elapsed_s:.2f} s, not {expect.elapsed}"
    if outcome.elapsed_s < expect.elapsed[0]:
        yield f"took {outcome.elapsed_s:.2f} s, not {expect.elapsed}"
    if outcome.leaked:
        yield "the upstream's text reached the caller"
    if expect.filtered and said.finish not in FILTERED:
        yield f"finish {said.finish!r}, which does not tell of a filter"
    yield from headers_wrong(expect, outcome, len(rows), answer)
    yield from calls_wrong(cell, stage, trail)
    if not re.fullmatch(expect.breaker, outcome.breaker):
        yield f"a's breaker is {outcome.breaker}, not {expect.breaker}"
    if said.whole and rows:
        yield from accounts_wrong(expect, rows[-1], cell)
    yield from abandoned_wrong(rows)


def walked(row: Any) -> str:
    """A ledger row as one step of the trail."""
    owner = row.target[-1]
    if row.status == "ok":
        return f"{owner} ok"
    return f"{owner} {row.error_code}" if row.status == "failed" else f"{owner} {row.status} {row.error_code}"


def trail_pattern(trail: str) -> str:
    """`a CODE x1-3, b ok` as a regular expression for the walked steps."""
    steps = []
    for step in trail.split(", "):
        found = re.fullmatch(r"(.*?)(?: x(\d)(?:-(\d))?)?", step)
        assert found is not None
        words, least, most = found[1], int(found[2] or 1), int(found[3] or found[2] or 1)
        steps.append(rf"(?:{words}(?:, |$)){{{least},{most}}}")
    return "".join(steps)


def headers_wrong(expect: Expect, outcome: Outcome, attempts: int, answer: str) -> Iterable[str]:
    told = outcome.headers
    if "location" in told:
        yield "a redirect was handed on"
    if told.get("x-turnout-attempts", "0") != str(attempts) and answer[:1] not in ("", "a"):
        yield f"x-turnout-attempts {told.get('x-turnout-attempts')}, with {attempts} in the ledger"
    if outcome.status == 200 and not told.get("x-turnout-target", "").endswith(f"-{answer[:1]}"):
        yield f"x-turnout-target {told.get('x-turnout-target')} for {answer!r}"
    if outcome.status in (429, 503):
        wait = float(told.get("retry-after", "0"))
        least, most = expect.retry_after or (1.0, 60.0)
        if not least <= wait <= most:
            yield f"retry-after {wait}, not {(least, most)}"
        if expect.answer != "upstream_quota_exhausted" and told.get("x-should-retry") != "true":
            yield "x-should-retry is not true"


def calls_wrong(cell: Cell, stage: Stage, trail: list[str]) -> Iterable[str]:
    """Every request that an upstream saw is in the ledger, and none that it did not see, unless it could not be reached."""
    reachable = cell.row.address in ("shared", "own")
    for owner, script in stage.scripts.items():
        rows = sum(step.startswith(f"{owner} ") for step in trail)
        seen = len(script.calls)
        if seen != (rows if owner != "a" or reachable else 0):
            yield f"{owner} was asked {seen} times, with {rows} in the ledger"
    expect, calls = cell.expect, stage.scripts["a"].calls
    apart = [later - earlier for (earlier, _), (later, _) in pairwise(calls)]
    if apart and min(apart) < expect.apart:
        yield f"a was asked again after {min(apart):.2f} s, not {expect.apart} s"
    if expect.most_sent is not None and calls and calls[0][1].sent > expect.most_sent:
        yield f"a could send {calls[0][1].sent} bytes"


def accounts_wrong(expect: Expect, row: Any, cell: Cell) -> Iterable[str]:
    """The answer's row holds its usage and its cost."""
    output = TOKENS if cell.speech.streams else 0
    cost_nusd = PROMPT_TOKENS * 1000 + output * 2000 if expect.usage == "provider" else row.cost_nusd
    if row.usage is None or not re.fullmatch(expect.usage, row.usage.source):
        yield f"usage {row.usage}, not from {expect.usage}"
    elif row.cost_nusd is None or row.cost_nusd != cost_nusd:
        yield f"cost {row.cost_nusd}"


def abandoned_wrong(rows: list[Any]) -> Iterable[str]:
    """Whoever was not waited for may have worked all the same: what that cost is an estimate, and says so."""
    for row in rows:
        code = row.error_code or ""
        sent = code.endswith("_timeout") and code != "upstream_connect_timeout"
        if sent and (row.usage is None or row.usage.source != "estimated"):
            yield f"{walked(row)}: usage {row.usage}, not estimated"
