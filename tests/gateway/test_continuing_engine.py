"""The embedded engine goes on with an answer from its exact text: greedily, it says what it would have said uncut."""

import asyncio
from collections.abc import AsyncIterator
from time import monotonic
from typing import Any, get_args

import pytest
import pytest_asyncio

from contract.call import Call, Dialect
from gateway.continuing import Continuation
from providers.http.client import PooledClient
from providers.local.backend import EngineBackend
from providers.local.supervisor import EngineSupervisor
from providers.port import Marks
from tests.gateway.continued_streams import QUESTIONS, asked, read, text_so_far
from tests.providers.local.conftest import QUICK, engine_spec

pytestmark = pytest.mark.asyncio(loop_scope="module")
DIALECTS: list[Dialect] = [name for name in get_args(Dialect) if name in QUESTIONS]
PROMPT = "Write the numbers one to four, each on a line of its own."
TOKENS = 16
ASKED: dict[Dialect, dict[str, Any]] = {
    "openai_chat": {"messages": [{"role": "user", "content": PROMPT}], "max_completion_tokens": TOKENS},
    "openai_completions": {"prompt": PROMPT, "max_tokens": TOKENS},
    "openai_responses": {"input": PROMPT, "max_output_tokens": TOKENS},
    "anthropic_messages": {"messages": [{"role": "user", "content": PROMPT}], "max_tokens": TOKENS},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[EngineBackend]:
    client = PooledClient()
    supervisor = EngineSupervisor(engine_spec(slots=1), client, QUICK)
    await supervisor.start()
    yield EngineBackend(supervisor, client)
    await supervisor.stop()
    await client.aclose()


async def streamed(engine: EngineBackend, call: Call) -> list[bytes]:
    exchange = await engine.open(call, "cpu", Marks(monotonic()), "nothing")
    pieces = []
    while piece := await exchange.next():
        pieces.append(piece)
    return pieces


def greedy(dialect: Dialect, **more: Any) -> Call:
    return asked(dialect, **ASKED[dialect], temperature=0, **more)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_an_answer_cut_at_any_event_ends_as_it_would_have(engine: EngineBackend, dialect: Dialect) -> None:
    call = greedy(dialect)
    uncut = b"".join(await streamed(engine, call))
    events = [event + b"\n\n" for event in uncut.split(b"\n\n")[:-1]]
    whole = read(dialect, uncut)
    assert whole.tokens is not None and whole.tokens[1] == TOKENS and "\n" in whole.text
    for cut in range(3, len(events), 4) if dialect == "openai_chat" else (len(events) // 2,):
        delivered = b"".join(events[:cut])
        continuation = Continuation.of(call, delivered)
        assert continuation is not None
        if continuation.ending:
            assert read(dialect, delivered + continuation.ending).text == whole.text
            continue
        seam = continuation.seam("cpu")
        rest = [continuation.feed(piece) for piece in await streamed(engine, continuation.call)]
        mended = read(dialect, delivered + seam + b"".join(rest))
        assert (mended.text, mended.id, mended.finish) == (whole.text, whole.id, whole.finish), text_so_far(dialect, delivered)
        assert mended.tokens is not None and whole.tokens is not None
        assert abs(mended.tokens[1] - whole.tokens[1]) <= 1
        assert dialect == "anthropic_messages" or abs(mended.tokens[0] - whole.tokens[0]) <= 1  # Messages tells those alone that no cache had


async def test_an_answer_that_was_complete_but_for_its_end_ends_at_once(engine: EngineBackend) -> None:
    question = [{"role": "user", "content": "What is the capital of France? Answer in one short sentence."}]
    call = asked("openai_chat", messages=question, max_completion_tokens=40, temperature=0)
    uncut = b"".join(await streamed(engine, call))
    whole = read("openai_chat", uncut)
    assert whole.finish == "stop"
    delivered = uncut[: uncut.index(b'"finish_reason":"stop"')].rpartition(b"\n\n")[0] + b"\n\n"
    continuation = Continuation.of(call, delivered)
    assert continuation is not None
    rest = [continuation.seam("cpu"), *map(continuation.feed, await streamed(engine, continuation.call))]
    assert (read("openai_chat", delivered + b"".join(rest)).text) == whole.text


async def test_the_exchange_over_the_engines_reads_as_the_clients_own(engine: EngineBackend) -> None:
    call = greedy("openai_chat")
    uncut = b"".join(await streamed(engine, call))
    delivered = b"".join(event + b"\n\n" for event in uncut.split(b"\n\n")[:6])
    continuation = Continuation.of(call, delivered)
    assert continuation is not None
    told = delivered + continuation.seam("cpu")
    async with asyncio.timeout(30):
        exchange = continuation.over(await engine.open(continuation.call, "cpu", Marks(monotonic()), "nothing"))
        while piece := await exchange.next():
            told += piece
    assert read("openai_chat", told).text == read("openai_chat", uncut).text
    assert exchange.streamed and exchange.usage is not None and exchange.usage.source == "provider" and exchange.finish is not None
