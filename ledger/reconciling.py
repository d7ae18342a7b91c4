"""A provider's own export of usage or cost beside the ledger, row by row: what it counts that we do not, and the other way round.

A provider tells a dated model (o3-2025-04-16) where its alias (o3) was asked for: names that differ by a date alone are one model.
Read are the JSON of OpenAI's organization usage and costs and of Anthropic's usage and cost reports, and CSV with the same names in its first line.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any

import msgspec
from sqlalchemy import Engine

from ledger.prices import NUSD_PER_USD
from ledger.retention import is_whole
from ledger.summed import Sums, summed
from ledger.window import Window

DAY_S = 86_400
DATED = re.compile(r"[-@](\d{4}-\d{2}-\d{2}|\d{8}|latest)$")
CLASSES = ("input_uncached", "cache_read", "cache_write_5m", "cache_write_1h", "output", "audio_input", "audio_output")
INPUT, OUTPUT = ("input_uncached", "audio_input", "image_input"), ("output_visible", "reasoning", "audio_output", "image_output")
MOST = 2**62  # of a count
LATEST_S = 253_402_300_800  # the year 10,000


class Told(msgspec.Struct, frozen=True):
    """One row of an export: a span of time, a model (None: all), what was counted. None: it does not say.

    Input and output are of text, audio and images together, as OpenAI tells them since 2025; output has its reasoning in it.
    """

    from_s: int
    to_s: int
    model: str | None
    input_uncached: int | None = None
    cache_read: int | None = None
    cache_write_5m: int | None = None
    cache_write_1h: int | None = None
    output: int | None = None
    audio_input: int | None = None
    audio_output: int | None = None
    requests: int | None = None
    cost_nusd: int | None = None


class Compared(msgspec.Struct, frozen=True):
    """A row of the export and what the ledger has of the same; `differences`: the ledger's count less theirs, of what differs alone.

    `only_ours`: the export has no such row, in a time that is within its own. `deleted`: the ledger's rows of a part of that time were deleted,
    so that nothing was compared, nor looked for where the export has nothing.
    """

    told: Told
    ours: Mapping[str, int | None]
    differences: Mapping[str, int]
    only_ours: bool = False
    deleted: bool = False


def read(text: str) -> list[Told]:
    """Raises ValueError for what is no such export, saying what is missing."""
    body = text.lstrip("\ufeff \r\n\t")
    rows = _json_rows(body) if body.startswith(("{", "[")) else _csv_rows(body)
    if not rows:
        raise ValueError("the export has no rows")
    return _together(_told(row, number) for number, row in enumerate(rows, 1))


def reconcile(engine: Engine, told: Iterable[Told], provider: str, now_s: float) -> list[Compared]:
    """Each row beside the attempts of that provider (its name in the configuration) that began in its time, and what the ledger alone has of the time
    from the first row to the last. rollups.roll_up comes before."""
    spans: dict[tuple[int, int], list[Told]] = {}
    for row in told:
        spans.setdefault((row.from_s, row.to_s), []).append(row)
    found, end = list[Compared](), min((span[0] for span in spans), default=0)
    for span in sorted(spans):
        if span[0] > end:
            found += _of_span(engine, (end, span[0]), [], provider, now_s)
        found += _of_span(engine, span, [row for row in spans[span] if row.model is not None or _says(row)], provider, now_s)
        end = max(end, span[1])
    return found


Counts = dict[str, int | None]


def _of_span(engine: Engine, span: tuple[int, int], told: list[Told], provider: str, now_s: float) -> Iterator[Compared]:
    window = Window(span[0] * 1_000_000, span[1] * 1_000_000, {"provider": provider})
    if not is_whole(engine, window):
        yield from (Compared(row, _ours(None), {}, deleted=True) for row in told or [Told(*span, None)])
        return
    parts: dict[str, list[Counts]] = {}
    for sums in summed(engine, window, ("model_sent", "status"), now_s):
        parts.setdefault(sums.group[0], []).append(_ours(sums))
    ours = {model: _all(counts) for model, counts in parts.items()}
    for row in told:
        if row.model is None:
            yield _compared(row, _all(ours.values()))
    if any(row.model is None for row in told):
        return
    names = {str(row.model): row for row in told}
    for model in dict.fromkeys(map(_undated, names)):
        theirs = {name: row for name, row in names.items() if _undated(name) == model}
        same = {name: ours.pop(name) for name in [name for name in ours if _undated(name) == model]}
        if same.keys() <= theirs.keys():
            yield from (_compared(row, same.get(name, _ours(None))) for name, row in theirs.items())
            continue
        first, *others = theirs.values()
        for row in others:
            first = _sum(first, row)
        yield _compared(msgspec.structs.replace(first, model=" + ".join(theirs)), _all(same.values()))
    for name, counts in ours.items():
        if any(counts[each] for each in (*CLASSES, "requests", "cost_nusd")):
            yield Compared(Told(*span, name), counts, {each: count for each, count in counts.items() if count}, only_ours=True)


def _compared(row: Told, ours: Counts) -> Compared:
    theirs = {name: value for name in ours if (value := getattr(row, name)) is not None}
    return Compared(row, ours, {name: (ours[name] or 0) - value for name, value in theirs.items() if (ours[name] or 0) != value})


def _all(counts: Iterable[Counts]) -> Counts:
    """Their sum; None: of nothing that is known."""
    found = list(counts)
    known = {name: [each[name] for each in found if each[name] is not None] for name in _ours(None)}
    return {name: sum(values) if values else None for name, values in known.items()}  # type: ignore[arg-type]


def _undated(model: str) -> str:
    return DATED.sub("", model)


def _says(row: Told) -> bool:
    return any(getattr(row, name) is not None for name in (*CLASSES, "requests", "cost_nusd"))


def _ours(sums: Sums | None) -> Counts:
    """`requests`: those that did not fail, which no provider counts. `sums`: of a model and a status."""
    if sums is None:
        return dict.fromkeys((*CLASSES, "requests", "cost_nusd"))
    billed = [cost for cost in (sums.cost_nusd, sums.absorbed_nusd) if cost is not None]  # the provider charges for both
    counts = {name: getattr(sums, name) for name in CLASSES if name != "output"}
    both = {"input_uncached": _known(sums, INPUT), "output": _known(sums, OUTPUT)}
    return {**counts, **both, "requests": None if sums.group[1] == "failed" else sums.attempts, "cost_nusd": sum(billed) if billed else None}


def _known(sums: Sums, names: Iterable[str]) -> int | None:
    """Their sum; None: of nothing that is known."""
    known = [count for name in names if (count := getattr(sums, name)) is not None]
    return sum(known) if known else None


def _csv_rows(text: str) -> list[dict[str, Any]]:
    try:
        return list(csv.DictReader(io.StringIO(text)))
    except csv.Error as exc:
        raise ValueError(f"the export is no CSV: {exc}") from exc


def _json_rows(text: str) -> list[dict[str, Any]]:
    """The results of every bucket, each with its bucket's times."""
    try:
        body = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as exc:
        raise ValueError(f"the export is no JSON: {exc}") from exc
    pages = body if isinstance(body, list) else [body]
    if pages and isinstance(pages[-1], dict) and pages[-1].get("has_more"):
        raise ValueError('the export goes on: its last page says "has_more": true. Put all of its pages into one list, [page, page, …]')
    buckets = [bucket for page in pages for bucket in _listed(page, "data", page)]
    return [{**bucket, **_object(result, "results")} for bucket in buckets for result in _listed(bucket, "results", {}) or [{}]]


def _listed(whole: Any, name: str, otherwise: Any) -> list[dict[str, Any]]:
    """Its objects under that name; `otherwise` alone where it has no such name. Raises ValueError."""
    found = _object(whole, "the export").get(name, [otherwise])
    if not isinstance(found, list):
        raise ValueError(
            f"`{name}` of the export is {_shown(found)}, and must be a list of objects: take the export again, as the provider's API gives it"
        )
    return [_object(each, name) for each in found]


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{_shown(value)} stands in `{where}`, where an object must be")
    return value


def _shown(value: Any) -> str:
    return msgspec.json.encode(value).decode()[:40]


def _told(row: dict[str, Any], number: int) -> Told:
    try:
        from_s = _moment(row, "start_time", "starting_at", "usage_date_utc", "date")
        ends = [name for name in ("end_time", "ending_at") if row.get(name)]
        to_s = _moment(row, *ends) if ends else from_s + DAY_S
        if to_s <= from_s:
            raise ValueError(f"it ends at {to_s}, which is not after its beginning at {from_s}")
        cached = _count(row, "input_cached_tokens", "cache_read_input_tokens", "usage_input_tokens_cache_read")
        whole, uncached = _count(row, "input_tokens"), _count(row, "uncached_input_tokens", "usage_input_tokens_no_cache")
        made = _object(row.get("cache_creation") or row, "cache_creation")
        short = _count(made, "ephemeral_5m_input_tokens", "usage_input_tokens_cache_write_5m", "input_cache_write_tokens")
        if uncached is None and whole is not None:
            rest = whole - (cached or 0) - (_count(row, "input_cache_write_tokens") or 0)  # OpenAI tells the whole
            uncached = None if rest < 0 else rest
        return Told(
            from_s,
            to_s,
            _model(row),
            uncached,
            cached,
            short,
            _count(made, "ephemeral_1h_input_tokens", "usage_input_tokens_cache_write_1h"),
            _count(row, "output_tokens", "usage_output_tokens"),
            _count(row, "input_audio_tokens"),
            _count(row, "output_audio_tokens"),
            _count(row, "num_model_requests"),
            _cost(row),
        )
    except (ValueError, TypeError, LookupError, InvalidOperation, OverflowError) as exc:
        raise ValueError(f"row {number} of the export cannot be read: {exc}") from exc


def _together(rows: Iterable[Told]) -> list[Told]:
    """Rows of one time and model are one: exports may be split further, by key or project, which the ledger does not know them by."""
    found: dict[tuple[int, int, str | None], Told] = {}
    for row in rows:
        key = (row.from_s, row.to_s, row.model)
        found[key] = row if key not in found else _sum(found[key], row)
    return [found[key] for key in sorted(found, key=lambda key: (key[0], key[1], key[2] or ""))]


def _sum(one: Told, other: Told) -> Told:
    def added(name: str) -> int | None:
        known = [value for row in (one, other) if (value := getattr(row, name)) is not None]
        return sum(known) if known else None

    return Told(one.from_s, one.to_s, one.model, **{name: added(name) for name in (*CLASSES, "requests", "cost_nusd")})


def _moment(row: Mapping[str, Any], *names: str) -> int:
    value = next((row[name] for name in names if row.get(name) not in (None, "")), None)
    if value is None:
        raise KeyError(f"none of {', '.join(names)}")
    if isinstance(value, int | float) or str(value).isdigit():
        moment = int(value)
    else:
        at = datetime.fromisoformat(str(value))
        moment = int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp())
    if not 0 <= moment < LATEST_S:
        raise ValueError(f"{str(value)[:40]} is no time in Unix seconds")
    return moment


def _count(row: Mapping[str, Any], *names: str) -> int | None:
    value = next((row[name] for name in names if row.get(name) not in (None, "")), None)
    count = None if value is None else int(value)
    if count is not None and not 0 <= count <= MOST:
        raise ValueError(f"{str(value)[:40]} is no count of {names[0]}")
    return count


def _model(row: Mapping[str, Any]) -> str | None:
    model = row.get("model") or row.get("model_version") or None
    if model is not None and not isinstance(model, str):
        raise ValueError(f"{_shown(model)} is no model's name")
    return model


def _cost(row: Mapping[str, Any]) -> int | None:
    """Nano-dollars: OpenAI's `amount` is an object of dollars, Anthropic's a decimal number of cents, its CSV's `cost_usd` one of dollars."""
    amount, cents = row.get("amount"), False
    if isinstance(amount, Mapping):
        amount = amount.get("value")
    elif amount not in (None, ""):
        cents = "amount_value" not in row
    else:
        amount = row.get("amount_value") or row.get("cost_usd")
    if amount in (None, ""):
        return None
    usd = Decimal(str(amount)) / (100 if cents else 1)
    return int((usd * NUSD_PER_USD).to_integral_value(ROUND_HALF_UP))
