"""Costs are integers, agree with genai-prices' own calculation to the nano-dollar, and are unknown rather than wrong."""

from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import msgspec
import pytest
from genai_prices import Usage as TheirUsage
from genai_prices.data_snapshot import get_snapshot
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.usage import Usage
from ledger.observed import INPUTS, OUTPUTS
from ledger.prices import Price, Rates, compile_price, cost_nusd, most_nusd, override_price
from ledger.schema import USAGE_CLASSES
from ledger.summed import Sums

CLASSES = (
    *("input_uncached", "cache_read", "cache_write_5m", "cache_write_1h", "audio_input", "output_visible", "reasoning", "audio_output"),
    *("image_input", "image_output"),
)
SEARCHES = ("web_searches", "file_searches")
RATE_OF = {"input_uncached": "input", "output_visible": "output", "web_searches": "web_search", "file_searches": "file_search"}
NANO = Decimal(1_000_000_000)


def theirs(usage: Usage) -> TheirUsage:
    """Our disjoint classes as genai-prices' nested ones."""
    nested = {
        "input_tokens": usage.input_total,
        "output_tokens": usage.output_total,
        "cache_read_tokens": usage.cache_read,
        "cache_write_tokens": usage.cache_write_5m,
        "output_reasoning_tokens": usage.reasoning,
        "input_audio_tokens": usage.audio_input,
        "output_audio_tokens": usage.audio_output,
    }
    return TheirUsage(**{name: count for name, count in nested.items() if count is not None})


def their_cost(provider: str, model: str, usage: Usage) -> Decimal:
    _, info = get_snapshot().find_provider_model(model, None, provider, None)
    return info.get_prices(datetime.now(UTC)).calc_price(theirs(usage))["total_price"] * NANO


USAGES = {
    "plain": Usage(input_uncached=1_000, output_visible=500),
    "one token": Usage(input_uncached=1, output_visible=1),
    "nothing": Usage(input_uncached=0, output_visible=0),
    "cached input": Usage(input_uncached=1_000, cache_read=9_000, output_visible=500),
    "a cache that is written": Usage(input_uncached=1_000, cache_write_5m=9_000, output_visible=500),
    "reasoning": Usage(input_uncached=1_000, output_visible=500, reasoning=4_321),
    "output alone": Usage(output_visible=777),
    "just below 200k": Usage(input_uncached=199_999, output_visible=500),
    "200k": Usage(input_uncached=200_000, output_visible=500),
    "just above 200k": Usage(input_uncached=200_001, output_visible=500),
    "above 200k by its cache": Usage(input_uncached=1, cache_read=200_000, output_visible=500, reasoning=7),
    "a million": Usage(input_uncached=1_000_000, output_visible=1_000_000),
}
MODELS = [
    ("openai", "gpt-5"),
    ("openai", "gpt-5-mini"),
    ("openai", "gpt-4o"),
    ("openai", "gpt-4.1-nano"),
    ("openai", "o3"),
    ("google", "gemini-2.5-pro"),
    ("google", "gemini-2.5-flash"),
    ("anthropic", "claude-sonnet-4-5"),
    ("anthropic", "claude-haiku-4-5"),
    ("groq", "llama-3.3-70b-versatile"),
    ("deepseek", "deepseek-chat"),
    ("mistral", "mistral-large-latest"),
]


@pytest.mark.parametrize(("provider", "model"), MODELS, ids=[model for _, model in MODELS])
@pytest.mark.parametrize("usage", USAGES.values(), ids=USAGES)
def test_a_cost_is_what_genai_prices_says(provider: str, model: str, usage: Usage) -> None:
    found = cost_nusd(compile_price(provider, model), usage)
    assert isinstance(found, int)
    assert found == int(their_cost(provider, model, usage).to_integral_value(ROUND_HALF_UP))


def test_every_priced_model_of_the_catalogue_agrees_or_is_unknown() -> None:
    agreed = unknown = 0
    for provider in get_snapshot().providers:
        for model in provider.models:
            price = compile_price(provider.id, model.id)
            if price is None:
                continue
            for usage in (USAGES["reasoning"], USAGES["above 200k by its cache"], USAGES["a cache that is written"]):
                found = cost_nusd(price, usage)
                if found is None:
                    unknown += 1
                    assert price.rates.input is None or price.rates.output is None
                    continue
                agreed += 1
                assert abs(found - their_cost(provider.id, model.id, usage)) <= 1, (provider.id, model.id, usage)
    assert agreed > 1_000 and unknown < agreed / 5


def test_a_tier_applies_to_the_whole_request_once_its_input_exceeds_it() -> None:
    price = compile_price("google", "gemini-2.5-pro")
    assert price is not None and [above for above, _ in price.tiers] == [200_000]
    below, above = (cost_nusd(price, Usage(input_uncached=count, output_visible=1_000)) for count in (200_000, 200_001))
    assert below == 200_000 * 1_250 + 1_000 * 10_000
    assert above == 200_001 * 2_500 + 1_000 * 15_000


def test_the_highest_tier_that_is_exceeded_applies() -> None:
    price = Price(Rates(1_000_000, 0), ((10, Rates(2_000_000, 0)), (20, Rates(3_000_000, 0))))
    assert [cost_nusd(price, Usage(input_uncached=n)) for n in (10, 11, 20, 21)] == [10, 22, 40, 63]
    assert cost_nusd(price, Usage(output_visible=50)) == 0, "output does not reach a tier of input"


@pytest.mark.parametrize(("provider", "model"), [("openai", "no-such-model"), ("no-such-provider", "gpt-5"), ("openai", ""), ("", "")])
def test_an_unknown_model_has_no_price_and_no_cost(provider: str, model: str) -> None:
    assert compile_price(provider, model) is None
    assert cost_nusd(None, USAGES["plain"]) is None


PRICE = Price(Rates(1_000_000, 2_000_000, 3_000_000, 4_000_000, 5_000_000, 6_000_000, 7_000_000, 8_000_000, 9_000_000, 10_000_000))


CALLS = ("server_tool_calls", "web_searches", "file_searches")


def test_every_class_is_of_the_input_of_the_output_or_counts_calls() -> None:
    """Where a class is added, the tables of the ledger and the fields of usage, sums and reports must say what it is."""
    assert sorted((*INPUTS, *OUTPUTS, *CALLS)) == sorted(USAGE_CLASSES)
    assert set(USAGE_CLASSES) <= set(Sums.__struct_fields__) and set(USAGE_CLASSES) < set(Usage.__struct_fields__)
    assert {RATE_OF.get(name, name) for name in (*INPUTS, *OUTPUTS)} | {"web_search", "file_search", "tool_call"} == set(Rates.__struct_fields__)


@pytest.mark.parametrize("name", [*INPUTS, *OUTPUTS])
def test_every_class_of_tokens_is_in_its_total_and_costs_its_own_price(name: str) -> None:
    """`Usage.input_total`, `output_total` and `cost_nusd` list the classes one by one, for speed: none may be forgotten."""
    usage = Usage(**{name: 7})
    assert (usage.input_total, usage.output_total) == ((7, None) if name in INPUTS else (None, 7))
    more = Usage(**{**dict.fromkeys((*INPUTS, *OUTPUTS), 1), name: 7})
    assert (more.input_total, more.output_total) == (len(INPUTS) + 6 * (name in INPUTS), len(OUTPUTS) + 6 * (name in OUTPUTS))
    rate = getattr(PRICE.rates, RATE_OF.get(name, name))
    assert cost_nusd(PRICE, usage) == 7 * rate // 1_000_000
    assert cost_nusd(Price(msgspec.structs.replace(PRICE.rates, **{RATE_OF.get(name, name): None})), usage) is None
    dearest = Price(msgspec.structs.replace(PRICE.rates, **{RATE_OF.get(name, name): 50_000_000}))
    if name != "cache_read":  # a prompt's tokens are never all dearer when they are cached
        assert most_nusd(dearest, *((7, 0) if name in INPUTS else (0, 7))) == 350


def test_unknown_usage_has_no_cost() -> None:
    assert cost_nusd(PRICE, None) is None
    assert cost_nusd(PRICE, Usage()) is None
    assert cost_nusd(PRICE, Usage(server_tool_calls=3)) is None


SEARCHED = Usage(input_uncached=1_000, output_visible=500, web_searches=3)


def test_a_search_is_charged_beside_the_tokens_as_genai_prices_says() -> None:
    found = cost_nusd(compile_price("anthropic", "claude-sonnet-4-5"), SEARCHED)
    assert found == 1_000 * 3_000 + 500 * 15_000 + 3 * 10_000_000


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_whose_price_is_unknown_makes_the_cost_unknown(name: str) -> None:
    assert cost_nusd(PRICE, Usage(input_uncached=1, **{name: 1})) is None
    assert cost_nusd(PRICE, Usage(input_uncached=1, **{name: 0})) == 1


def test_another_tool_that_its_provider_ran_makes_the_cost_unknown_until_it_has_a_price() -> None:
    searched = Usage(input_uncached=1, server_tool_calls=5, web_searches=3, file_searches=1)
    prices = {"web_search_usd": 0.01, "file_search_usd": 0.0025}
    assert cost_nusd(override_price(1.0, 2.0, **prices), searched) is None
    assert cost_nusd(override_price(1.0, 2.0, **prices, tool_call_usd=0.03), searched) == 1_000 + 62_500_000
    assert cost_nusd(override_price(1.0, 2.0, **prices), msgspec.structs.replace(searched, server_tool_calls=4)) == 1_000 + 32_500_000


def test_searches_alone_are_no_known_cost() -> None:
    assert cost_nusd(override_price(1.0, 2.0, web_search_usd=0.01), Usage(web_searches=3)) is None


def test_usage_of_zeros_costs_zero_and_not_nothing() -> None:
    assert cost_nusd(PRICE, Usage(input_uncached=0)) == 0


@pytest.mark.parametrize(("name", "rate"), list(zip(CLASSES, (1, 3, 4, 5, 7, 2, 6, 8, 9, 10), strict=True)), ids=CLASSES)
def test_each_class_costs_its_own_rate(name: str, rate: int) -> None:
    assert cost_nusd(PRICE, Usage(**{name: 10})) == 10 * rate


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_whose_price_is_unknown_makes_the_cost_unknown_when_it_was_used(name: str) -> None:
    price = Price(msgspec.structs.replace(PRICE.rates, **{RATE_OF.get(name, name): None}))
    assert cost_nusd(price, Usage(**{name: 1})) is None
    assert cost_nusd(price, Usage(**{name: 0})) == 0
    assert cost_nusd(price, Usage(**dict.fromkeys([c for c in CLASSES if c != name], 1))) is not None


@pytest.mark.parametrize(
    ("rate", "count", "cost"),
    [(1, 499_999, 0), (1, 500_000, 1), (1, 1_499_999, 1), (1, 1_500_000, 2), (1, 2_500_000, 3), (3, 500_000, 2), (5, 100_000, 1), (0, 10**9, 0)],
)
def test_a_cost_is_rounded_half_up(rate: int, count: int, cost: int) -> None:
    assert cost_nusd(Price(Rates(rate, rate)), Usage(input_uncached=count)) == cost


def test_rounding_is_done_once_for_the_request() -> None:
    assert cost_nusd(Price(Rates(1, 1)), Usage(input_uncached=300_000, output_visible=300_000)) == 1


def test_a_request_fee_is_added_to_the_tokens() -> None:
    price = msgspec.structs.replace(PRICE, request_nusd=5_000)
    assert cost_nusd(price, Usage(input_uncached=1)) == 5_001
    assert cost_nusd(price, None) is None


OVERRIDES: list[tuple[dict[str, Any], Usage, int | None]] = [
    ({}, Usage(input_uncached=1, output_visible=1), 3_000),
    ({}, Usage(cache_read=1, cache_write_5m=1, cache_write_1h=1), 3_000),
    ({}, Usage(reasoning=1), 2_000),
    ({}, Usage(input_uncached=1, audio_input=1), None),
    ({}, Usage(input_uncached=1, audio_output=1), None),
    ({"audio_input_usd_per_mtok": 40.0, "audio_output_usd_per_mtok": 80.0}, Usage(audio_input=1, audio_output=1), 120_000),
    ({"reasoning_usd_per_mtok": 3.0}, Usage(reasoning=1, output_visible=1), 5_000),
    ({"cache_write_usd_per_mtok": 1.25, "cache_write_1h_usd_per_mtok": 2.0}, Usage(cache_write_5m=4, cache_write_1h=4), 13_000),
    ({"service_tiers": {"flex": 0.5}}, Usage(input_uncached=3, service_tier="flex"), 1_500),
    ({"service_tiers": {"flex": 0.5}}, Usage(input_uncached=3, service_tier="priority"), None),
    ({"service_tiers": {"flex": 0.5}, "request_usd": 0.01}, Usage(input_uncached=2, service_tier="flex"), 5_001_000),
    ({"cache_read_usd_per_mtok": 0.1}, Usage(cache_read=10), 1_000),
    ({"cache_read_usd_per_mtok": 0.0}, Usage(cache_read=10), 0),
    ({"cache_write_usd_per_mtok": 1.25}, Usage(cache_write_5m=4, cache_write_1h=4), 10_000),
    ({"request_usd": 0.01}, Usage(input_uncached=1), 10_001_000),
    ({}, Usage(image_input=1, image_output=1), 3_000),
    ({"image_input_usd_per_mtok": 8.0, "image_output_usd_per_mtok": 32.0}, Usage(image_input=1, image_output=1), 40_000),
    ({"tool_call_usd": 0.03}, Usage(input_uncached=1, server_tool_calls=2), 60_001_000),
    ({"web_search_usd": 0.01, "file_search_usd": 0.0025}, Usage(input_uncached=1, web_searches=2, file_searches=1), 22_501_000),
]


@pytest.mark.parametrize(("options", "usage", "cost"), OVERRIDES)
def test_a_price_of_ones_own_applies_to_every_class(options: dict[str, Any], usage: Usage, cost: int | None) -> None:
    assert cost_nusd(override_price(1.0, 2.0, **options), usage) == cost


def test_audio_has_a_price_where_genai_prices_has_one_and_else_none() -> None:
    with_audio, text = compile_price("aws", "amazon.nova-sonic-v1:0"), compile_price("openai", "gpt-5")
    assert with_audio is not None and with_audio.rates.audio_input is not None and with_audio.rates.input is not None
    assert with_audio.rates.audio_input > 10 * with_audio.rates.input
    assert text is not None and text.rates.audio_input is None and cost_nusd(text, Usage(input_uncached=1, audio_input=1)) is None


@pytest.mark.parametrize(
    ("usd", "rate"), [(0.1, 100_000_000), (0.3, 300_000_000), (0.07, 70_000_000), (1e-9, 1), (5e-10, 1), (4.9e-10, 0), (2.5e-9, 3), (1e6, 10**15)]
)
def test_a_price_of_ones_own_is_taken_as_it_is_written(usd: float, rate: int) -> None:
    assert override_price(usd, usd).rates.input == rate


def test_compiled_prices_are_integers_all_through() -> None:
    for provider, model in MODELS:
        price = compile_price(provider, model)
        assert price is not None
        for rates in (price.rates, *(tier for _, tier in price.tiers)):
            assert all(rate is None or type(rate) is int for rate in msgspec.structs.astuple(rates))
        assert type(price.request_nusd) is int


RATE = st.integers(0, 10**12)
RATES = st.builds(Rates, **dict.fromkeys(Rates.__struct_fields__, RATE))
COUNTS = st.dictionaries(st.sampled_from(CLASSES), st.integers(0, 10**8), min_size=1)
BOTH = st.tuples(COUNTS, st.dictionaries(st.sampled_from(SEARCHES), st.integers(0, 1_000))).map(lambda both: both[0] | both[1])


@given(RATES, BOTH)
def test_a_cost_is_the_exact_sum_within_a_nano_dollar(rates: Rates, counts: dict[str, int]) -> None:
    found = cost_nusd(Price(rates), Usage(**counts))
    exact = sum((Decimal(count) * getattr(rates, RATE_OF.get(name, name)) / 1_000_000 for name, count in counts.items()), Decimal(0))
    assert type(found) is int and abs(found - exact) <= Decimal("0.5")


@given(RATES, BOTH, st.sampled_from((*CLASSES, *SEARCHES)), st.integers(1, 10**8))
def test_a_cost_never_falls_when_a_class_grows(rates: Rates, counts: dict[str, int], name: str, more: int) -> None:
    grown = {**counts, name: counts.get(name, 0) + more}
    less, greater = cost_nusd(Price(rates), Usage(**counts)), cost_nusd(Price(rates), Usage(**grown))
    assert less is not None and greater is not None and less <= greater


@pytest.mark.parametrize(("provider", "model"), MODELS, ids=[model for _, model in MODELS])
def test_the_cost_of_a_known_model_never_falls_when_a_class_grows(provider: str, model: str) -> None:
    price = compile_price(provider, model)
    for name in ("input_uncached", "cache_read", "output_visible", "reasoning"):
        counts = {each: 10 for each in CLASSES if not each.startswith("audio")}
        costs: list[Any] = [cost_nusd(price, Usage(**{**counts, name: count})) for count in range(0, 400_000, 20_000)]
        assert costs == sorted(costs)


CATALOGUE = [(p.id, m.id) for p in get_snapshot().providers for m in p.models if compile_price(p.id, m.id) is not None]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(CATALOGUE), BOTH)
def test_the_cost_of_any_usage_of_any_model_is_what_genai_prices_says(model: tuple[str, str], counts: dict[str, int]) -> None:
    counts = {name: min(count, 300_000) for name, count in counts.items()}
    usage = Usage(**counts)
    found = cost_nusd(compile_price(*model), usage)
    n = {name: counts.get(name, 0) for name in CLASSES}
    told = TheirUsage(
        input_tokens=usage.input_total or 0,
        output_tokens=usage.output_total or 0,
        cache_read_tokens=n["cache_read"],
        cache_write_tokens=n["cache_write_5m"] + n["cache_write_1h"],
        cache_write_5m_tokens=n["cache_write_5m"],
        cache_write_1h_tokens=n["cache_write_1h"],
        cache_audio_read_tokens=0,
        output_reasoning_tokens=n["reasoning"],
        input_audio_tokens=n["audio_input"],
        output_audio_tokens=n["audio_output"],
        input_image_tokens=n["image_input"],
        output_image_tokens=n["image_output"],
        cache_image_read_tokens=0,
        web_searches=counts.get("web_searches", 0),
        storage_searches=counts.get("file_searches", 0),
    )
    _, info = get_snapshot().find_provider_model(model[1], None, model[0], None)
    assert found is None or abs(found - info.get_prices(datetime.now(UTC)).calc_price(told)["total_price"] * NANO) <= 1
