"""A promised time to the first token on a real engine of two slots, one of which decodes while the other reads."""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Any

import pytest

from contract.errors import EngineBusy
from providers.local.prefills import Prefills
from providers.local.spec import EngineSpec
from tests.providers.local.conftest import PATIENCE_S
from tests.providers.local.test_engine_backend import Engine, own_engine, pieces  # noqa: F401 - a fixture

PROMPT = "a prompt that no other request has computed, of some length "


def reads(prefills: Prefills, tokens_per_s: float) -> None:
    prefills.leave(1000 / tokens_per_s, prefills.enter(0.0, 1000, False), read=True)
    prefills.ended(1000 / tokens_per_s)


async def kept(engine: Engine, promised_s: float, prompt: str, **fields: Any) -> bool | None:
    """Whether its first token came in time; None: it was refused, and a while has passed since. It is read to its end."""
    asked = monotonic()
    try:
        exchange = await engine.open(prompt, stream=True, **fields)
        await exchange.next()
    except EngineBusy:
        await asyncio.sleep(promised_s / 4)
        return None
    in_time = monotonic() - asked <= promised_s
    async for _ in pieces(exchange):
        pass
    return in_time


def test_who_decodes_takes_its_share_of_each_step_from_who_is_read() -> None:
    prefills = Prefills(ttft_s=1.0, step_tokens=8)
    reads(prefills, 1000)
    assert prefills.wait_s(700) == 0.7
    prefills.leave(10.0, prefills.enter(10.0, 0, False), read=True)
    assert prefills.decoding == 1 and prefills.wait_s(700) == pytest.approx(0.8)
    assert prefills.has_room(0.0, 875, batch=False) and not prefills.has_room(0.0, 876, batch=False)
    assert not prefills.too_late(876, False, 0.0), "it waits until nobody decodes, as long as that may be in time"
    assert prefills.has_room(0.0, 1001, batch=False) and prefills.has_room(0.0, 5000, batch=True), "no promise to either can be kept"
    prefills.ended(11.0)
    assert prefills.has_room(0.0, 1000, batch=False)


def test_the_speed_is_that_of_steps_that_are_all_the_prompts() -> None:
    prefills = Prefills(ttft_s=1.0, step_tokens=4)
    prefills.leave(0.0, prefills.enter(0.0, 0, False), read=True)
    prompt = prefills.enter(0.0, 300, False)
    assert prefills.reading == 1
    prefills.leave(1.0, prompt, read=True)
    assert prefills.tokens_per_s == 400, "three of four tokens in each step"


def test_time_counts_with_the_tokens_that_were_read_in_it() -> None:
    prefills = Prefills(ttft_s=1.0, slow_share=0.5)
    reads(prefills, 1000)
    long = prefills.enter(10.0, 20_000, False)
    for at in (15.0, 20.0):
        prefills.leave(at + 0.2, prefills.enter(at, 100, False), read=True)
        prefills.ended(at + 0.2)
        assert prefills.tokens_per_s == pytest.approx(1000), "half of a step each"
    prefills.leave(30.2, long, read=True)
    assert prefills.tokens_per_s == pytest.approx(21_200 / 21.2)


@pytest.mark.parametrize("batch", [False, True])
def test_the_prompt_that_tells_the_speed_of_shared_steps_holds_up_nobody(batch: bool) -> None:
    prefills = Prefills(ttft_s=1.0, slow_share=0.5)
    prefills.enter(0.0, 20_000, batch)
    assert prefills.has_room(5.0, 100, False) and not prefills.too_late(100, False, 0.0)
    prefills.leave(5.2, prefills.enter(5.0, 100, False), read=True)
    assert prefills.tokens_per_s == pytest.approx(1000)
    assert prefills.has_room(6.0, 499, False) and not prefills.has_room(6.0, 501, False), "in the other half"


def test_a_long_prompt_of_batch_work_holds_up_nobody_where_steps_are_shared() -> None:
    prefills = Prefills(ttft_s=1.0, slow_share=0.5)
    reads(prefills, 1000)
    long = prefills.enter(10.0, 20_000, True)
    assert prefills.has_room(11.0, 400, False) and not prefills.too_late(400, False, 0.0), "in the other half"
    assert not prefills.has_room(11.0, 2_000, True) and prefills.has_room(11.0, 100, True), "one long one at a time, short ones besides"
    assert prefills.wait_s() == 0.0, "who comes is not read after it"
    prefills.leave(30.0, long, read=True)
    prefills.enter(40.0, 100, False)
    assert not prefills.has_room(40.0, 2_000, True), "it begins while nobody who is live is read"


def test_the_start_of_an_engine_is_not_reading() -> None:
    prefills = Prefills(ttft_s=1.0)
    prefills.runs(0.0, False)
    prompt = prefills.enter(0.0, 100, False)
    prefills.runs(60.0, True)
    prefills.leave(60.1, prompt, read=True)
    assert prefills.tokens_per_s == pytest.approx(1000)


def test_who_is_read_now_decodes_beside_who_comes_after() -> None:
    prefills = Prefills(ttft_s=1.0, step_tokens=2)
    reads(prefills, 1000)
    prefills.enter(2.0, 100, False)
    assert prefills.wait_s(100) == pytest.approx(0.1 + 0.2)


def test_llama_cpp_s_steps_have_room_for_a_prompt_however_many_decode() -> None:
    def step(**fields: int) -> int | None:
        return EngineSpec(name="cpu", model_path="/m.gguf", **fields).shared_step  # type: ignore[arg-type]

    assert step(slots=2) == 8 and step(slots=8) == 12 and step(slots=2, step_tokens=64) == 64


async def test_promises_are_kept_by_a_real_engine_under_load(own_engine: Callable[..., Engine]) -> None:  # noqa: F811
    """Its own measured speed sets the promise, so that the machine's load does not; four ask all the time for 32 tokens each."""
    engine = own_engine(max_queue=16, ttft_s=60.0)
    await engine.supervisor.start()
    began = monotonic()
    await engine.ask(PROMPT * 12, stream=True, max_tokens=1)
    promised_s = 2 * (monotonic() - began)
    queue = engine.backend.admission
    queue.prefills = Prefills(promised_s, step_tokens=engine.supervisor.spec.shared_step, seated=True)  # type: ignore[union-attr]
    told: list[bool | None] = []

    async def one(number: int) -> None:
        told.append(await kept(engine, promised_s, f"{number} {PROMPT * 12}", max_tokens=32, ignore_eos=True))

    async def client(which: int) -> None:
        for turn in range(10):
            await one(which * 100 + turn)

    await asyncio.gather(*map(client, range(4)))
    admitted = [each for each in told if each is not None]
    assert len(admitted) >= 8, told
    assert sum(admitted) >= 0.75 * len(admitted), told


def test_in_seats_only_those_below_are_read_before_and_who_is_above_keeps_his_promise() -> None:
    prefills = Prefills(ttft_s=1.0, seated=True)
    reads(prefills, 1000)
    prefills.enter(2.0, 5000, False, seat=3)
    assert prefills.tokens_aside == 5000 and prefills.has_room(2.0, 999, False, seat=0)
    above = prefills.enter(2.0, 400, False, seat=1)
    assert prefills.has_room(2.0, 600, False, seat=2) and not prefills.has_room(2.0, 601, False, seat=2)
    assert prefills.has_room(2.0, 600, False, seat=0) and not prefills.has_room(2.0, 601, False, seat=0)
    assert prefills.has_room(2.5, 100, False, seat=0) and not prefills.has_room(2.5, 101, False, seat=0), "half of his time is gone"
    assert prefills.too_late(700, False, 0.0, seat=2) and not prefills.too_late(700, False, 0.0, seat=0)
    prefills.leave(2.6, above, read=True)
    assert prefills.live == 0 and prefills.holds_up, "one that is slow at a time"


def test_beside_a_slow_prompt_that_has_a_share_of_each_step_others_are_read_with_the_rest() -> None:
    prefills = Prefills(ttft_s=1.0, slow_share=0.5)
    reads(prefills, 1000)
    slow = prefills.enter(2.0, 5000, False)
    assert prefills.holds_up and prefills.has_room(2.0, 500, False) and not prefills.has_room(2.0, 501, False)
    assert prefills.too_late(501, False, 0.0) and not prefills.too_late(500, False, 0.0)
    prefills.leave(7.0, slow, read=True)
    prefills.enter(7.0, 500, False)
    assert not prefills.holds_up, "who is promised something is not held up by it"


async def test_short_prompts_keep_their_promise_while_a_real_engine_reads_one_that_is_too_slow_for_it(own_engine: Callable[..., Engine]) -> None:  # noqa: F811
    """Its own measured speed sets the promise. Without seats whatever is read in the lower slot goes first."""
    engine = own_engine(slots=4, max_queue=16, ttft_s=60.0, ctx_per_slot=2048, max_prompt_tokens=1536)
    await engine.supervisor.start()
    began = monotonic()
    await engine.ask(PROMPT * 12, stream=True, max_tokens=1)
    promised_s = 3 * (monotonic() - began)
    queue = engine.backend.admission
    queue.prefills = Prefills(promised_s, step_tokens=engine.supervisor.spec.shared_step, seated=True)  # type: ignore[union-attr]
    await engine.ask(f"another: {PROMPT * 12}", stream=True, max_tokens=1)  # by whose speed the next is too slow
    slow = asyncio.create_task(engine.ask(f"0 {PROMPT * 90}", stream=True, max_tokens=1))
    told: list[bool | None] = []
    while not slow.done() and len(told) < 40:
        told.append(await kept(engine, promised_s, f"{len(told)} hello", max_tokens=1))
        await asyncio.sleep(0.02)
    async with asyncio.timeout(PATIENCE_S):
        assert b'"finish_reason":"length"' in await slow, "it is answered too"
    assert len(told) >= 3 and sum(each is True for each in told) >= 0.8 * len(told), (
        f"none without seats; other work on the machine may make some late: {told}"
    )
