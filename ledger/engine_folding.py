"""Engines' minutes of long ago, put together: what an engine did without a break within one hour becomes one row, so that a year is some thousands.

A row of an hour says what its minutes said: from when to when, each sum, and its price; what is not known of some minutes is not mixed with what is.
"""

from collections.abc import Iterable, Sequence
from uuid import uuid4

import msgspec
from sqlalchemy import Connection, Engine, delete, func, insert, select, update

from ledger.engine_time import EngineTime
from ledger.rollups import DAY, HOUR, US
from ledger.schema import engine_minutes, rollup_state

HOUR_US, DAY_US = HOUR * US, DAY * US
SAME_US = 1_000_000  # two rows follow one another if they are no further apart: their two clocks are not one

_c = engine_minutes.c
_FIELDS = [_c[name] for name in EngineTime.__struct_fields__]


def folded(times: Iterable[EngineTime]) -> list[EngineTime]:
    """As few rows as say the same. Two that overlap, of two machines say, stay apart."""
    found: list[EngineTime] = []
    last: dict[tuple[object, ...], list[int]] = {}  # places in `found` that may go on
    for each in sorted(times, key=lambda time: (time.engine, time.ended_at_us)):
        hour = (each.ended_at_us - 1) // HOUR_US
        alike = last.setdefault((each.engine, hour, each.nusd_per_hour, each.energy_mj is None, each.asleep_us is None), [])
        at = next((at for at in reversed(alike) if abs(found[at].ended_at_us - began_us(each)) <= SAME_US), None)
        if at is None:
            alike.append(len(found))
            found.append(each)
        else:
            found[at] = _together(found[at], each)
    return found


def began_us(time: EngineTime) -> int:
    return time.ended_at_us - time.up_us - (time.asleep_us or 0)


def _together(one: EngineTime, next_one: EngineTime) -> EngineTime:
    return msgspec.structs.replace(
        next_one,
        up_us=one.up_us + next_one.up_us,
        busy_us=one.busy_us + next_one.busy_us,
        energy_mj=None if one.energy_mj is None or next_one.energy_mj is None else one.energy_mj + next_one.energy_mj,
        asleep_us=None if one.asleep_us is None or next_one.asleep_us is None else one.asleep_us + next_one.asleep_us,
    )


def fold(engine: Engine, before_us: int) -> None:
    """Puts together what ended by then (Unix time), a day at a time: whoever is stopped in between leaves days for the next time, each row in one
    place. `before_us`: where a day begins. Raises SQLAlchemyError."""
    for day in _days(engine, before_us):
        with engine.begin() as connection:
            connection.execute(update(rollup_state).values(turn=rollup_state.c.turn + 1))  # one process at a time
            _fold_day(connection, day)


def _days(engine: Engine, before_us: int) -> list[int]:
    """Those with an hour of which an engine has several rows, from the first."""
    day, hour = (_c.ended_at_us - 1) // DAY_US, (_c.ended_at_us - 1) // HOUR_US
    several = select(day.label("day"), hour.label("hour")).where(_c.ended_at_us <= before_us).group_by("day", "hour", _c.engine)
    with engine.connect() as connection:
        return sorted({each.day for each in connection.execute(several.having(func.count() > 1))})


def _fold_day(connection: Connection, day: int) -> None:
    within = (_c.ended_at_us > day * DAY_US, _c.ended_at_us <= (day + 1) * DAY_US)
    times = [EngineTime(*row) for row in connection.execute(select(*_FIELDS).where(*within))]
    fewer: Sequence[EngineTime] = folded(times)
    if len(fewer) < len(times):
        connection.execute(delete(engine_minutes).where(*within))
        connection.execute(insert(engine_minutes), [{"id": uuid4().hex, **msgspec.structs.asdict(each)} for each in fewer])
