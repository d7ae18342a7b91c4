"""The line by which a target's waits are carried to a request's own prompt and load: least squares, of sums that add up."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.line import FLAT, MOST, SUMS, Point, add_all, carries, height, slopes

ANSWERS = st.lists(st.tuples(st.integers(1, 50_000), st.integers(0, 40), st.floats(0.01, 60.0)), min_size=1, max_size=30)


def point(prompt_tokens: int, load: int) -> Point:
    return prompt_tokens / 1000, load, load * load


def summed(answers: list[tuple[int, int, float]]) -> list[float]:
    sums = [0.0] * SUMS
    add_all(sums, [(*answer, 1.0) for answer in answers])
    return sums


def test_a_line_through_many_answers_is_found_again() -> None:
    answers = [
        (prompt_tokens, load, 0.2 + 0.05 * prompt_tokens / 1000 + 0.03 * load)
        for prompt_tokens, load in product((100, 2_000, 10_000, 30_000), (0, 1, 4, 9, 20))
        for _ in range(200)
    ]
    found = slopes(summed(answers), len(answers))
    for prompt_tokens, load, wait_s in answers:
        assert height(found, point(prompt_tokens, load)) == pytest.approx(wait_s, rel=0.03)


def test_nothing_known_is_flat() -> None:
    assert slopes([0.0] * SUMS, 0.0) == FLAT and carries(FLAT, point(100, 0), point(50_000, 30)) == 1.0


@given(ANSWERS, ANSWERS)
def test_the_sums_of_two_processes_add_up(mine: list[tuple[int, int, float]], theirs: list[tuple[int, int, float]]) -> None:
    added = [one + other for one, other in zip(summed(mine), summed(theirs), strict=True)]
    assert added == pytest.approx(summed(mine + theirs))


@given(ANSWERS, st.integers(1, 50_000), st.integers(0, 40), st.integers(1, 50_000), st.integers(0, 40))
def test_no_part_is_negative_and_nothing_is_carried_further_than_so_many_times(
    answers: list[tuple[int, int, float]], prompt_there: int, load_there: int, prompt_here: int, load_here: int
) -> None:
    found = slopes(summed(answers), len(answers))
    assert min(found) >= 0.0 and any(found)
    times = carries(found, point(prompt_there, load_there), point(prompt_here, load_here))
    assert 1 / MOST <= times <= MOST
    if prompt_here >= prompt_there and load_here >= load_there:
        assert times >= 1.0
