"""Sums of usage and cost by group: from the roll-ups, and from the rows of the moments that have none yet. SQL sums, Python shapes."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import BigInteger, Engine, cast, func, select, union_all

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
    chosen, rest = parts(window, now_s, coarsest(groups))
    detail = None if "team" in window.filters else detail_of(USAGE_DETAILS, dimensions_of((*groups, *window.filters)))
    selects = []
    for table, within in (*sources(chosen, usage_rollups, usage_summaries, detail), *((attempts, each) for each in raw(rest))):
        columns = table.c
        measures = ROW if table is attempts else {"failed": failed(columns), **{name: columns[name] for name in USAGE_MEASURES}}
        if table is usage_summaries:
            measures["failed"] = columns.failed
        named = [group_of(name, columns).label(f"g_{name}") for name in groups]
        values = [measures[name].label(f"m_{name}") for name in _FIELDS]
        selects.append(select(*named, *values).where(within, *matching(window, columns)))
    if not selects:
        return []
    both = union_all(*selects).subquery()
    by = [both.c[f"g_{name}"] for name in groups]
    query = select(*by, *(cast(func.sum(both.c[f"m_{name}"]), BigInteger) for name in _FIELDS)).group_by(*by).order_by(*by)
    with engine.connect() as connection:
        found = [Sums(tuple(row[: len(by)]), *row[len(by) :]) for row in connection.execute(query)]
    return [each for each in found if each.rows]  # without groups there is always one, of nothing
