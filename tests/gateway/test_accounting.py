"""Usage of answers that came to their end, and of those that did not."""

from typing import Any

import msgspec
import pytest

from contract.call import Call
from contract.usage import MOST_TOKENS, Usage
from gateway.accounting import plausible, settled, unawaited

RAW = msgspec.Raw(b'{"output_tokens":-5}')
TOLD = Usage(input_uncached=10, cache_read=8, output_visible=1)


def test_what_a_whole_answer_tells_is_kept() -> None:
    assert settled(TOLD, True, 1_000, 500) is TOLD


@pytest.mark.parametrize("whole", [True, False])
def test_an_answer_of_which_nothing_was_told_is_estimated(whole: bool) -> None:
    assert settled(None, whole, 100, 25) == Usage(input_uncached=100, output_visible=25, source="estimated")
    assert settled(None, whole, 100, 0) is None


def test_a_cut_answer_keeps_the_input_that_was_told_and_counts_the_output_that_came() -> None:
    assert settled(TOLD, False, 1_000, 800) == Usage(input_uncached=10, cache_read=8, output_visible=800, source="estimated")


@pytest.mark.parametrize("seen", [0, 1_600, 3_000])
def test_a_cut_answer_keeps_an_output_count_that_may_be_of_what_came(seen: int) -> None:
    told = Usage(input_uncached=1_000, output_visible=1_500, reasoning=100)
    assert settled(told, False, 21, seen) == Usage(input_uncached=1_000, output_visible=1_500, reasoning=100, source="estimated")


def test_an_output_count_without_input_gets_its_input_estimated() -> None:
    assert settled(Usage(output_visible=7), False, 100, 7) == Usage(input_uncached=100, output_visible=7, source="estimated")


@pytest.mark.parametrize("count", [-1, -(10**9), MOST_TOKENS + 1, 2**63, 2**70])
def test_an_absurd_count_is_unknown_and_the_others_stay(count: int) -> None:
    usage = Usage(input_uncached=3, output_visible=count, raw=RAW)
    assert plausible(usage) == Usage(input_uncached=3, output_visible=None, raw=RAW)
    assert settled(usage, True, 2, 10) == Usage(input_uncached=3, output_visible=10, source="estimated", raw=RAW)


HALF = Usage(output_visible=3)


@pytest.mark.parametrize(
    ("told", "known"),
    [
        (Usage(), (100, 25)),
        (HALF, (100, 3)),
        (Usage(input_uncached=-5, output_visible=3), (100, 3)),
        (Usage(input_uncached=2**63, output_visible=3), (100, 3)),
        (Usage(input_uncached=0, cache_read=2**63, output_visible=3), (100, 3)),
        (Usage(input_uncached=7), (7, 25)),
        (Usage(input_uncached=7, output_visible=0, reasoning=-1), (7, 25)),
    ],
)
def test_the_half_of_a_text_s_usage_that_is_not_known_is_estimated(told: Usage, known: tuple[int, int]) -> None:
    assert settled(told, True, 100, 25) == Usage(input_uncached=known[0], output_visible=known[1], source="estimated")


def test_what_an_answer_that_is_no_text_tells_is_whole_or_nothing() -> None:
    assert settled(HALF, True, 100, 0) == settled(Usage(), True, 100, 0) == Usage()
    assert settled(Usage(input_uncached=7), True, 100, 0) == Usage(input_uncached=7)  # embeddings have no output


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("told", [None, HALF, Usage(), Usage(input_uncached=7)])
def test_an_answer_some_of_which_is_no_text_is_not_known_where_its_provider_did_not_tell_it(told: Usage | None, whole: bool) -> None:
    assert settled(told, whole, 100, None) == Usage(source="estimated")


def test_what_was_told_of_an_answer_some_of_which_is_no_text_is_kept() -> None:
    told = Usage(input_uncached=7, audio_output=9)
    assert settled(told, True, 100, None) is told
    assert settled(told, False, 100, None) == Usage(input_uncached=7, audio_output=9, source="estimated")


def test_all_of_an_output_may_be_thoughts() -> None:
    told = Usage(input_uncached=7, reasoning=30)
    assert settled(told, True, 100, 25) is told


@pytest.mark.parametrize(
    ("dialect", "usage"),
    [
        ("openai_chat", Usage(input_uncached=100, source="estimated")),
        ("passthrough", Usage(source="estimated")),
        ("anthropic_count_tokens", None),
    ],
)
def test_a_prompt_whose_answer_was_not_waited_for_is_estimated_where_it_is_text(dialect: Any, usage: Usage | None) -> None:
    call = Call(request_id="r", dialect=dialect, model="m", stream=True, include_usage=False, choices=1, body=b" " * 400, fields={})
    assert unawaited(call, 100) == usage
