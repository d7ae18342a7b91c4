"""A memory of answers: bounded in bytes and in time, the least recently used go first."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cache.memory import Memory
from cache.port import OVERHEAD, Entry


def entry(size: int = 0, name: str = "r") -> Entry:
    return Entry(owner="/t", request_id=name, target="one/m", headers=(), body=b"x" * size, cuts=(), made_at=0.0, cost_nusd=1)


def test_what_was_put_is_there_until_its_time_is_over() -> None:
    memory = Memory(100 * OVERHEAD)
    memory.put(b"k", entry(name="one"), until=10.0)
    found = memory.get(b"k", 7.0)
    assert found is not None and (found.entry.request_id, found.left_s) == ("one", 3.0)
    assert memory.get(b"k", 10.0) is None and len(memory) == 0 and memory.bytes == 0


def test_the_least_recently_used_goes_first() -> None:
    memory = Memory(20 * OVERHEAD)
    for name in range(20):
        memory.put(b"%d" % name, entry(), until=10.0)
    assert memory.get(b"0", 0.0) is not None
    memory.put(b"new", entry(), until=10.0)
    assert memory.get(b"1", 0.0) is None and memory.get(b"0", 0.0) is not None and memory.get(b"new", 0.0) is not None


def test_one_entry_may_have_an_eighth() -> None:
    memory = Memory(80 * OVERHEAD)
    memory.put(b"fits", entry(9 * OVERHEAD), until=10.0)
    memory.put(b"not", entry(10 * OVERHEAD), until=10.0)
    assert memory.get(b"fits", 0.0) is not None and memory.get(b"not", 0.0) is None


def test_a_new_answer_takes_the_old_one_s_place() -> None:
    memory = Memory(80 * OVERHEAD)
    memory.put(b"k", entry(100, "old"), until=10.0)
    memory.put(b"k", entry(50, "new"), until=20.0)
    found = memory.get(b"k", 15.0)
    assert found is not None and found.entry.request_id == "new" and memory.bytes == found.entry.size


def test_without_room_nothing_is_kept() -> None:
    memory = Memory(0)
    memory.put(b"k", entry(), until=10.0)
    assert memory.get(b"k", 0.0) is None


STEPS = st.lists(st.tuples(st.sampled_from(["put", "get"]), st.binary(min_size=1, max_size=1), st.integers(0, 4 * OVERHEAD), st.floats(0, 10)))


@given(STEPS)
def test_whatever_happens_it_stays_within_its_bytes_and_counts_them(steps: list[Any]) -> None:
    memory, now = Memory(16 * OVERHEAD), 0.0
    sizes: dict[bytes, int] = {}
    for step, key, size, passed in steps:
        now += passed
        if step == "put":
            sizes[key] = entry(size).size
            memory.put(key, entry(size), now + 5.0)
        elif (found := memory.get(key, now)) is not None:
            assert found.entry.size == sizes[key] and 0 < found.left_s <= 5.0
        assert 0 <= memory.bytes <= 16 * OVERHEAD
