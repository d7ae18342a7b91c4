"""The ledger's attempts in the order in which they began, as far as they teach what targets do: what a warm start and a replay read of each."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Engine, and_, func, or_, select

from ledger.row import costs_something
from ledger.schema import attempts

AT_ONCE = 5_000

_c = attempts.c
_PLAIN = (
    *(_c.request_id, _c.attempt, _c.started_at_us, _c.team, _c.organisation, _c.stream, _c.model_asked, _c.target, _c.model_sent),
    *(_c.status, _c.reason, _c.error_code, _c.queue_us, _c.first_token_us, _c.end_us, _c.prompt_tokens_estimated, _c.predicted_ttft_us),
    *(
        _c.cost_nusd,
        _c.held_nusd,
        _c.billed,
        _c.bytes_request,
        _c.usage_source,
        _c.engine_prefill_us,
        _c.input_uncached,
        _c.cache_read,
        _c.cache_write_5m,
        _c.cache_write_1h,
    ),
)
_MORE_INPUTS = (_c.audio_input, _c.image_input)
_OUTPUTS = (_c.output_visible, _c.reasoning, _c.audio_output, _c.image_output)
COLUMNS = (*_PLAIN, *_MORE_INPUTS, *_OUTPUTS)
_INPUTS_FROM, _OUTPUTS_FROM, _END = len(_PLAIN) - 4, len(_PLAIN) + len(_MORE_INPUTS), len(COLUMNS)


class Recorded(msgspec.Struct, frozen=True):
    """One attempt's row (ledger/row.py has the units). `input_tokens`, `output_tokens`: of every class. `decision`: JSON, where it was read."""

    request_id: str
    attempt: int
    started_at_us: int
    team: str
    organisation: str
    stream: bool
    model_asked: str
    target: str
    model_sent: str
    status: str
    reason: str
    error_code: str | None
    queue_us: int | None
    first_token_us: int | None
    end_us: int | None
    prompt_tokens_estimated: int | None
    predicted_ttft_us: int | None
    cost_nusd: int | None
    held_nusd: int | None
    billed: str
    bytes_request: int
    usage_source: str | None
    engine_prefill_us: int | None
    input_uncached: int | None
    cache_read: int | None
    cache_write_5m: int | None
    cache_write_1h: int | None
    input_tokens: int | None
    output_tokens: int | None
    decision: str | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Its target: backend and model."""
        return self.target, self.model_sent

    @property
    def priced(self) -> bool:
        """As `AttemptRow.priced`."""
        return costs_something(self.usage_source is not None, self.status, self.bytes_request)


def recorded(row: Sequence[Any], decision: str | None = None) -> Recorded:
    """`row` has COLUMNS."""
    values = [*row[: len(_PLAIN)], _sum(row[_INPUTS_FROM:_OUTPUTS_FROM]), _sum(row[_OUTPUTS_FROM:_END]), decision]
    return Recorded(*values)


def history(engine: Engine, from_us: int, to_us: int) -> Iterator[Recorded]:
    """Every attempt that began from `from_us` up to `to_us` (Unix time), its decision with it; no more than a page in memory, and no
    transaction that lasts. Raises SQLAlchemyError."""
    window: list[ColumnElement[bool]] = [_c.started_at_us >= from_us, _c.started_at_us < to_us]
    order = (_c.started_at_us, _c.request_id, _c.attempt)
    while True:
        with engine.connect() as connection:
            rows = connection.execute(select(*COLUMNS, _c.decision).where(*window).order_by(*order).limit(AT_ONCE)).all()
        for row in rows:
            yield recorded(row, row[_END])
        if len(rows) < AT_ONCE:
            return
        at_us, id, number = rows[-1].started_at_us, rows[-1].request_id, rows[-1].attempt
        later = or_(_c.request_id > id, and_(_c.request_id == id, _c.attempt > number))
        window = [_c.started_at_us >= at_us, _c.started_at_us < to_us, or_(_c.started_at_us > at_us, later)]


def starts_of(engine: Engine, from_us: int, to_us: int, rows: int) -> list[int]:
    """Where each part begins, if that time is cut into parts of so many attempts, in order (Unix time): `from_us` first. Raises SQLAlchemyError."""
    inside = (_c.started_at_us >= from_us, _c.started_at_us < to_us)
    with engine.connect() as connection:
        count = connection.execute(select(func.count()).select_from(attempts).where(*inside)).scalar_one()
        ordered = select(_c.started_at_us).where(*inside).order_by(_c.started_at_us).limit(1)
        found = {int(connection.execute(ordered.offset(at)).scalar_one()) for at in range(rows, count, rows)}
    return [from_us, *sorted(found - {from_us})]


def _sum(counts: Iterable[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None
