"""An answer that comes once and is heard by many."""

import asyncio
from time import monotonic

from cache.flight import BEHIND, Tape
from cache.port import MAX_ANSWER


async def heard(tape: Tape) -> list[tuple[bytes, bool]]:
    return [each async for each in tape.heard()]


async def test_everybody_hears_it_from_its_beginning() -> None:
    tape = Tape(monotonic())
    early = asyncio.create_task(heard(tape))
    await asyncio.sleep(0)
    await tape.start(200, [(b"a", b"b")])
    await tape.write(b"one")
    await asyncio.sleep(0)
    late = asyncio.create_task(heard(tape))
    await tape.end(b"two")
    assert await early == await late == [(b"one", False), (b"two", True)]
    assert await heard(tape) == [(b"one", False), (b"two", True)]  # and who comes when it is over
    assert (tape.status, tape.headers, tape.bytes_sent, tape.ended, tape.kept) == (200, [(b"a", b"b")], 6, True, True)


async def test_an_answer_that_breaks_off_has_no_last_piece() -> None:
    tape = Tape(monotonic())
    task = asyncio.create_task(heard(tape))
    await tape.start(200, [])
    await tape.write(b"one")
    tape.close()
    assert await task == [(b"one", False)] and not tape.ended


async def test_one_that_never_begins_is_told() -> None:
    tape = Tape(monotonic())
    waits = asyncio.create_task(tape.begun())
    await asyncio.sleep(0)
    assert not waits.done()
    tape.close()
    assert await waits is False


async def test_a_short_answer_waits_for_nobody() -> None:
    tape = Tape(monotonic())
    slow = tape.heard()
    await tape.write(b"x")
    assert await anext(slow) == (b"x", False)
    for _ in range(20):
        await tape.write(b"y" * BEHIND)
    await slow.aclose()


async def test_a_long_one_waits_for_its_slowest_listener_and_lets_go_of_what_all_have_heard() -> None:
    tape = Tape(monotonic())
    slow = tape.heard()
    await tape.write(b"x")
    assert await anext(slow) == (b"x", False)
    await tape.write(b"y" * (MAX_ANSWER - 1))
    writes = asyncio.create_task(tape.write(b"z" * (BEHIND + 1)))
    await asyncio.sleep(0)
    assert not writes.done() and not tape.kept
    assert len((await anext(slow))[0]) == MAX_ANSWER - 1
    assert len((await anext(slow))[0]) == BEHIND + 1
    await tape.end()
    assert [each async for each in slow] == []
    await writes
    assert sum(len(piece) for _, piece in tape.pieces) <= BEHIND + 1


async def test_who_gives_up_holds_up_nobody() -> None:
    tape = Tape(monotonic())
    slow = tape.heard()
    await tape.write(b"x")
    await anext(slow)
    await tape.write(b"y" * (MAX_ANSWER - 1))
    writes = asyncio.create_task(tape.write(b"z" * (BEHIND + 1)))
    await asyncio.sleep(0)
    assert not writes.done()
    await slow.aclose()
    await writes
