"""An engine's queue as a replay plays it."""

from policy.slots import Slots


def test_who_finds_a_slot_free_does_not_wait_and_who_comes_later_waits_for_the_first_that_ends() -> None:
    queue = Slots(slots=2, max_queue=10, max_wait_s=30.0)
    assert [queue.enter(0.0, takes) for takes in (4.0, 10.0)] == [0.0, 0.0]
    assert queue.enter(1.0, 5.0) == 3.0
    assert queue.enter(2.0, 5.0) == 7.0
    assert queue.there(3.9) == 4 and queue.there(4.0) == 3 and queue.there(100.0) == 0
    assert queue.enter(100.0, 1.0) == 0.0


def test_a_full_queue_and_too_long_a_wait_refuse() -> None:
    queue = Slots(slots=1, max_queue=1, max_wait_s=30.0)
    assert (queue.enter(0.0, 5.0), queue.enter(0.0, 5.0)) == (0.0, 5.0)
    assert queue.full(0.0) and queue.enter(0.0, 5.0) is None
    assert not queue.full(5.0) and queue.enter(5.0, 5.0) == 5.0
    long = Slots(slots=1, max_queue=9, max_wait_s=30.0)
    assert long.enter(0.0, 31.0) == 0.0 and long.enter(0.5, 1.0) is None and long.enter(1.0, 1.0) == 30.0


def test_the_wait_that_is_announced_grows_with_the_queue_and_is_none_while_there_is_room() -> None:
    queue = Slots(slots=2, max_queue=10, max_wait_s=30.0)
    assert queue.expected_wait_s(0.0) == 0.0
    announced = []
    for _ in range(4):
        queue.enter(0.0, 5.0)
        announced.append(queue.expected_wait_s(0.0))
    assert announced[0] == 0.0 and 0.0 < announced[1] < announced[2] < announced[3] <= 30.0
