"""A report's groups as they are asked for, and its lines as CSV."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from ledger.reports import REPORTS, Report


def groups_of(told: str | None, report: Report) -> list[str]:
    """`model,day`; None: the report's default. Raises ValueError, saying what there is."""
    groups = list(report.default) if told is None else [name for name in told.split(",") if name]
    if unknown := [name for name in groups if name not in report.groups]:
        raise ValueError(f"{unknown[0][:40]!r} is not one of {', '.join(report.groups)}")
    if len(set(groups)) < len(groups) or len(groups) > report.most or (report.most == 1 and not groups):
        raise ValueError("takes one group" if report.most == 1 else f"takes up to {report.most} groups, each once")
    return groups


def as_csv(lines: Iterable[dict[str, Any]], like: dict[str, Any]) -> str:
    """A line each below one of the names, with dots in those of what is nested. `like`: a line that has all of it."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [name for name, _ in _flat("", like)], extrasaction="ignore", lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(dict(_flat("", line)) for line in lines)
    return text.getvalue()


def like(name: str, groups: Sequence[str]) -> dict[str, Any]:
    """A line of that report with everything in it."""
    return dict.fromkeys(groups) | REPORTS[name].like


def _flat(prefix: str, line: dict[str, Any]) -> Iterable[tuple[str, Any]]:
    for name, value in line.items():
        if isinstance(value, dict):
            yield from _flat(f"{prefix}{name}.", value)
        elif isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
            yield f"{prefix}{name}", f"'{value}"  # a name from a caller must not become a spreadsheet's formula
        else:
            yield f"{prefix}{name}", " ".join(map(str, value)) if isinstance(value, list | tuple) else value
