"""What a report's query says, and how its answer is written: a time, groups and filters in; JSON or CSV, a page at a time, out."""

import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Annotated, Any, get_args

import msgspec
from fastapi import Query, Request, Response
from fastapi.dependencies.models import Dependant

from contract.errors import InvalidRequest
from ledger.lines import as_csv, groups_of
from ledger.reports import Report
from ledger.row import Status
from ledger.units import MOST_USD_PER_HOUR, since_us
from ledger.window import FOR_EVER_US, NAMES, Window

FILTERS = tuple(name for name in (*NAMES, "target") if name not in ("team", "organisation"))
MOST_LINES = 1_000
SINCE = "7d"
PricePerHour = Annotated[float | None, Query(gt=0, le=MOST_USD_PER_HOUR, allow_inf_nan=False)]  # US dollars
Times = tuple[str | None, str | None, str | None]  # `since`, `from`, `to`, as they were written
STATUSES: tuple[str, ...] = get_args(Status)
LAST_US = int(datetime(9999, 1, 1, tzinfo=UTC).timestamp() * 1e6)  # moments that are told have a year in each zone


class Cursor(msgspec.Struct, array_like=True, frozen=True):
    """Where the next page begins, in the same time as the first. `after`: a place in the list, or how many lines were told. `of`, `times`: Page's."""

    from_us: int
    to_us: int
    after: tuple[int, str] | int
    of: str
    times: Times


class Page(msgspec.Struct, frozen=True):
    """`of`: what list it is of, in whichever time: its path, groups and filters. `times`: as the first page's query wrote them."""

    window: Window
    limit: int
    after: tuple[int, str] | int | None
    of: str
    times: Times


class Asked:
    """The query's common part, read by FastAPI. `since`: 30m, 24h, 7d (the default); or `from` and `to`, ISO 8601."""

    def __init__(  # noqa: PLR0913 - FastAPI reads the query's members from here
        self,
        request: Request,
        since: str | None = None,
        from_: Annotated[str | None, Query(alias="from")] = None,
        to: str | None = None,
        key: str | None = None,
        model: str | None = None,
        model_sent: str | None = None,
        provider: str | None = None,
        target: str | None = None,
        policy: str | None = None,
        status: str | None = None,
        limit: Annotated[int, Query(ge=1, le=MOST_LINES)] = 100,
        cursor: str | None = None,
        format: str = "json",
    ) -> None:
        known_query(request)
        if since is not None and from_ is not None:
            raise InvalidRequest("`since` and `from` both say where the time begins; leave one of them out", param="since")
        if status is not None and status not in STATUSES:
            raise InvalidRequest(f"status must be one of {', '.join(STATUSES)}", param="status")
        given = {"key": key, "model": model, "model_sent": model_sent, "provider": provider, "target": target, "policy": policy, "status": status}
        self.filters = {name: value for name, value in given.items() if value is not None}
        self._times: Times = (since, from_, to)
        self.since, self.from_, self.to, self.limit, self.cursor = SINCE if since is None else since, from_, to, limit, cursor
        self._path = str(request.scope["route"].path)
        if format not in ("json", "csv"):
            raise InvalidRequest("format must be json or csv", param="format")
        self.format = format

    def page(self, team: str | None, groups: Sequence[str] = ()) -> Page:
        """What is asked for, of this team alone; None: of all. Raises InvalidRequest."""
        now = time.time()
        filters = self.filters if team is None else {**self.filters, "team": team}
        of = sha256(msgspec.json.encode([self._path, groups, sorted(filters.items())])).hexdigest()[:16]
        if self.cursor is not None:
            told = _read_cursor(self.cursor)
            if told.of != of:
                raise InvalidRequest("this cursor is of another list, groups or filters; repeat the query that it came with", param="cursor")
            for name, given, first in zip(("since", "from", "to"), self._times, told.times, strict=True):
                if given not in (None, first):
                    raise InvalidRequest(
                        f"this cursor goes on in the time that its first page asked for; leave `{name}` as it was there, or out", param=name
                    )
            return Page(Window(told.from_us, told.to_us, filters), self.limit, told.after, of, told.times)
        try:
            from_us = since_us(self.since, now) if self.from_ is None else _moment_us(self.from_)
        except ValueError as exc:
            raise InvalidRequest(str(exc), param="since" if self.from_ is None else "from") from exc
        try:
            to_us = int(now * 1e6) + 1 if self.to is None else _moment_us(self.to)
        except ValueError as exc:
            raise InvalidRequest(str(exc), param="to") from exc
        if to_us < from_us:
            named = (
                ("from", "`from` is after `to`")
                if self.from_ is not None
                else ("to", f"`to` is before the last {self.since} begin; write `from` too")
            )
            raise InvalidRequest(named[1], param=named[0])
        return Page(Window(from_us, to_us, filters), self.limit, None, of, self._times)


def known_query(request: Request) -> None:
    """Raises InvalidRequest for a parameter that the route does not have, or that is there twice: who misspells a filter must not read everything."""
    known = _parameters(request.scope["route"].dependant)
    for name, times in Counter(name for name, _ in request.query_params.multi_items()).items():
        if times > 1:
            raise InvalidRequest(f"{name[:40]!r} is there {times} times; write it once", param=name[:40])
        if name not in known:
            raise InvalidRequest(f"there is no parameter {name[:40]!r} here; there are {', '.join(sorted(known)) or 'none'}", param=name[:40])


def _parameters(dependant: Dependant) -> set[str]:
    return {each.alias for each in dependant.query_params}.union(*map(_parameters, dependant.dependencies))


def groups_or_refuse(told: str | None, report: Report) -> list[str]:
    """`group_by=model,day`. Raises InvalidRequest."""
    try:
        return groups_of(told, report)
    except ValueError as exc:
        raise InvalidRequest(f"group_by: {exc}", param="group_by") from exc


def cursor_of(page: Page, after: tuple[int, str] | int | None) -> str | None:
    if after is None:
        return None
    return urlsafe_b64encode(msgspec.json.encode(Cursor(page.window.from_us, page.window.to_us, after, page.of, page.times))).decode().rstrip("=")


def answer(asked: Asked, lines: Sequence[dict[str, Any]], like: dict[str, Any], next_cursor: str | None, **beside: Any) -> Response:
    """JSON: `data`, `next_cursor`, and what stands beside them. CSV: a line each, nested names with dots, the cursor in
    `x-next-cursor`, `whole`, `from` and `to` in `x-whole`, `x-from` and `x-to`.

    `like`: a line that has everything in it.
    """
    if asked.format == "json":
        body = msgspec.json.encode({"data": lines, "next_cursor": next_cursor, **beside})
        return Response(body, media_type="application/json")
    headers = {} if next_cursor is None else {"x-next-cursor": next_cursor}
    if "whole" in beside:
        headers["x-whole"] = "true" if beside["whole"] else "false"
    headers |= {f"x-{name}": beside[name] for name in ("from", "to") if name in beside}
    return Response(as_csv(lines, like), media_type="text/csv; charset=utf-8", headers=headers)


def _read_cursor(text: str) -> Cursor:
    try:
        told = msgspec.json.decode(urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=Cursor)
        numbers = (told.from_us, told.to_us, told.after if isinstance(told.after, int) else told.after[0])
        if all(0 <= number < FOR_EVER_US for number in numbers):
            return told
    except ValueError:
        pass
    raise InvalidRequest("this cursor was not made here; leave it out for the first page", param="cursor")


def _moment_us(text: str) -> int:
    """Raises ValueError, saying what to write."""
    try:
        at = datetime.fromisoformat(text)
        at_us = int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1e6)
        if not 0 <= at_us < LAST_US:
            raise OverflowError
        return at_us
    except (ValueError, OverflowError) as exc:
        raise ValueError(f"{text[:40]!r} is no moment from 1970 to 9998; write 2026-11-01 or 2026-11-01T12:00:00Z") from exc
