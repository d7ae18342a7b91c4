"""Which of llama.cpp's slots a request gets: who is promised a first token below who is not, and what read its beginning before."""

from hypothesis import given
from hypothesis import strategies as st

from providers.local.seats import BLOCK_BYTES, MOST_BLOCKS, Seats, beginnings

OTHER = beginnings(b"o" * 1000)


def taken(count: int, *seats: int) -> Seats:
    them = Seats(count)
    for seat in seats:
        them.take(seat, ())
    return them


def promised(seats: Seats, begins: tuple[int, ...] = ()) -> int | None:
    return seats.choice(begins, promised=True)


def test_a_slow_prompt_has_the_last_slot_or_none() -> None:
    assert taken(4).last == 3 and taken(4, 3).last is None and taken(4, 0).last == 3


def test_batch_work_has_the_highest_that_is_free_and_live_work_leaves_the_last_one_while_it_can() -> None:
    assert taken(4, 3).choice((), promised=False) == 2
    assert promised(taken(4, 0, 1)) == 2 and promised(taken(4, 0, 1, 2)) == 3 and promised(taken(4, 0, 1, 2, 3)) is None
    assert promised(taken(1)) == 0


def test_a_prompt_goes_where_its_beginning_was_read_and_else_to_the_slot_unused_the_longest() -> None:
    story, seats = b"x" * (4 * BLOCK_BYTES), Seats(4)
    for seat, begins in enumerate((OTHER, beginnings(story), OTHER, OTHER)):
        seats.take(seat, begins)
    for seat in (2, 1, 0, 3):
        seats.give_back(seat, read=True)
    assert promised(seats, beginnings(story + b"y" * (3 * BLOCK_BYTES))) == 1
    assert promised(seats, beginnings(story + b"y" * (5 * BLOCK_BYTES))) == 2, "less than half of it was read there"
    assert promised(seats, beginnings(b"short")) == 2


def test_what_a_slot_read_before_is_not_read_again() -> None:
    story, seats = b"x" * (8 * BLOCK_BYTES), Seats(2)
    begins = beginnings(story)
    for read, left in ((True, 1000 - 8 * BLOCK_BYTES // 4), (False, 1000)):
        seats.take(0, begins)
        seats.give_back(0, read)
        assert seats.unread(begins, 1000, 0) == seats.unread(begins, 1000, None) == left and seats.unread(begins, 1000, 1) == 1000
    seats.take(0, begins)
    assert seats.unread(begins, 8, 0) == 1
    seats.forget()
    assert seats.unread(begins, 1000, 0) == 1000


@given(st.binary(max_size=1000), st.binary(max_size=300), st.binary(max_size=300))
def test_prompts_share_as_many_numbers_as_whole_blocks_at_their_beginning(same: bytes, one: bytes, other: bytes) -> None:
    blocks = len(same) // BLOCK_BYTES
    mine, its = beginnings(same, one), beginnings(same + other)
    assert mine[:blocks] == its[:blocks] and len(mine) == len(same + one) // BLOCK_BYTES
    assert len(beginnings(bytes(BLOCK_BYTES * MOST_BLOCKS * 2))) == MOST_BLOCKS
