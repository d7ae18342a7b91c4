"""What every owned engine is held to in every dialect, whole and streamed: the answer's shape, and what must be true of what it says.

Run for llama.cpp by test_engine_conformance.py and for vLLM by tests/vllm; `clients` and `has` are theirs. `has`: what the engine with its model can
do; what it cannot, it refuses by name with 400.
"""

import json
from typing import Any

import anthropic
import openai
import pytest

from tests.gateway.engine_dialects import TOOLS, Clients, Name, Said, Wish

Has = frozenset[str]
EACH: tuple[Name, ...] = ("chat", "responses", "messages", "completions")
STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


def of(*dialects: Name) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("dialect", dialects)


async def refused(clients: Clients, dialect: Name, stream: bool, wish: Wish) -> str:
    """The words of a 400 that blames the request."""
    with pytest.raises((openai.BadRequestError, anthropic.BadRequestError)) as caught:
        await clients.ask(dialect, stream, wish)
    return str(caught.value)


@of(*EACH)
async def test_a_streamed_answer_is_the_whole_one_and_its_usage_is_of_its_tokens(clients: Clients, dialect: Name) -> None:
    whole, streamed = [await clients.ask(dialect, stream, Wish(tokens=6)) for stream in (False, True)]
    assert whole == streamed and whole.texts[0]
    assert (whole.finish, whole.tokens) == ("length", 6), "as many as were asked for"
    assert whole.prompt_tokens > 10


@STREAMED
@of("chat", "messages", "completions")
async def test_an_answer_ends_before_a_stop_sequence(clients: Clients, dialect: Name, stream: bool) -> None:
    said = await clients.ask(dialect, stream, Wish(stop="i", tokens=40))
    assert said.finish == "stop" and "i" not in said.texts[0] and said.tokens < 40


@of("chat", "completions")
async def test_a_seed_repeats_what_chance_has_chosen(clients: Clients, dialect: Name) -> None:
    said = [await clients.ask(dialect, stream, Wish(seed=11, temperature=1.0)) for stream in (False, True)]
    assert said[0].texts == said[1].texts


@STREAMED
@of("chat", "responses", "completions")
async def test_log_probabilities_are_one_a_token(clients: Clients, dialect: Name, stream: bool) -> None:
    said = await clients.ask(dialect, stream, Wish(logprobs=True, tokens=4))
    assert len(said.logprobs) == said.tokens == 4 and all(each <= 0 for each in said.logprobs)


@STREAMED
@of("chat", "completions")
async def test_several_choices_come_apart_and_are_counted_together(clients: Clients, has: Has, dialect: Name, stream: bool) -> None:
    wish = Wish(choices=3, temperature=1.0, tokens=4)
    if "n" not in has:
        assert "n" in await refused(clients, dialect, stream, wish)
        return
    said = await clients.ask(dialect, stream, wish)
    assert len(said.texts) == 3 and any(said.texts) and 3 <= said.tokens <= 12


@STREAMED
@of("chat", "responses", "messages")
async def test_a_schema_is_kept(clients: Clients, dialect: Name, stream: bool) -> None:
    said = await clients.ask(dialect, stream, Wish(schema=True, tokens=60))
    assert json.loads(said.texts[0])["city"] in ("Paris", "Rome") and said.finish == "stop"


def assert_called(said: Said, names: tuple[str, ...]) -> None:
    assert said.calls and said.finish in ("tool", "stop")
    for name, arguments in said.calls:
        assert name in names and list(arguments) == ["city"] and arguments["city"] in ("Paris", "Rome")


@STREAMED
@pytest.mark.parametrize("tool", ["required", "clock"], ids=["required", "named"])
@of("chat", "responses", "messages")
async def test_a_tool_that_must_be_called_is_called_with_arguments_of_its_schema(clients: Clients, dialect: Name, tool: str, stream: bool) -> None:
    wish = Wish(prompt="What is the weather in Paris?", tool=tool, tokens=100)
    assert_called(await clients.ask(dialect, stream, wish), TOOLS if tool == "required" else (tool,))


@STREAMED
@of("chat", "responses", "messages")
async def test_a_tool_that_may_be_called_leaves_an_answer_either_way(clients: Clients, has: Has, dialect: Name, stream: bool) -> None:
    wish = Wish(tool="auto", tokens=12)
    if "tools" not in has:
        assert "tools" in await refused(clients, dialect, stream, wish)
        return
    said = await clients.ask(dialect, stream, wish)
    assert said.texts[0] or said.calls
    assert {name for name, _ in said.calls} <= set(TOOLS) and said.tokens > 0


@STREAMED
@of("chat", "responses", "messages")
async def test_what_the_model_cannot_see_is_refused_before_it_is_asked_for_anything(clients: Clients, dialect: Name, stream: bool) -> None:
    assert await refused(clients, dialect, stream, Wish(image=True))


async def test_a_conversation_with_a_system_s_words_goes_on(clients: Clients) -> None:
    turns: Any = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Say one."},
        {"role": "assistant", "content": "One."},
        {"role": "user", "content": "And two?"},
    ]
    short = await clients.openai.chat.completions.create(model="local", messages=turns[:2], max_tokens=1)
    long = await clients.openai.chat.completions.create(model="local", messages=turns, max_tokens=1)
    assert short.usage is not None and long.usage is not None and long.usage.prompt_tokens > short.usage.prompt_tokens + 5
