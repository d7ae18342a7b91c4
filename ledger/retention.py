"""What can still be told of a time whose rows were deleted: each hour of it as a whole or not at all, and no minute."""

from collections.abc import Sequence

from sqlalchemy import Engine, select

from ledger.rollups import HOUR, US
from ledger.schema import rollup_state, usage_rollups
from ledger.window import Window, matching

HOUR_US = HOUR * US


def purged_us(engine: Engine) -> int:
    """Attempts that began before then (Unix time) were deleted; 0: none were. Raises SQLAlchemyError."""
    with engine.connect() as connection:
        return int(connection.execute(select(rollup_state.c.purged_s)).scalar_one()) * US


def kept(engine: Engine, window: Window) -> Window:
    """The part of that time of which both tokens and engines' hours are known. Raises SQLAlchemyError."""
    return narrowed(window, purged_us(engine))


def narrowed(window: Window, purged_us: int) -> Window:
    """Without the hours before `purged_us` that it holds only a part of."""
    from_us = window.from_us if window.from_us >= purged_us else _hour_up(window.from_us)
    to_us = window.to_us if window.to_us >= purged_us else _hour_down(window.to_us)
    return Window(from_us, max(from_us, to_us), window.filters)


def is_whole(engine: Engine, window: Window, by_rows: bool = False) -> bool:
    """Whether nothing of that time is lost: no attempt of an hour of it that cannot be told. Raises SQLAlchemyError.

    `by_rows`: what is asked for is not told by hours at all.
    """
    cut = _cut(window, purged_us(engine), by_rows)
    c = usage_rollups.c
    with engine.connect() as connection:
        for low, high in cut:
            within = (c.span_s == HOUR, c.start_s >= low // US, c.start_s < high // US, *matching(window, c))
            if connection.execute(select(c.start_s).where(*within).limit(1)).first() is not None:
                return False
    return True


def _cut(window: Window, purged_us: int, by_rows: bool) -> Sequence[tuple[int, int]]:
    """The hours without rows, as (from, to), that cannot be told of the window."""
    end_us = min(window.to_us, purged_us)
    if window.from_us >= end_us:
        return []
    if by_rows:
        return [(_hour_down(window.from_us), _hour_up(end_us))]
    ragged = {_hour_down(at) for at in (window.from_us, end_us) if at % HOUR_US}
    return [(at, at + HOUR_US) for at in sorted(ragged)]


def _hour_up(at_us: int) -> int:
    return -(-at_us // HOUR_US) * HOUR_US


def _hour_down(at_us: int) -> int:
    return at_us // HOUR_US * HOUR_US
