"""More cached tokens than tokens, in each maker's words: no class is below nothing, and what was counted twice is flagged."""

from collections.abc import Callable

import pytest
from msgspec import Raw, json

from contract.usage import Usage
from gateway.accounting import settled
from ledger.prices import Price, Rates, cost_nusd
from providers.passed import usage_of as passed
from providers.wires.anthropic_messages.usage import decode_usage as anthropic
from providers.wires.bedrock.response import decode_usage as bedrock
from providers.wires.classes import Input, Output, input_of, output_of
from providers.wires.cohere.response import decode_usage as cohere
from providers.wires.gemini.response import decode_usage as gemini
from providers.wires.openai_chat.usage import decode_usage as chat
from providers.wires.openai_responses.usage import decode_usage as responses

READERS: list[tuple[Callable[[Raw], Usage | None], dict[str, object]]] = [
    (chat, {"prompt_tokens": 20, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 50}}),
    (chat, {"prompt_tokens": 20, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 15, "cache_write_tokens": 21}}),
    (chat, {"prompt_tokens": 20, "completion_tokens": 5, "prompt_cache_hit_tokens": 21}),
    (responses, {"input_tokens": 20, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 21, "cache_write_tokens": 10}}),
    (gemini, {"promptTokenCount": 20, "candidatesTokenCount": 5, "cachedContentTokenCount": 50}),
    (cohere, {"tokens": {"input_tokens": 20, "output_tokens": 5}, "cached_tokens": 50}),
    (passed, {"input_tokens": 20, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 50}}),
]


@pytest.mark.parametrize(("read", "told"), READERS, ids=[read.__module__.split(".")[-2] for read, _ in READERS])
def test_the_tokens_are_believed_and_none_is_cached(read: Callable[[Raw], Usage | None], told: dict[str, object]) -> None:
    raw = Raw(json.encode(told))
    usage = read(raw)
    assert usage is not None
    assert usage == Usage(input_uncached=20, output_visible=5, source="estimated", raw=raw)
    assert settled(usage, True, 4_000, 5) is usage
    assert cost_nusd(Price(Rates(1_000_000_000, 2_000_000_000, cache_read=1)), usage) == 20_000 + 10_000


def test_more_written_for_an_hour_than_written_is_all_of_it() -> None:
    split = {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 9}
    told = anthropic(Raw(json.encode({"input_tokens": 2, "output_tokens": 1, "cache_creation_input_tokens": 7, "cache_creation": split})))
    hours = bedrock(Raw(json.encode({"inputTokens": 2, "cacheWriteInputTokens": 7, "cacheDetails": [{"ttl": "1h", "inputTokens": 9}]})))
    assert [(usage.cache_write_5m, usage.cache_write_1h, usage.input_total) for usage in (told, hours)] == [(0, 7, 9)] * 2


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ((100, 40, 10, 30, 5), Input(15, 40, 10, 30, 5)),
        ((100, 80, None, 60, None), Input(0, 80, None, 20, None, "estimated")),
        ((100, None, None, 60, 60), Input(0, None, None, 60, 40, "estimated")),
        ((100, 60, 101, 5, None), Input(100, source="estimated")),
        ((100, 98, 97, None, None), Input(0, 98, 97)),  # read, and written anew
        ((0, 0, None, None, None), Input(0, 0)),
        ((None, 5, None, None, None), Input(None, 5)),
        ((100, -4, None, None, None), Input(100, source="estimated")),
        ((100, 4, None, -1, None), Input(100, source="estimated")),
        ((-1, 5, None, None, None), Input(None, 5)),
    ],
)
def test_classes_are_never_more_than_the_whole(given: tuple[int | None, ...], found: Input) -> None:
    assert input_of(*given) == found


MADE: list[tuple[Callable[[Raw], Usage | None], dict[str, object]]] = [
    (chat, {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25, "completion_tokens_details": {"reasoning_tokens": 50}}),
    (chat, {"prompt_tokens": 20, "completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 50}}),
    (chat, {"prompt_tokens": 20, "completion_tokens": 5, "completion_tokens_details": {"audio_tokens": 6}}),
    (responses, {"input_tokens": 20, "output_tokens": 5, "output_tokens_details": {"reasoning_tokens": 50}}),
    (anthropic, {"input_tokens": 20, "output_tokens": 5, "output_tokens_details": {"thinking_tokens": 50}}),
    (
        gemini,
        {"promptTokenCount": 20, "candidatesTokenCount": 5, "candidatesTokensDetails": [{"modality": "AUDIO", "tokenCount": 50}]},
    ),
    (passed, {"input_tokens": 20, "output_tokens": 5, "output_tokens_details": {"image_tokens": 50}}),
]


@pytest.mark.parametrize(("read", "told"), MADE, ids=[read.__module__.split(".")[-2] for read, _ in MADE])
def test_the_output_is_believed_and_no_class_above_it(read: Callable[[Raw], Usage | None], told: dict[str, object]) -> None:
    raw = Raw(json.encode(told))
    usage = read(raw)
    assert usage == Usage(input_uncached=20, output_visible=5, source="estimated", raw=raw)
    assert settled(usage, True, 4_000, 5) is usage


def test_reasoning_that_a_total_tells_beside_the_output_is_no_part_of_it() -> None:
    """xAI's way."""
    told = {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 75, "completion_tokens_details": {"reasoning_tokens": 50}}
    usage = chat(Raw(json.encode(told)))
    assert (usage.output_visible, usage.reasoning, usage.source) == (5, 50, "provider")


@pytest.mark.parametrize(
    ("told", "made"),
    [
        ((None, 3), Output(None, 3, source="estimated")),
        ((-1, 3), Output(None, 3, source="estimated")),
        ((None, 0), Output(None, 0)),
        ((40, -3), Output(40, source="estimated")),
        ((40, 5, -3), Output(40, source="estimated")),
        ((40, 5, 6, -3), Output(40, source="estimated")),
        ((10, 3, 4, 3), Output(0, 3, 4, 3)),
        ((10, 10), Output(0, 10)),
        ((10, 6, 6, 1), Output(0, 6, 4, 0, "estimated")),
        ((10, 0, 11), Output(10, source="estimated")),
    ],
)
def test_an_output_is_taken_apart_into_no_more_than_it_is(told: tuple[int | None, ...], made: Output) -> None:
    assert output_of(*told) == made
