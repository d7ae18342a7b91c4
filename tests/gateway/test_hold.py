"""Recovery `hold`: the client's stream runs a while behind the upstream's, and what goes wrong meanwhile is mended before it sees anything."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from time import monotonic

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.delay import MOST_BYTES, DelayLine
from tests.faults.dialects import CHAT, MESSAGES, PROMPT_TOKENS, RESPONSES, TOKENS, Problem, Said, Speech
from tests.faults.play import events_of
from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.upstream import Exchange, Play, Upstream, good, status

HELD_S = 0.4
SLACK_S = 0.5  # for a busy machine
SPEECHES = [CHAT, MESSAGES, RESPONSES]
NAMES = [speech.NAME for speech in SPEECHES]
CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
policies: {{held: {{recovery: hold, commit_after_ms: 400}}}}
providers:
  one_chat: {{kind: openai-compatible, base_url: "{one}", api_key: k, timeouts: {{idle_s: 1}}}}
  one_messages: {{kind: anthropic, base_url: "{one}", api_key: k, timeouts: {{idle_s: 1}}}}
  one_responses: {{kind: openai, base_url: "{one}", api_key: k, timeouts: {{idle_s: 1}}}}
  two_chat: {{kind: openai-compatible, base_url: "{two}", api_key: k}}
  two_messages: {{kind: anthropic, base_url: "{two}", api_key: k}}
  two_responses: {{kind: openai, base_url: "{two}", api_key: k}}
models: {{{models}}}
teams: {{search: {{keys: [{key}]}}}}
"""


def models() -> str:
    found = []
    for name in NAMES:
        one, two = (f"{{provider: {each}_{name}, model: {name}}}" for each in ("one", "two"))
        found.append(
            f"{name}: {{policy: held, targets: [{one}, {two}]}}, {name}-two: {{targets: [{two}]}}, {name}-one: {{policy: held, targets: [{one}]}}"
        )
    return ", ".join(found)


@pytest.fixture
async def gateway(one: Upstream, two: Upstream, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running(CONFIG.format(folder=tmp_path, one=one.base_url, two=two.base_url, models=models(), key=KEY), tmp_path) as gateway:
        yield gateway


def pieces(speech: Speech, owner: str, count: int = TOKENS) -> list[bytes]:
    """The events of a stream's begin."""
    return [*speech.head(speech.usage(PROMPT_TOKENS, TOKENS)), *(speech.piece(owner, index) for index in range(count))]


def whole(speech: Speech, owner: str) -> list[bytes]:
    usage = speech.usage(PROMPT_TOKENS, TOKENS)
    return [*pieces(speech, owner), *speech.tail(owner, None, usage), *speech.last(owner, None, usage)]


def says(events: list[bytes], apart_s: float = 0.0) -> Play:
    """A whole stream of these events."""

    async def play(x: Exchange) -> None:
        await x.start_stream()
        for event in events:
            await x.raw_chunk(event)
            if apart_s:
                await asyncio.sleep(apart_s)
        await x.end_stream()

    return play


def breaks(speech: Speech, fault: str, count: int, apart_s: float = 0.0) -> Play:
    """Goes wrong after so many tokens."""

    async def play(x: Exchange) -> None:
        await x.start_stream()
        for event in pieces(speech, "a", count):
            await x.raw_chunk(event)
            await asyncio.sleep(apart_s)
        if fault == "reset":
            x.reset()
        elif fault == "clean end":
            await x.end_stream()
            return
        elif fault == "malformed event":
            await x.raw_chunk(speech.broken())
        elif fault == "error event":
            await x.raw_chunk(speech.error_event(Problem(500, "api_error")))
        await x.wait_until_gone()

    return play


class Got:
    """A stream as its client saw it: every part with the moment it came, in seconds after the request."""

    def __init__(self, speech: Speech) -> None:
        self._speech = speech
        self.headers: dict[str, str] = {}
        self.parts: list[tuple[float, bytes]] = []

    @property
    def raw(self) -> bytes:
        return b"".join(part for _, part in self.parts)

    @property
    def said(self) -> Said:
        return self._speech.read_stream(events_of(self.raw))


async def ask(gateway: Gateway, speech: Speech, model: str | None = None) -> Got:
    got, began = Got(speech), monotonic()
    body = speech.ask(model or speech.NAME, True)
    headers = {"authorization": f"Bearer {KEY}", **speech.headers}
    async with gateway.http.stream("POST", speech.path, json=body, headers=headers) as response:
        got.headers = dict(response.headers)
        async for part in response.aiter_raw():
            got.parts.append((monotonic() - began, part))
    return got


def scripted(upstream: Upstream, made: Callable[[Speech], Play | list[Play]]) -> None:
    """A play for each dialect, told apart by the model's name."""
    upstream.plays |= {speech.NAME: made(speech) for speech in SPEECHES}


async def ask_all(gateway: Gateway, suffix: str = "") -> list[tuple[Speech, Got]]:
    """The same in every dialect, at the same time."""
    return list(zip(SPEECHES, await asyncio.gather(*(ask(gateway, speech, speech.NAME + suffix) for speech in SPEECHES)), strict=True))


@pytest.mark.parametrize("fault", ["reset", "clean end", "malformed event", "error event", "stall"])
async def test_what_breaks_early_is_mended_unseen_and_the_client_has_the_second_s_answer_to_the_byte(
    gateway: Gateway, one: Upstream, two: Upstream, fault: str
) -> None:
    scripted(one, lambda speech: breaks(speech, fault, 20))
    scripted(two, lambda speech: says(whole(speech, "b")))
    for (speech, mended), (_, alone) in zip(await ask_all(gateway), await ask_all(gateway, "-two"), strict=True):
        assert mended.said == alone.said and mended.said.told == f"b:{TOKENS}" and mended.said.whole, speech.NAME
        assert mended.raw == alone.raw
        assert mended.headers["x-turnout-target"] == f"two_{speech.NAME}/{speech.NAME}"
        *broken, last = sorted(await gateway.rows(mended.headers["x-request-id"]), key=lambda row: row.attempt)
        assert (last.target, last.status, last.billed) == (f"two_{speech.NAME}", "ok", "team")
        assert {(row.target, row.status, row.billed) for row in broken} == {(f"one_{speech.NAME}", "failed", "gateway")}
        assert len(broken) == (2 if fault == "error event" else 1), "an error of the server's own is tried once more where it came from"


async def test_with_nobody_else_to_ask_the_same_target_is_asked_once_more(gateway: Gateway, one: Upstream) -> None:
    scripted(one, lambda speech: [breaks(speech, "clean end", 20), says(whole(speech, "b"))])
    assert {got.said.told for _, got in await ask_all(gateway, "-one")} == {f"b:{TOKENS}"}


async def test_what_breaks_after_its_begin_was_released_is_told_in_band(gateway: Gateway, one: Upstream, two: Upstream) -> None:
    scripted(one, lambda speech: breaks(speech, "reset", 40, apart_s=0.03))
    for speech, got in await ask_all(gateway):
        assert got.said.told == "a:40" and not got.said.whole and got.said.code is not None, speech.NAME
        assert got.headers["x-turnout-attempts"] == "1" and not two.journal


async def test_a_stream_without_faults_is_whole_and_late_by_no_more_than_was_agreed(gateway: Gateway, one: Upstream) -> None:
    scripted(one, lambda speech: says(whole(speech, "a"), apart_s=0.015))
    for speech, got in await ask_all(gateway):
        first_s, last_s = got.parts[0][0], got.parts[-1][0]
        assert got.said.told == f"a:{TOKENS}" and got.said.whole, speech.NAME
        assert HELD_S * 0.9 <= first_s <= HELD_S + SLACK_S
        assert len(got.parts) > 10 and last_s - first_s > 0.2, "it is a stream all the same"


async def test_an_answer_that_is_whole_sooner_is_not_held_back(gateway: Gateway, one: Upstream) -> None:
    one.plays["chat"] = says(whole(CHAT, "a"))
    got = await ask(gateway, CHAT)
    assert got.said.whole and got.parts[-1][0] < HELD_S


async def test_both_targets_breaking_early_is_an_honest_error(gateway: Gateway, one: Upstream, two: Upstream) -> None:
    one.plays["chat"], two.plays["chat"] = breaks(CHAT, "reset", 5), breaks(CHAT, "reset", 5)
    answer = await gateway.post(CHAT.ask("chat", True))
    assert answer.status_code == 502 and answer.headers["content-type"] == "application/json"


async def test_a_client_that_leaves_while_it_is_held_back_stops_the_upstream(gateway: Gateway, one: Upstream) -> None:
    gone = asyncio.Event()

    async def play(x: Exchange) -> None:
        await x.start_stream()
        for event in pieces(CHAT, "a", 5):
            await x.raw_chunk(event)
        await x.wait_until_gone()
        gone.set()

    one.plays["chat"] = play
    asking = asyncio.create_task(gateway.post(CHAT.ask("chat-one", True)))
    async with asyncio.timeout(5):
        while not one.journal or not one.journal[-1].sent:
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.15)  # the gateway watches for a client's leaving after a while only
        asking.cancel()
        await gone.wait()


async def test_unary_answers_are_held_for_nothing(gateway: Gateway, one: Upstream, two: Upstream) -> None:
    one.plays["chat"] = [good, status(503)]
    began = monotonic()
    answers = [await gateway.post(CHAT.ask("chat", False)) for _ in range(2)]
    assert [answer.headers["x-turnout-target"] for answer in answers] == ["one_chat/chat", "two_chat/chat"]
    assert monotonic() - began < 2 * HELD_S + SLACK_S


# --- the line itself ----------------------------------------------------------------------------------------------------
@given(st.lists(st.tuples(st.binary(min_size=1, max_size=20), st.floats(0, 1)), max_size=40))
def test_nothing_is_lost_doubled_or_moved_and_nothing_comes_before_its_time(given_: list[tuple[bytes, float]]) -> None:
    line, now, out = DelayLine(1.0), 100.0, b""
    came: list[tuple[float, bytes]] = []
    for piece, gap_s in given_:
        now += gap_s
        came.append((now, piece))
        out += line.push(piece, now)
        assert out == b"".join(piece for at, piece in came if at <= now - 1.0)
    assert out + line.drain() == b"".join(piece for _, piece in came)
    assert line.drain() == b""


def test_a_sign_of_life_is_held_in_its_place_and_releases_nothing() -> None:
    line = DelayLine(1.0)
    assert line.push(b"a", 0.0) == line.push(b": ping\n\n", 5.0, progressed=False) == b""
    assert line.push(b"b", 5.5) == b"a"
    assert line.push(b"c", 6.0) == b": ping\n\n" and line.drain() == b"bc"


def test_what_is_held_is_bounded_and_the_oldest_is_released_first() -> None:
    line, piece = DelayLine(1000.0), b"x" * 65536
    pushed = [line.push(piece, 0.0) for _ in range(2 * MOST_BYTES // len(piece))]
    assert sum(map(len, pushed)) == MOST_BYTES
    assert len(line.drain()) <= MOST_BYTES


def test_one_piece_larger_than_the_bound_passes_at_once() -> None:
    assert len(DelayLine(1000.0).push(b"x" * (MOST_BYTES + 1), 0.0)) == MOST_BYTES + 1
