"""docs/faults.md, made of the fault table."""

import re
from pathlib import Path

from tests.faults.rows import QUICK_S, Expect, Plan, Row
from tests.faults.table import GROUPS

PATH = Path(__file__).parents[2] / "docs" / "faults.md"
_HEAD = """# What a caller sees when an upstream fails

Made from the table in `tests/faults/table.py`: `make faults` rewrites it, and `make test` plays every line of it over real sockets, for
chat, messages, responses and embeddings, streamed and unary, and fails while this page differs. Unless a line says otherwise, targets are
of the client's own dialect, clocks and retries are the default ones (silence is played with shorter clocks), and the answer is 60 tokens
long. Times are bounds. No upstream's text about its failure reaches a caller; every attempt has its row in the ledger; the answer's
`x-turnout-target` names who gave it.

- *with a fallback*: `fallback: any`, and a second target that is well;
- *without*: `fallback: none`;
- *`recovery: hold`*: as with a fallback, the client's stream running behind the upstream by more than the fault takes.

"In-band" is an error inside a stream that has begun; such a stream never ends as a whole one does.

What is lost after its upstream's status 200 was made, and may be charged: the attempt's row has what was told of its usage before, or else
an estimate of its prompt and of the text that came, flagged, whether the answer was streamed or unary; where some of what came is no text
(a picture, a sound) the cost is not known (null, and `unpriced`). So has one that ran into a clock.
The gateway bears what nothing was given of (`absorbed_usd`).

Of a whole answer whose usage was not told, or cannot be what it took, the row has an estimate as well: of text and embeddings what is missing
by their length, of counts that contradict each other the whole that was told. Of images and transcripts without their output tokens the cost
is not known.

An event of a stream may be 64 MiB large, as a whole answer may, for a picture comes as one event. A stream takes up to six
times its largest event of memory while that is read (360 MiB for one of 60); a stream of text some KiB.
"""
_TITLES: dict[Plan, str] = {"fallback": "With a fallback", "alone": "Without", "hold": "`recovery: hold`, streamed"}


def document() -> str:
    parts = [_HEAD]
    for title, rows in GROUPS.items():
        lines = [f"## {title}\n", f"| The upstream | {' | '.join(_TITLES.values())} |", "|---" * (len(_TITLES) + 1) + "|"]
        parts.append("\n".join([*lines, *map(_line, rows)]) + "\n")
    return "\n".join(parts)


def _line(row: Row) -> str:
    cells = [_cell(row, "fallback"), _cell(row, "alone"), said(row.stream["hold"]) if row.dialects != ("embeddings",) else "–"]
    return f"| {row.name}{_dialects(row)} | {cells[0]} | {cells[1]} | {cells[2]} |"


def _dialects(row: Row) -> str:
    """Named where the line is for fewer of them than is plain."""
    return f" ({', '.join(row.dialects)})" if len(row.dialects) == 1 else ""


def _cell(row: Row, plan: Plan) -> str:
    stream, unary = said(row.stream[plan]), said(row.unary[plan])
    if stream == unary or "unary" not in row.modes:
        return stream
    return f"streamed: {stream}; unary: {unary}"


def said(expect: Expect) -> str:
    """An expectation in words."""
    tries = _tries(expect.trail)
    if whole := re.fullmatch(r"([abc]):60", expect.answer):
        who = {"a": "it answers", "b": "the fallback answers", "c": "a third target answers"}[whole[1]]
        words = who if whole[1] != "a" or not tries else f"it answers at the {tries + 1}nd attempt"
    elif cut := re.fullmatch(r"a:(\S+) (\w+)", expect.answer):
        words = f"{f'{cut[1]} tokens' if cut[1].isdigit() else 'its tokens'}, then in-band `{cut[2]}`"
    else:
        words = f"{expect.status} `{expect.answer}`"
        if expect.retry_after is not None:
            words += f", `retry-after` {expect.retry_after[0]:g} s or more"
    least, most = expect.elapsed
    return words if expect.elapsed == (0.0, QUICK_S) else f"{words}, in {least:g} to {most:g} s"


def _tries(trail: str) -> int:
    """How many attempts of a failed, where that is certain."""
    return len(re.findall(r"(?:^|, )a (?!ok)", trail))
