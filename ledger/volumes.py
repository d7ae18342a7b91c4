"""What break-even adds up: tokens by target and day, each moment read once."""

from collections.abc import Collection, Mapping

import msgspec
from sqlalchemy import Engine, func, select

from ledger.rollups import HOUR, US
from ledger.schema import attempts, usage_rollups
from ledger.summed import sums_of
from ledger.window import Window

PerStart = dict[int, int]  # tokens by when a day, an hour or a minute begins, Unix time


class Volume(msgspec.Struct):
    """Of one target. `unpriced`: attempts whose cost is not known, and their tokens; `ran`: on an engine of ours."""

    per_day: PerStart = msgspec.field(default_factory=dict)
    paid_nusd: int = 0
    unpriced: int = 0
    unpriced_tokens: int = 0
    ran: bool = False

    @property
    def tokens(self) -> int:
        return sum(self.per_day.values())


def volumes(engine: Engine, window: Window, now_s: float) -> dict[tuple[str, str], Volume]:
    """By provider and model, in their order."""
    found: dict[tuple[str, str], Volume] = {}
    names = ("tokens", "cost_nusd", "absorbed_nusd", "unpriced", "unpriced_tokens", "engine_us")
    for *target, day, tokens, cost, absorbed, unpriced, unpriced_tokens, engine_us in sums_of(
        engine, [window], ("provider", "model_sent", "day"), names, now_s
    ):
        volume = found.setdefault((target[0], target[1]), Volume())
        volume.per_day[day] = tokens
        volume.paid_nusd += (cost or 0) + (absorbed or 0)
        volume.unpriced += unpriced
        volume.unpriced_tokens += unpriced_tokens or 0
        volume.ran = volume.ran or engine_us is not None
    return found


def per_provider(found: Mapping[tuple[str, str], Volume]) -> dict[str, PerStart]:
    """Tokens by day; "" is all."""
    told: dict[str, PerStart] = {"": {}}
    for (provider, _), volume in found.items():
        for name in {"", provider}:
            days = told.setdefault(name, {})
            for day, tokens in volume.per_day.items():
                days[day] = days.get(day, 0) + tokens
    return told


def of_engines(engine: Engine, window: Window, names: Collection[str], now_s: float) -> dict[str, PerStart]:
    """Tokens by day of engines, all teams together."""
    found: dict[str, PerStart] = {name: {} for name in names}
    of_them = Window(window.from_us, window.to_us, {"provider": tuple(names)})
    for name, day, tokens in sums_of(engine, [of_them], ("provider", "day"), ("tokens",), now_s) if names else ():
        found[name][day] = tokens
    return found


def began_us(engine: Engine) -> int:
    """When the ledger's first attempt began; to the hour where its row was deleted."""
    c = usage_rollups.c
    with engine.connect() as connection:
        row_us = connection.execute(select(func.min(attempts.c.started_at_us))).scalar()
        hour_s = connection.execute(select(func.min(c.start_s)).where(c.span_s == HOUR)).scalar()
    told = [each for each in (row_us, None if hour_s is None else hour_s * US) if each is not None]
    if len(told) == 2 and told[0] < told[1] + HOUR * US:
        return int(told[0])
    return int(min(told, default=0))
