"""Prices of tokens, compiled to integers: nano-dollars for a million tokens of each class. Facts from genai-prices, or the configuration's own.

A class without a price of its own costs what the class it is a part of costs: cached input like input, reasoning like output, images like text. Audio
costs many times what text does, and another service tier less or more: without a price of their own what they cost is not known.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache
from typing import Any

import msgspec

from contract.usage import Usage, other_tool_calls

NUSD_PER_USD = 1_000_000_000
TOKENS = MILLION = 1_000_000
TOKEN_CLASSES = 8  # beside plain input and output
MOST_COST_NUSD = 1_000_000 * NUSD_PER_USD  # of one attempt: beyond it, its usage is a fault of whoever told it
_UNTOLD = (None,) * TOKEN_CLASSES


class Rates(msgspec.Struct, frozen=True, cache_hash=True):
    """Nano-dollars for a million tokens. None: not known, so usage in this class has no known cost."""

    input: int | None
    output: int | None
    cache_read: int | None = None
    cache_write_5m: int | None = None
    cache_write_1h: int | None = None
    reasoning: int | None = None
    audio_input: int | None = None
    audio_output: int | None = None
    image_input: int | None = None
    image_output: int | None = None
    web_search: int | None = None  # for a million searches
    file_search: int | None = None
    tool_call: int | None = None  # of any other tool that the provider runs


class Price(msgspec.Struct, frozen=True, cache_hash=True):
    """`tiers`: (input tokens, rates) in rising order; the last whose number the whole input exceeds applies to every token.

    `request_nusd`: what a request costs beside its tokens. `services`: by service tier, a million times what the standard price is multiplied by.
    """

    rates: Rates
    tiers: tuple[tuple[int, Rates], ...] = ()
    request_nusd: int = 0
    services: tuple[tuple[str, int], ...] = ()


def cost_nusd(price: Price | None, usage: Usage | None) -> int | None:
    """Nano-dollars, rounded half up; None when a class or a service tier was used whose price is not known, when nothing is known of the usage, or
    when it is beyond MOST_COST_NUSD."""
    if price is None or usage is None:
        return None
    if usage.service_tier is not None:
        factor, standard = dict(price.services).get(usage.service_tier), cost_nusd(price, msgspec.structs.replace(usage, service_tier=None))
        if not standard or factor is None:
            return 0 if standard == 0 else None
        return _believed((standard * factor + MILLION // 2) // MILLION)
    rates = price.rates
    if price.tiers:
        whole = usage.input_total or 0
        for above, tier in price.tiers:
            if whole > above:
                rates = tier
    into, out = usage.input_uncached, usage.output_visible
    total, known = 0, into is not None or out is not None
    if into:
        if rates.input is None:
            return None
        total = into * rates.input
    if out:
        if rates.output is None:
            return None
        total += out * rates.output
    others = (
        *(usage.cache_read, usage.cache_write_5m, usage.cache_write_1h, usage.reasoning, usage.audio_input, usage.audio_output),
        *(usage.image_input, usage.image_output, usage.web_searches, usage.file_searches, usage.server_tool_calls),
    )
    known = known or others[:TOKEN_CLASSES] != _UNTOLD
    if any(others):  # most answers have none, or a count of cached tokens
        for count, rate in zip((*others[:-1], other_tool_calls(usage)), _others(rates), strict=True):
            if count:
                if rate is None:
                    return None
                total += count * rate
    return _believed((total + TOKENS // 2) // TOKENS + price.request_nusd) if known else None


def _believed(cost: int) -> int | None:
    return cost if cost <= MOST_COST_NUSD else None


@lru_cache(maxsize=4096)
def _others(rates: Rates) -> tuple[int | None, ...]:
    """Beside plain input and output: of tokens, TOKEN_CLASSES of them; of searches in two places, and of calls of other tools."""
    return (
        *(rates.cache_read, rates.cache_write_5m, rates.cache_write_1h, rates.reasoning, rates.audio_input, rates.audio_output),
        *(rates.image_input, rates.image_output, rates.web_search, rates.file_search, rates.tool_call),
    )


def most_factor(price: Price, tier: str | None) -> int | None:
    """A million times what the standard price is multiplied by at most where this service tier is asked for. None: it has no price.

    `tier` "" is the standard one; None: its provider chooses. Who asks for a cheaper one may be answered in the standard one.
    """
    if tier is None:
        return max((MILLION, *(factor for _, factor in price.services)))
    factor = MILLION if not tier else dict(price.services).get(tier)
    return None if factor is None else max(MILLION, factor)


def most_nusd(price: Price, input_tokens: int, output_tokens: int) -> int | None:
    """What so many tokens cost at most, rounded up: every token of the dearest class that its side may have. None: a side has no price."""
    rates = price.rates
    for above, tier in price.tiers:
        if input_tokens > above:
            rates = tier
    into, out = _dearest(rates)
    if into is None or (output_tokens and out is None):
        return None
    return -(-(input_tokens * into + output_tokens * (out or 0)) // TOKENS) + price.request_nusd


@lru_cache(maxsize=4096)
def most_of_a_token(price: Price) -> tuple[int, int] | None:
    """The dearest class of each side, where nothing but tokens decides what a request costs at most: no tiers, no services. None: it is not so."""
    into, out = _dearest(price.rates)
    return None if price.tiers or price.services or into is None or out is None else (into, out)


def tools_nusd(rates: Rates, web: int, files: int, others: int) -> int:
    """What so many searches, and calls of other tools, cost, rounded up; nothing of those that have no price."""
    return -(-(web * (rates.web_search or 0) + files * (rates.file_search or 0) + others * (rates.tool_call or 0)) // TOKENS)


@lru_cache(maxsize=4096)
def _dearest(rates: Rates) -> tuple[int | None, int | None]:
    """The dearest class of each side; None: it has no price."""
    into = [rate for rate in (rates.input, rates.cache_write_5m, rates.cache_write_1h, rates.audio_input, rates.image_input) if rate is not None]
    out = [rate for rate in (rates.output, rates.reasoning, rates.audio_output, rates.image_output) if rate is not None]
    return max(into, default=None), max(out, default=None)


def override_price(  # noqa: PLR0913 - the members of the configuration's section
    input_usd_per_mtok: float,
    output_usd_per_mtok: float,
    cache_read_usd_per_mtok: float | None = None,
    cache_write_usd_per_mtok: float | None = None,
    request_usd: float = 0.0,
    image_input_usd_per_mtok: float | None = None,
    image_output_usd_per_mtok: float | None = None,
    web_search_usd: float | None = None,
    file_search_usd: float | None = None,
    tool_call_usd: float | None = None,
    cache_write_1h_usd_per_mtok: float | None = None,
    reasoning_usd_per_mtok: float | None = None,
    audio_input_usd_per_mtok: float | None = None,
    audio_output_usd_per_mtok: float | None = None,
    service_tiers: Mapping[str, float] | None = None,
) -> Price:
    """The configuration's own price of a target. Without its own an image costs what text does, reasoning what output does, and a write for an hour
    what one for five minutes does; audio, a search or other tool has none."""
    given = (input_usd_per_mtok, output_usd_per_mtok, cache_read_usd_per_mtok, cache_write_usd_per_mtok)
    into, out, read, write = (None if usd is None else _nusd(Decimal(str(usd))) for usd in given)
    write = into if write is None else write
    seen, drawn = (None if usd is None else _nusd(Decimal(str(usd))) for usd in (image_input_usd_per_mtok, image_output_usd_per_mtok))
    more = (cache_write_1h_usd_per_mtok, reasoning_usd_per_mtok, audio_input_usd_per_mtok, audio_output_usd_per_mtok)
    hour, thought, heard, spoken = (None if usd is None else _nusd(Decimal(str(usd))) for usd in more)
    web, file, tool = (None if usd is None else _nusd(Decimal(str(usd)) * TOKENS) for usd in (web_search_usd, file_search_usd, tool_call_usd))
    rates = Rates(
        into,
        out,
        into if read is None else read,
        write,
        write if hour is None else hour,
        reasoning=out if thought is None else thought,
        audio_input=heard,
        audio_output=spoken,
        image_input=into if seen is None else seen,
        image_output=out if drawn is None else drawn,
        web_search=web,
        file_search=file,
        tool_call=tool,
    )
    services = tuple((tier, round(factor * MILLION)) for tier, factor in (service_tiers or {}).items())
    return Price(rates, request_nusd=_nusd(Decimal(str(request_usd))), services=services)


@lru_cache(maxsize=4096)
def compile_price(provider: str, model: str) -> Price | None:
    """The price of a provider's model (genai-prices' ids and matching), as it is now; None when genai-prices does not know it."""
    return price_at(provider, model, datetime.now(UTC))


def price_at(provider: str, model: str, at: datetime) -> Price | None:
    """The same, as it was or will be then."""
    found = _find(provider, model, at)
    return None if found is None else _compile(found)


@lru_cache(maxsize=4096)
def context_window(provider: str, model: str) -> int | None:
    """How many tokens a provider's model takes, as genai-prices knows it; None: it does not."""
    from genai_prices.data_snapshot import get_snapshot

    try:
        _, info = get_snapshot().find_provider_model(model, None, provider, None)
    except LookupError:
        return None
    return info.context_window


def _find(provider: str, model: str, at: datetime) -> Any:
    from genai_prices.data_snapshot import get_snapshot  # 0.3 s of import and data, only when a price is needed

    try:
        _, info = get_snapshot().find_provider_model(model, None, provider, None)
    except LookupError:
        return None
    return info.get_prices(at)


def _compile(prices: Any) -> Price | None:
    starts = sorted({tier.start for name in (*_NAMES.values(), *_SEARCHES.values()) for tier in getattr(_price(prices, name), "tiers", ())})
    rates = _rates(prices, 0)
    if rates.input is None and rates.output is None:
        return None
    per_request = _price(prices, ("requests_kcount",))
    request_nusd = _nusd(per_request / 1000) if isinstance(per_request, Decimal) else 0
    return Price(rates, tuple((start, _rates(prices, start + 1)) for start in starts), request_nusd)


# class -> genai-prices' names for it, the most exact first
_NAMES = {
    "input": ("input_mtok", "input_text_mtok"),
    "output": ("output_mtok", "output_text_mtok"),
    "cache_read": ("cache_read_mtok", "cache_text_read_mtok"),
    "cache_write_5m": ("cache_write_5m_mtok", "cache_write_mtok"),
    "cache_write_1h": ("cache_write_1h_mtok",),
    "reasoning": ("output_reasoning_mtok", "output_text_reasoning_mtok"),
    "audio_input": ("input_audio_mtok",),
    "audio_output": ("output_audio_mtok",),
    "image_input": ("input_image_mtok",),
    "image_output": ("output_image_mtok",),
}
_SEARCHES = {"web_search": ("web_searches_kcount",), "file_search": ("storage_searches_kcount",)}
# class without a price -> the class it is a part of
_PART_OF = {
    "cache_read": "input",
    "cache_write_5m": "input",
    "cache_write_1h": "cache_write_5m",
    "reasoning": "output",
    "image_input": "input",
    "image_output": "output",
}


def _price(prices: Any, names: tuple[str, ...]) -> Any:
    return next((price for name in names if (price := getattr(prices, name, None)) is not None), None)


def _rates(prices: Any, input_tokens: int) -> Rates:
    found = {name: _at(_price(prices, keys), input_tokens) for name, keys in _NAMES.items()}
    for part, whole in _PART_OF.items():
        if found[part] is None:
            found[part] = found[whole]
    for name, keys in _SEARCHES.items():
        thousand = _at(_price(prices, keys), input_tokens)
        found[name] = None if thousand is None else thousand * (TOKENS // 1_000)
    return Rates(**found)


def _at(price: Any, input_tokens: int) -> int | None:
    """One price, plain or tiered, for a request with that much input."""
    if price is None:
        return None
    if isinstance(price, Decimal):
        return _nusd(price)
    chosen = price.base
    for tier in price.tiers:
        if input_tokens > tier.start:
            chosen = tier.price
    return _nusd(chosen)


def _nusd(usd: Decimal) -> int:
    return int((usd * NUSD_PER_USD).to_integral_value(ROUND_HALF_UP))
