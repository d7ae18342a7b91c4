"""What later requests refer to is found at once, after a restart, and by its own team alone."""

import asyncio
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from contract.errors import LedgerUnavailable
from ledger.continuity import MAX_ANSWERS, Continuity, KeptAnswer
from ledger.database import open_engine
from tests.ledger.rows import emptied, without

ANSWER = KeptAnswer(id="resp_1", model="m", input=b"[]", answer=b'{"id":"resp_1"}')


ENGINES: list[Engine] = []


def opened(url: str) -> Engine:
    ENGINES.append(open_engine(url))
    return ENGINES[-1]


@pytest.fixture
def url(database: str) -> Iterator[str]:
    emptied(opened(database))
    yield database
    while ENGINES:
        ENGINES.pop().dispose()


def restarted(before: Continuity, url: str, days: int = 30) -> Continuity:
    before.close()
    return Continuity(opened(url), days)


async def test_a_binding_is_found_at_once_and_after_a_restart(url: str) -> None:
    first = Continuity(opened(url), 30)
    first.bind("search", ["sig-1", "sig-2"], "anthropic/claude")
    assert await first.target_of("search", "sig-1") == "anthropic/claude"
    second = restarted(first, url)
    assert await second.target_of("search", "sig-2") == "anthropic/claude"
    assert await second.target_of("search", "sig-3") is None
    second.close()


async def test_another_team_finds_nothing(url: str) -> None:
    kept = Continuity(opened(url), 30)
    kept.bind("search", ["sig-1"], "t")
    kept.keep("search", ANSWER)
    assert await kept.target_of("ads", "sig-1") is None
    assert await kept.answer("ads", "resp_1") is None
    assert not await kept.forget("ads", "resp_1")
    assert await kept.answer("search", "resp_1") == ANSWER
    kept.close()


async def test_an_answer_is_found_at_once_and_after_a_restart_until_it_is_forgotten(url: str) -> None:
    first = Continuity(opened(url), 30)
    first.keep("search", ANSWER)
    assert await first.answer("search", "resp_1") == ANSWER
    second = restarted(first, url)
    assert await second.answer("search", "resp_1") == ANSWER
    assert await second.forget("search", "resp_1")
    assert await second.answer("search", "resp_1") is None
    third = restarted(second, url)
    assert await third.answer("search", "resp_1") is None
    assert not await third.forget("search", "resp_1")
    third.close()


async def test_nothing_is_kept_for_no_days(url: str) -> None:
    kept = Continuity(opened(url), 0)
    kept.keep("search", ANSWER)
    assert await kept.answer("search", "resp_1") is None
    kept.close()


async def test_memory_is_bounded_and_the_database_has_the_rest(url: str) -> None:
    kept = Continuity(opened(url), 30)
    for number in range(MAX_ANSWERS + 5):
        kept.keep("search", KeptAnswer(id=f"r{number}", model="m", input=b"[]", answer=b"{}"))
    found = await kept.answer("search", "r0")
    assert found is not None and found.id == "r0"
    kept.close()


async def test_large_answers_do_not_fill_memory(url: str) -> None:
    kept = Continuity(opened(url), 30, memory_bytes=4_000)
    large = b'"' + b"x" * 1_000 + b'"'
    for number in range(6):
        kept.keep("search", KeptAnswer(id=f"r{number}", model="m", input=large, answer=b"{}"))
    assert sum(len(answer.input) for answer in kept._answers.values()) <= 4_000
    found = await kept.answer("search", "r0")
    assert found is not None and found.input == large
    kept.close()


async def test_a_database_that_cannot_be_read_is_told_and_memory_still_answers(url: str) -> None:
    engine = opened(url)
    kept = Continuity(engine, 30)
    kept.bind("search", ["sig-1"], "t")
    kept.keep("search", ANSWER)
    assert await kept.target_of("search", "unknown") is None
    with without(engine, "bindings", "kept_answers"):
        for asked in (kept.target_of("search", "sig-2"), kept.answer("search", "resp_2"), kept.forget("search", "resp_2")):
            with pytest.raises(LedgerUnavailable):
                await asked
    assert await kept.target_of("search", "sig-1") == "t"
    assert await kept.answer("search", "resp_1") == ANSWER
    kept.close()


async def test_what_is_older_than_its_days_is_gone_after_a_start(url: str) -> None:
    first = Continuity(opened(url), 30)
    first.keep("search", ANSWER)
    first.close()
    engine = opened(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE kept_answers SET made_at_us = made_at_us - 31 * 86400000000")
    second = Continuity(engine, 30)
    assert await second.answer("search", "resp_1") is None
    second.close()


async def test_what_another_process_says_just_now_is_waited_for_and_what_it_deletes_is_gone(url: str) -> None:
    one, two = (Continuity(opened(url), 30, shared=True) for _ in range(2))
    asked = asyncio.create_task(two.answer("search", "resp_1"))
    state = asyncio.create_task(two.target_of("search", "sig-1", new=True))
    await asyncio.sleep(0)
    one.bind("search", ["sig-1"], "t")
    one.keep("search", ANSWER)
    assert await state == "t" and await asked == ANSWER
    assert await one.answer("search", "resp_1") == ANSWER
    assert await two.forget("search", "resp_1")
    assert await one.answer("search", "resp_1") is None
    for each in (one, two):
        each.close()


async def test_nobody_waits_for_an_answer_that_its_provider_keeps(url: str) -> None:
    kept = Continuity(opened(url), 30, shared=True)
    kept.bind("search", ["resp_9"], "openai/gpt")
    asked = asyncio.create_task(kept.answer("search", "resp_9"))
    never = asyncio.create_task(kept.answer("search", "resp_8"))
    await asyncio.wait([asked, never], return_when=asyncio.FIRST_COMPLETED)
    assert asked.done() and not never.done() and await asked is None and await never is None
    kept.close()
