"""Sums of usage and cost by group: from the roll-ups, and from the rows of the moments that have none yet. SQL sums, Python shapes."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Engine, Select, Table, case, func, select, union_all

from ledger.adding import sum_of
from ledger.observed import INPUTS, OUTPUTS
from ledger.rollups import ROW
from ledger.schema import USAGE_MEASURES, attempts, usage_rollups, usage_summaries
from ledger.summaries import USAGE_DETAILS, detail_of, failed
from ledger.window import Window, coarsest, dimensions_of, group_of, matching, parts, raw, sources


class Sums(msgspec.Struct, frozen=True):
    """One group. Each sum adds what is known; None: of nothing. `unpriced`: attempts that have usage or may have, but no cost, and their tokens.

    `cost_nusd` is the team's, `absorbed_nusd` what the gateway bears, `engine_nusd` what the time on engines of ours comes to.
    `estimated`: attempts whose provider did not tell their usage. A request is
    counted where its first attempt is; `failed`: of the attempts, and requests that got none.
    """

    group: tuple[Any, ...]
    rows: int
    requests: int
    attempts: int
    failed: int
    estimated: int
    unpriced: int
    input_uncached: int | None
    cache_read: int | None
    cache_write_5m: int | None
    cache_write_1h: int | None
    audio_input: int | None
    image_input: int | None
    output_visible: int | None
    reasoning: int | None
    audio_output: int | None
    image_output: int | None
    server_tool_calls: int | None
    web_searches: int | None
    file_searches: int | None
    cost_nusd: int | None
    absorbed_nusd: int | None
    saved_nusd: int | None
    engine_us: int | None
    engine_nusd: int | None
    slo_met: int
    slo_missed: int
    unpriced_tokens: int | None


NO_SUMS = Sums((), *(0 for _ in Sums.__struct_fields__[1:]))  # of nothing
_FIELDS = Sums.__struct_fields__[1:]


def summed(engine: Engine, window: Window, groups: Sequence[str], now_s: float) -> list[Sums]:
    """The groups in their own order. Raises KeyError for an unknown one (window.GROUPS). rollups.roll_up makes anew what is stale, not this."""
    found = (Sums(tuple(row[: len(groups)]), *row[len(groups) :]) for row in sums_of(engine, [window], groups, _FIELDS, now_s))
    return [each for each in found if each.rows]  # without groups there is always one, of nothing


def sums_of(engine: Engine, windows: Iterable[Window], groups: Sequence[str], names: Sequence[str], now_s: float) -> list[tuple[Any, ...]]:
    """(groups…, sums…) of these measures only, which takes less; of windows that share no moment, in the groups' own order. `names`: of Sums, and
    "tokens" and "output_tokens". Without groups: one, of None where there is nothing, or none. Raises KeyError for what does not exist."""
    selects = [each for window in windows for each in _selects(window, groups, names, now_s)]
    if not selects:
        return []
    both = union_all(*selects).subquery()
    by = [both.c[f"g_{name}"] for name in groups]
    query = select(*by, *(sum_of(name, both.c[f"m_{name}"]) for name in names)).group_by(*by).order_by(*by)
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(query)]


def _selects(window: Window, groups: Sequence[str], names: Sequence[str], now_s: float) -> Iterator[Select[Any]]:
    """What is to be added up, a part of the window each."""
    chosen, rest = parts(window, now_s, coarsest(groups))
    detail = None if "team" in window.filters else detail_of(USAGE_DETAILS, dimensions_of((*groups, *window.filters)))
    for table, within in (*sources(chosen, usage_rollups, usage_summaries, detail), *((attempts, each) for each in raw(rest))):
        by = [group_of(name, table.c).label(f"g_{name}") for name in groups]
        yield select(*by, *(_MEASURES[table][name].label(f"m_{name}") for name in names)).where(within, *matching(window, table.c))


def _tokens(table: Table) -> dict[str, ColumnElement[Any]]:
    """Of all that is known; output is NULL where nothing of it is."""
    known = {name: func.coalesce(table.c[name], 0) for name in (*INPUTS, *OUTPUTS)}
    output: Any = sum((known[name] for name in OUTPUTS[1:]), known[OUTPUTS[0]])
    told = func.coalesce(*(table.c[name] for name in OUTPUTS)).is_not(None)
    return {"tokens": sum((known[name] for name in INPUTS), output), "output_tokens": case((told, output))}


def _measures(table: Table) -> dict[str, ColumnElement[Any]]:
    return {name: table.c[name] for name in USAGE_MEASURES} | _tokens(table)


_MEASURES: dict[Table, dict[str, ColumnElement[Any]]] = {
    attempts: ROW | _tokens(attempts),
    usage_rollups: {"failed": failed(usage_rollups.c)} | _measures(usage_rollups),
    usage_summaries: {"failed": usage_summaries.c.failed} | _measures(usage_summaries),
}
