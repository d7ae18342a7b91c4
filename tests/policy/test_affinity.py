"""Where a prompt's begin is likely cached; a conversation stays there while that is worth more than moving."""

from itertools import pairwise

import pytest

from policy.affinity import FIRST, MAX_PREFIXES, TTL_S, Affinity, prefixes
from policy.ask import Ask
from policy.rule import Rule
from tests.policy.targets import NOW, Fed, order, planned, usd

TURN = b'{"role":"user","content":"' + b"what is a turnout? " * 40 + b'"}'
CONVERSATION = [b"[" + b",".join([TURN] * turns) + b"]" for turns in range(1, 6)]


def test_prefixes_double_and_the_rest_does_not_matter() -> None:
    assert prefixes(b"x" * (FIRST - 1)) == ()
    assert len(prefixes(b"x" * FIRST)) == 1 and len(prefixes(b"x" * (8 * FIRST))) == 4
    assert prefixes(b"x" * 600 + b"a") == prefixes(memoryview(b"x" * 600 + b"b" * 50))


def test_prompts_that_differ_early_share_nothing() -> None:
    assert not set(prefixes(b"a" + b"x" * 5000)) & set(prefixes(b"b" + b"x" * 5000))


def test_a_conversation_s_next_turn_is_warm_where_the_last_was_answered() -> None:
    affinity = Affinity()
    for turn, following in pairwise(CONVERSATION):
        affinity.note(prefixes(turn), "one", NOW)
        warm = affinity.warm(prefixes(following), NOW + 1)
        assert set(warm) == {"one"} and len(turn) / 2 <= warm["one"] <= len(turn)


def test_a_prompt_that_begins_like_another_is_warm_for_their_common_part() -> None:
    affinity = Affinity()
    affinity.note(prefixes(b"s" * 1024 + b"a" * 4096), "one", NOW)
    assert affinity.warm(prefixes(b"s" * 1024 + b"b" * 4096), NOW) == {"one": 1024}


def test_several_targets_may_be_warm_each_as_far_as_it_has_read() -> None:
    affinity = Affinity()
    affinity.note(prefixes(b"x" * 512), "one", NOW)
    affinity.note(prefixes(b"x" * 2048), "two", NOW)
    assert affinity.warm(prefixes(b"x" * 4096), NOW) == {"one": 512, "two": 2048}


def test_a_cache_is_forgotten_when_it_was_not_used_for_its_time() -> None:
    affinity = Affinity()
    affinity.note(prefixes(CONVERSATION[0]), "one", NOW)
    assert affinity.warm(prefixes(CONVERSATION[0]), NOW + TTL_S - 1)
    assert affinity.warm(prefixes(CONVERSATION[0]), NOW + TTL_S) == {}


def test_an_answer_keeps_the_cache_warm_for_longer() -> None:
    affinity = Affinity()
    for turn in range(5):
        affinity.note(prefixes(CONVERSATION[0]), "one", NOW + turn * TTL_S * 0.9)
    assert affinity.warm(prefixes(CONVERSATION[0]), NOW + 5 * TTL_S * 0.9)


def test_the_map_is_bounded_and_the_oldest_go_first() -> None:
    affinity = Affinity()
    count = MAX_PREFIXES + 10
    for number in range(count):
        affinity.note((number,), "one", NOW)
    warm = [number for number in range(count) if affinity.warm((number,), NOW)]
    assert warm == list(range(10, count))


# --- staying and moving -----------------------------------------------------------------------------------------------
def follow_up(warm_tokens: int) -> Ask:
    return Ask("r", True, 4000, 100, warm={"here": warm_tokens})


@pytest.mark.parametrize(("elsewhere", "expected"), [(usd(0.8, 5), "here"), (usd(0.2, 1), "there")], ids=["a little cheaper", "much cheaper"])
def test_a_conversation_stays_while_its_cache_saves_more_than_moving_would(elsewhere: object, expected: str) -> None:
    targets = [Fed("there", elsewhere), Fed("here", usd(1, 5, cached=0.1))]
    assert order(planned(Rule(objective="cheapest"), targets, follow_up(3500)))[0] == expected


def test_without_its_cache_it_would_not_have_stayed() -> None:
    targets = [Fed("there", usd(0.8, 5)), Fed("here", usd(1, 5, cached=0.1))]
    assert order(planned(Rule(objective="cheapest"), targets, follow_up(0)))[0] == "there"


def by_length(name: str, short_s: float, long_s: float) -> Fed:
    """A target that begins sooner for short prompts, and so for long ones of which most is cached."""
    target = Fed(name, samples=0)
    for prompt_tokens, ttft_s in ((300, short_s), (4000, long_s)):
        for _ in range(30):
            target.stats.observe(
                NOW, streamed=True, prompt_tokens=prompt_tokens, load=0, ttft_s=ttft_s, total_s=ttft_s + 1, output_tokens=100,
                input_tokens=None, cached_tokens=None,
            )  # fmt: skip
    return target


@pytest.mark.parametrize(("elsewhere_s", "expected"), [(0.5, "here"), (0.1, "there")], ids=["slower than the cache", "faster even so"])
def test_a_conversation_stays_while_its_cache_is_faster_than_another_target(elsewhere_s: float, expected: str) -> None:
    targets = [by_length("there", elsewhere_s, elsewhere_s), by_length("here", 0.2, 2.0)]
    assert order(planned(Rule(objective="fastest"), targets, follow_up(3700)))[0] == expected
