"""The engine as a backend, with the real engine, client and wire: answers, queue, limits, and what its death looks like."""

import asyncio
import json
import os
import re
import signal
from collections.abc import AsyncIterator, Callable
from time import monotonic
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from contract.call import Call
from contract.errors import (
    AttemptError,
    AttemptTimeout,
    ContextLengthExceeded,
    EngineBusy,
    EngineLost,
    EngineRefused,
    EngineUnavailable,
    UpstreamRejected,
)
from contract.flow import NOBODY, Flow
from contract.patience import Patience
from contract.usage import Usage
from providers.http.client import PooledClient
from providers.http.port import Clocks
from providers.local.backend import EngineBackend
from providers.local.prefill_share import prefill_share
from providers.local.supervisor import EngineSupervisor
from providers.port import Exchange, Marks
from providers.reading import Reading
from tests.providers.local.conftest import PATIENCE_S, QUICK, engine_spec, eventually
from tests.providers.local.raw import busy_slots, fetch

Supervise = Callable[..., EngineSupervisor]
TOOL: dict[str, Any] = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
shared_loop = pytest.mark.asyncio(loop_scope="module")


LONG = "Count from one to one hundred in words."  # asked greedily, its answer outlasts every max_tokens here, so counts are exact


class Engine:
    """A supervised engine with its backend, and short ways to ask it."""

    def __init__(self, supervisor: EngineSupervisor, client: PooledClient) -> None:
        self.supervisor = supervisor
        self.backend = EngineBackend(supervisor, client)
        self.marks = Marks(0.0)

    async def open(self, content: Any = LONG, flow: Flow = NOBODY, **fields: Any) -> Exchange:
        self.marks = Marks(monotonic())
        body = {"model": "chat", "messages": [{"role": "user", "content": content}], "temperature": 0, **fields}
        return await self.backend.open(msgspec.structs.replace(call_of(body), flow=flow), "cpu", self.marks, "nothing")

    async def ask(self, content: Any = LONG, **fields: Any) -> bytes:
        exchange = await self.open(content, **fields)
        return b"".join([piece async for piece in pieces(exchange)])

    def at_rest(self) -> bool:
        return (self.backend.admission.running, self.backend.admission.waiting) == (0, 0)

    async def prompt_tokens(self) -> int:
        """How many prompt tokens the engine has computed since its start."""
        assert self.supervisor.address is not None
        _, metrics = await fetch(self.supervisor.address, "GET", "/metrics")
        found = re.search(rb"^llamacpp:prompt_tokens_total (\d+)", metrics, re.MULTILINE)
        assert found is not None
        return int(found[1])


def call_of(body: dict[str, Any]) -> Call:
    raw = json.dumps(body).encode()
    return Call(
        request_id="req_test",
        dialect="openai_chat",
        model=body["model"],
        stream=body.get("stream", False),
        include_usage=body.get("stream_options", {}).get("include_usage", False),
        choices=body.get("n", 1),
        body=raw,
        fields=msgspec.json.decode(raw, type=dict[str, msgspec.Raw]),
    )


async def pieces(exchange: Exchange) -> AsyncIterator[bytes]:
    while piece := await exchange.next():
        yield piece


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[Engine]:
    """One engine of two slots for the tests that leave it as it was."""
    client = PooledClient()
    supervisor = EngineSupervisor(engine_spec(max_queue=3), client, QUICK)
    await supervisor.start()
    await supervisor.wait_ready(PATIENCE_S)
    yield Engine(supervisor, client)
    await supervisor.stop()
    await client.aclose()


@pytest.fixture
def own_engine(supervise: Supervise, client: PooledClient) -> Callable[..., Engine]:
    """Engines for the tests that break them."""
    return lambda *pace, **fields: Engine(supervise(*pace, **fields), client)


@shared_loop
async def test_a_unary_client_gets_one_whole_answer(engine: Engine) -> None:
    exchange = await engine.open(max_tokens=8)
    answer = json.loads(await exchange.next())
    assert engine.at_rest()
    assert await exchange.next() == b""
    assert answer["object"] == "chat.completion" and answer["choices"][0]["message"]["content"].strip()
    assert answer["usage"]["completion_tokens"] == 8 and answer["choices"][0]["finish_reason"] == "length"
    assert exchange.usage is not None and exchange.usage.output_total == 8
    assert exchange.finish is not None and exchange.finish.reason == "length"
    assert exchange.upstream_id == answer["id"] and exchange.tokens_seen > 0
    marks = engine.marks
    assert marks.admitted is not None and marks.connected is not None and marks.headers is not None
    assert marks.first_token is not None and marks.ended is not None and marks.bytes_sent > 0 and marks.bytes_received > 0


@shared_loop
async def test_of_a_whole_answer_the_prompt_counts_as_read_from_its_first_token(engine: Engine) -> None:
    prefills = engine.backend.admission.prefills
    answer = asyncio.create_task(engine.ask("Say something else: 4712.", max_tokens=100, ignore_eos=True))
    await eventually(lambda: prefills.reading == 1)
    await eventually(lambda: prefills.reading == 0 and prefills.decoding == 1)
    assert not answer.done()
    await answer
    assert prefills.decoding == 0


@shared_loop
async def test_what_an_answer_took_of_the_engine_is_told_for_prompt_and_answer(engine: Engine) -> None:
    await engine.ask("Say something new: 4711.", max_tokens=16, stream=True)
    marks = engine.marks
    assert marks.prefill_s and marks.decode_s and marks.ended and marks.admitted
    assert marks.prefill_s + marks.decode_s <= marks.ended - marks.started + 0.1


@shared_loop
async def test_a_whole_answer_s_time_is_divided_too_by_what_was_measured(engine: Engine) -> None:
    await engine.ask("Warm it up: 4712.", max_tokens=8, stream=True)
    await eventually(lambda: (seen := engine.backend.reading()) is not None and seen.output_token_s is not None)
    await engine.ask("Say something short.", max_tokens=48, ignore_eos=True)
    marks = engine.marks
    assert marks.prefill_s and marks.decode_s and marks.ended and marks.admitted
    assert marks.decode_s > marks.prefill_s, "48 tokens are made for 40 that are read"


READING = Reading(at=0.0, prompt_token_s=0.001, output_token_s=0.01)


@pytest.mark.parametrize(
    ("first", "usage", "reading", "share"),
    [
        (2.0, None, None, 0.25),
        (5.0, Usage(input_uncached=100, cache_read=9_000, output_visible=30), READING, 0.25),
        (None, Usage(input_uncached=100, output_visible=5, reasoning=5), READING, 0.5),
        (5.0, None, READING, None),
        (5.0, Usage(input_uncached=100, output_visible=30), Reading(at=0.0), None),
        (5.0, Usage(), READING, None),
    ],
    ids=["its first token was seen", "it came in one piece", "it came at once", "nothing was told", "nothing was measured", "no tokens"],
)
def test_a_prompt_s_share_of_a_whole_answer(first: float | None, usage: Usage | None, reading: Reading | None, share: float | None) -> None:
    assert prefill_share(Marks(0.0, admitted=1.0, first_token=first, ended=5.0), usage, reading) == share


@shared_loop
async def test_a_running_engine_is_looked_at_again_and_again(engine: Engine) -> None:
    exchange = await engine.open(stream=True, ignore_eos=True)
    looks: list[Reading] = []
    engine.supervisor.listeners.append(lambda status: looks.append(status.reading) if status.reading else None)
    await eventually(lambda: len(looks) > 3 and bool(looks[-1].running) and bool(looks[-1].tokens_per_s) and looks[-1].prefill_tokens == 0)
    seen = looks[-1]
    assert (seen.running, seen.waiting, seen.kv_tokens) == (1, 0, 2 * 512)
    assert seen.kv_used is not None and 0 < seen.kv_used <= 0.5
    exchange.abort()
    await eventually(lambda: looks[-1].running == 0 and looks[-1].kv_used == 0)


@shared_loop
async def test_batch_work_makes_room_for_who_is_interactive_and_is_answered_whole_afterwards(engine: Engine) -> None:
    night = Flow("night", priority="batch")
    batch = asyncio.create_task(engine.ask(max_tokens=120, ignore_eos=True, flow=night))
    await eventually(lambda: engine.backend.admission.prefills.decoding == 1 and engine.backend.admission.prefills.tokens_per_s is not None)
    live = [await engine.open(stream=True, ignore_eos=True) for _ in range(2)]
    assert not batch.done() and (engine.backend.admission.running, engine.backend.admission.waiting) == (2, 1)
    for exchange in live:
        exchange.abort()
    answer = json.loads(await batch)
    assert answer["usage"]["completion_tokens"] == 120


@shared_loop
async def test_two_prompts_in_turn_keep_a_slot_each_though_they_begin_alike(engine: Engine) -> None:
    alike = "You answer questions about a company's products, briefly and in English. "
    prompts = [alike + f"{word} and its parts, one after the other. " * 15 for word in ("Steel", "Glass")]
    for prompt in prompts:
        await engine.ask(prompt, max_tokens=1)
    before = await engine.prompt_tokens()
    for prompt in [*prompts, *prompts]:
        await engine.ask(prompt, max_tokens=1)
    assert await engine.prompt_tokens() - before <= 4 * 8


@shared_loop
@pytest.mark.parametrize("include_usage", [False, True])
async def test_a_streaming_client_gets_the_engine_s_events(engine: Engine, include_usage: bool) -> None:
    exchange = await engine.open(max_tokens=4, stream=True, stream_options={"include_usage": include_usage})
    text = b"".join([piece async for piece in pieces(exchange)])
    assert engine.at_rest()
    assert text.endswith(b"data: [DONE]\n\n") and text.count(b'"content":"') >= 1
    assert (b'"completion_tokens":4' in text) is include_usage
    assert exchange.usage is not None and exchange.usage.output_total == 4


@shared_loop
@pytest.mark.parametrize("fields", [{"tools": []}, {"tools": None}, {"tools": [TOOL], "tool_choice": "none"}])
async def test_tools_that_are_not_to_be_called_are_no_hindrance(engine: Engine, fields: dict[str, Any]) -> None:
    assert await engine.ask(max_tokens=1, **fields)


@shared_loop
async def test_more_requests_than_slots_take_turns_and_all_are_answered(engine: Engine) -> None:
    asked = [asyncio.create_task(engine.ask(f"Count to {n}.", max_tokens=6)) for n in range(5)]
    await eventually(lambda: engine.backend.admission.waiting == 3 or asked[0].done())
    assert engine.supervisor.address is not None
    most = 0
    while not all(task.done() for task in asked):
        most = max(most, await busy_slots(engine.supervisor.address))
        await asyncio.sleep(0.01)
        assert engine.backend.admission.running <= 2
    assert most <= 2
    answers = [await task for task in asked]
    assert all(json.loads(answer)["usage"]["completion_tokens"] in range(1, 7) for answer in answers)
    assert engine.at_rest()


@shared_loop
async def test_a_full_queue_refuses_and_says_when_to_come_back(engine: Engine) -> None:
    running = [await engine.open(stream=True, ignore_eos=True) for _ in range(2)]
    queued = [asyncio.create_task(engine.open(stream=True)) for _ in range(3)]
    await eventually(lambda: engine.backend.admission.waiting == 3)
    with pytest.raises(EngineBusy) as refused:
        await engine.open()
    assert refused.value.retry_after_s is not None and refused.value.retry_after_s >= 1 and not refused.value.sent
    assert engine.backend.ready_at("cpu", 1000.0) > 1000.0 and engine.backend.wait_s() > 0.0
    for task in queued:
        task.cancel()
    await asyncio.gather(*queued, return_exceptions=True)
    assert engine.backend.admission.waiting == 0
    assert engine.backend.ready_at("cpu", 1000.0) == 1000.0
    for exchange in running:
        exchange.abort()
        exchange.abort()
    assert engine.at_rest() and engine.backend.wait_s() == 0.0


@shared_loop
async def test_a_request_waits_in_the_queue_no_longer_than_its_caller_does(engine: Engine) -> None:
    running = [await engine.open(stream=True, ignore_eos=True) for _ in range(2)]
    for patience in (Patience(left_s=0.05), Patience(first_output_s=0.05), Patience(total_s=0.05)):
        with pytest.raises(EngineBusy, match=r"waited 0\.05 s"):
            await engine.backend.open(call_of({"model": "chat", "messages": []}), "cpu", Marks(monotonic()), "nothing", patience)
    for exchange in running:
        exchange.abort()
    assert engine.at_rest()


@shared_loop
async def test_the_time_in_the_queue_is_taken_off_the_request_s_deadline(engine: Engine) -> None:
    running = [await engine.open(stream=True, ignore_eos=True) for _ in range(2)]
    body = {"model": "chat", "messages": [{"role": "user", "content": LONG}], "ignore_eos": True, "stream": True}
    began = monotonic()
    asked = asyncio.create_task(engine.backend.open(call_of(body), "cpu", Marks(began), "nothing", Patience(left_s=2.0)))
    await eventually(lambda: engine.backend.admission.waiting == 1)
    await asyncio.sleep(1.5)
    running.pop().abort()
    with pytest.raises(AttemptTimeout, match="in all"):
        exchange = await asked
        while await exchange.next():
            pass
    assert 1.9 < monotonic() - began < 3.4
    running.pop().abort()
    assert engine.at_rest()


@shared_loop
async def test_a_client_that_leaves_mid_stream_frees_the_engine_s_slot(engine: Engine) -> None:
    exchange = await engine.open(stream=True, ignore_eos=True)
    assert await exchange.next()
    assert engine.supervisor.address is not None and await busy_slots(engine.supervisor.address) >= 1
    exchange.abort()
    assert engine.at_rest()
    async with asyncio.timeout(PATIENCE_S):
        while await busy_slots(engine.supervisor.address):
            await asyncio.sleep(0.01)


@shared_loop
async def test_a_unary_client_that_leaves_frees_the_engine_s_slot_too(engine: Engine) -> None:
    exchange = await engine.open(ignore_eos=True)
    reading = asyncio.create_task(exchange.next())
    await asyncio.sleep(0.05)
    reading.cancel()
    await asyncio.wait([reading])
    exchange.abort()
    assert engine.at_rest() and engine.supervisor.address is not None
    async with asyncio.timeout(PATIENCE_S):
        while await busy_slots(engine.supervisor.address):
            await asyncio.sleep(0.01)


@shared_loop
async def test_leaving_before_the_first_token_gives_the_slot_back(engine: Engine) -> None:
    opening = asyncio.create_task(engine.open("a prompt that no other test has computed " * 25, stream=True))
    while engine.backend.admission.running != 1:
        await asyncio.sleep(0)  # not a moment longer: the first token may be quick
    opening.cancel()
    await asyncio.wait([opening])
    assert opening.cancelled(), opening
    assert engine.at_rest()


@shared_loop
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_a_prompt_whose_client_left_is_not_read_to_its_end(engine: Engine, stream: bool) -> None:
    address, before = engine.supervisor.address, await engine.prompt_tokens()
    assert address is not None
    exchange = await engine.open(f"a prompt that {stream} clients left " * 32, stream=stream, max_tokens=1)  # it tells that it reads it
    exchange.abort()
    async with asyncio.timeout(PATIENCE_S):
        while await busy_slots(address):
            await asyncio.sleep(0.01)
    most = 2 * engine.supervisor.spec.step_tokens
    assert await engine.prompt_tokens() - before <= most, "the step in which it was told, and the next; of about 230"


@shared_loop
async def test_a_prompt_beyond_the_limit_is_refused_by_the_engine_s_own_count_and_not_computed(engine: Engine) -> None:
    await engine.ask(max_tokens=1)
    before = await engine.prompt_tokens()
    with pytest.raises(ContextLengthExceeded, match=r"3\d\d tokens long; the engine 'cpu' takes 256 tokens"):
        await engine.open("word " * 300)
    assert await engine.prompt_tokens() == before
    assert engine.at_rest()


@shared_loop
async def test_an_absurdly_long_body_is_refused_without_asking_or_waiting(engine: Engine) -> None:
    with pytest.raises(ContextLengthExceeded, match=r"\d+ bytes long; the engine 'cpu' takes 256 tokens"):
        await engine.open("word " * 1000)
    assert engine.marks.admitted is None


@shared_loop
async def test_a_prompt_of_many_bytes_and_few_tokens_is_served(engine: Engine) -> None:
    answer = json.loads(await engine.ask("word " * 180, max_tokens=1))
    assert 180 < answer["usage"]["prompt_tokens"] <= 256


@shared_loop
@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"n": 2}, EngineRefused),
        ({"tools": [TOOL]}, EngineRefused),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}}, EngineRefused),
        ({"functions": [TOOL["function"]]}, EngineRefused),
        ({"tool_choice": "required"}, EngineRefused),
        ({"content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}, EngineRefused),
        ({"messages": [{"role": 7, "content": "Hi"}]}, EngineRefused),
        ({"messages": 7}, UpstreamRejected),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "no such type"}}}}, UpstreamRejected),
        ({"temperature": "hot"}, UpstreamRejected),
    ],
)
async def test_what_the_engine_cannot_take_is_the_request_s_fault_and_leaves_the_slot(
    engine: Engine, fields: dict[str, Any], error: type[AttemptError]
) -> None:
    with pytest.raises(error):
        await engine.open(**fields)
    assert engine.at_rest()
    assert await engine.ask(max_tokens=1)


async def test_an_answer_that_is_larger_than_can_be_told_is_the_request_s_fault(own_engine: Callable[..., Engine]) -> None:
    engine = own_engine(max_answer_bytes=8000)
    await engine.supervisor.start()
    with pytest.raises(EngineRefused, match="larger than 8000 bytes: the engine 'cpu' was asked for more"):
        await engine.ask(max_tokens=20, logprobs=True, top_logprobs=20)
    assert engine.at_rest() and await engine.ask(max_tokens=1)


async def test_an_engine_that_is_not_up_says_so_at_once(own_engine: Callable[..., Engine]) -> None:
    engine = own_engine()
    async with asyncio.timeout(1):
        with pytest.raises(EngineUnavailable) as refused:
            await engine.open()
    assert refused.value.retry_after_s is not None and not refused.value.sent
    assert engine.backend.ready_at("cpu", 1000.0) == 1060.0


async def test_an_engine_that_starts_may_be_asked_and_says_how_long_it_takes(own_engine: Callable[..., Engine]) -> None:
    engine = own_engine()
    await engine.supervisor.start()
    assert engine.backend.ready_at("cpu", 1000.0) == 1000.0 and engine.backend.wait_s() >= 1.0
    await engine.supervisor.wait_ready(PATIENCE_S)
    assert engine.backend.ready_at("cpu", 1000.0) == 1000.0 and engine.backend.wait_s() == 0.0


async def test_an_engine_that_is_not_back_before_its_queue_gives_up_is_not_asked_until_then(own_engine: Callable[..., Engine]) -> None:
    engine = own_engine(max_wait_s=0.1)
    await engine.supervisor.start()
    assert 1000.0 < engine.backend.ready_at("cpu", 1000.0) <= 1000.0 + engine.supervisor.retry_after_s


async def test_requests_wait_for_an_engine_that_starts(own_engine: Callable[..., Engine]) -> None:
    engine = own_engine(max_queue=1)
    await engine.supervisor.start()
    asked = [asyncio.create_task(engine.ask(max_tokens=2)) for _ in range(3)]
    await eventually(lambda: engine.backend.admission.waiting == 1)
    with pytest.raises(EngineBusy):
        await engine.open()
    assert all(json.loads(answer)["choices"] for answer in await asyncio.gather(*asked))


async def test_a_request_that_waits_too_long_for_the_engine_is_told(own_engine: Callable[..., Engine]) -> None:
    engine = own_engine(max_wait_s=0.001)
    await engine.supervisor.start()
    with pytest.raises(EngineUnavailable, match="not ready yet"):
        await engine.open()
    assert engine.at_rest()


@pytest.mark.parametrize("stream", [False, True])
async def test_an_engine_s_death_is_told_to_those_it_served_and_the_next_is_served_by_its_heir(
    own_engine: Callable[..., Engine], stream: bool
) -> None:
    engine = own_engine()
    await engine.supervisor.start()
    exchange = await engine.open(stream=stream, ignore_eos=True)
    if stream:
        assert await exchange.next()
    assert engine.supervisor.pid is not None
    os.kill(engine.supervisor.pid, signal.SIGKILL)
    async with asyncio.timeout(10):
        with pytest.raises(EngineLost) as lost:
            while await exchange.next():
                pass
    assert lost.value.retry_after_s is not None and engine.at_rest()
    assert await engine.ask(max_tokens=2)
    assert engine.supervisor.generation == 2


async def test_those_who_queue_outlive_the_engine_s_death(own_engine: Callable[..., Engine]) -> None:
    engine = own_engine()
    await engine.supervisor.start()
    running = [await engine.open(stream=True, ignore_eos=True) for _ in range(2)]
    queued = asyncio.create_task(engine.ask(max_tokens=2))
    await eventually(lambda: engine.backend.admission.waiting == 1)
    assert engine.supervisor.pid is not None
    os.kill(engine.supervisor.pid, signal.SIGKILL)
    for exchange in running:
        with pytest.raises(EngineLost):
            while await exchange.next():
                pass
    assert json.loads(await queued)["choices"]


async def test_an_engine_that_stalls_mid_stream_is_replaced(own_engine: Callable[..., Engine]) -> None:
    clocks = Clocks(connect_s=PATIENCE_S, headers_s=None, first_token_s=PATIENCE_S, idle_s=6.0, total_s=PATIENCE_S)
    engine = own_engine(msgspec.structs.replace(QUICK, health_timeout_s=PATIENCE_S, still_s=PATIENCE_S), clocks=clocks)  # its health tells nothing
    await engine.supervisor.start()
    exchange = await engine.open(stream=True, ignore_eos=True)
    assert await exchange.next()
    assert engine.supervisor.pid is not None
    os.kill(engine.supervisor.pid, signal.SIGSTOP)
    with pytest.raises(AttemptTimeout):
        while await exchange.next():
            pass
    await eventually(lambda: engine.supervisor.generation == 2)
    assert engine.at_rest() and await engine.ask(max_tokens=1)


async def test_a_closing_backend_sends_those_in_the_queue_away(own_engine: Callable[..., Engine]) -> None:
    engine = own_engine()
    await engine.supervisor.start()
    running = [await engine.open(stream=True, ignore_eos=True) for _ in range(2)]
    queued = asyncio.create_task(engine.open())
    await eventually(lambda: engine.backend.admission.waiting == 1)
    await engine.backend.aclose()
    with pytest.raises(EngineUnavailable, match="stopping"):
        await queued
    for exchange in running:
        exchange.abort()
    assert engine.at_rest()
