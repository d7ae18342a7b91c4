"""One question to an owned engine in each dialect's own words, by the official SDKs, whole and streamed; and what came, in one form for all."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

Name = Literal["chat", "responses", "messages", "completions"]
Finish = Literal["stop", "length", "tool"]
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS = ("weather", "clock")  # both with those parameters
COUNTING = "One, two, three, four, five, six, seven,"  # of completions: an answer to a question would be an empty one, at times
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
_OF_MESSAGES: dict[str | None, Finish] = {"max_tokens": "length", "tool_use": "tool", "end_turn": "stop", "stop_sequence": "stop"}
_OF_CHAT: dict[str | None, Finish] = {"length": "length", "tool_calls": "tool", "stop": "stop"}


@dataclass
class Wish:
    """`prompt`: of all but completions. `tool`: auto, required, or the name of one that must be called."""

    prompt: str = "What is the capital of France? Answer in one short sentence."
    model: str = "local"
    tokens: int = 8
    stop: str | None = None
    seed: int | None = None
    temperature: float = 0.0
    choices: int = 1
    tool: str | None = None
    schema: bool = False
    logprobs: bool = False
    image: bool = False


@dataclass
class Said:
    """`texts` of the choices; `calls`: tools and their arguments; tokens as the answer's usage tells them; log probabilities of the first choice."""

    texts: list[str]
    finish: Finish | None
    prompt_tokens: int
    tokens: int
    calls: list[tuple[str, Any]] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)


@dataclass
class Clients:
    openai: AsyncOpenAI
    anthropic: AsyncAnthropic

    async def ask(self, dialect: Name, stream: bool, wish: Wish) -> Said:
        """Raises what the SDK raises."""
        return await _ASK[dialect](self, stream, wish)


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


# --- chat ---------------------------------------------------------------------------------------------------------------
async def _chat(clients: Clients, stream: bool, wish: Wish) -> Said:
    content: Any = wish.prompt
    if wish.image:
        content = [{"type": "text", "text": wish.prompt}, {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}]
    asked = _given(
        model=wish.model,
        messages=[{"role": "user", "content": content}],
        max_tokens=wish.tokens,
        temperature=wish.temperature,
        stop=wish.stop,
        seed=wish.seed,
        n=wish.choices if wish.choices > 1 else None,
        logprobs=wish.logprobs or None,
        top_logprobs=2 if wish.logprobs else None,
        response_format={"type": "json_schema", "json_schema": {"name": "city", "schema": PARAMETERS, "strict": True}} if wish.schema else None,
    )
    if wish.tool is not None:
        asked["tools"] = [{"type": "function", "function": {"name": name, "parameters": PARAMETERS}} for name in TOOLS]
        asked["tool_choice"] = {"type": "function", "function": {"name": wish.tool}} if wish.tool in TOOLS else wish.tool
    if not stream:
        return _of_chat(await clients.openai.chat.completions.create(**asked))
    usage, texts, finish, calls, logprobs = None, [""] * wish.choices, None, dict[int, list[str]](), list[float]()
    async for chunk in await clients.openai.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            finish = _OF_CHAT[choice.finish_reason] if choice.finish_reason else finish
            if choice.index == 0 and choice.logprobs is not None:
                logprobs += [each.logprob for each in choice.logprobs.content or ()]
            for call in choice.delta.tool_calls or ():
                parts = calls.setdefault(call.index, ["", ""])
                parts[0] += call.function.name or ""
                parts[1] += call.function.arguments or ""
    assert usage is not None
    return Said(texts, finish, usage.prompt_tokens, usage.completion_tokens, [(name, json.loads(given)) for name, given in calls.values()], logprobs)


def _of_chat(answer: Any) -> Said:
    first = answer.choices[0]
    return Said(
        [choice.message.content or "" for choice in answer.choices],
        _OF_CHAT[first.finish_reason],
        answer.usage.prompt_tokens,
        answer.usage.completion_tokens,
        [(call.function.name, json.loads(call.function.arguments)) for call in first.message.tool_calls or ()],
        [each.logprob for each in first.logprobs.content] if first.logprobs is not None else [],
    )


# --- completions --------------------------------------------------------------------------------------------------------
async def _completions(clients: Clients, stream: bool, wish: Wish) -> Said:
    asked = _given(
        model=wish.model,
        prompt=COUNTING,
        max_tokens=wish.tokens,
        temperature=wish.temperature,
        stop=wish.stop,
        seed=wish.seed,
        n=wish.choices if wish.choices > 1 else None,
        logprobs=1 if wish.logprobs else None,
    )
    texts, finish, usage, logprobs = [""] * wish.choices, None, None, list[float]()

    async def pieces() -> AsyncIterator[Any]:
        if not stream:
            yield await clients.openai.completions.create(**asked)
            return
        async for chunk in await clients.openai.completions.create(**asked, stream=True, stream_options={"include_usage": True}):
            yield chunk

    async for piece in pieces():
        usage = piece.usage or usage
        for choice in piece.choices:
            texts[choice.index] += choice.text
            finish = _OF_CHAT[choice.finish_reason] if choice.finish_reason else finish
            if choice.index == 0 and choice.logprobs is not None:
                logprobs += choice.logprobs.token_logprobs or ()
    assert usage is not None
    return Said(texts, finish, usage.prompt_tokens, usage.completion_tokens, [], logprobs)


# --- responses ----------------------------------------------------------------------------------------------------------
async def _responses(clients: Clients, stream: bool, wish: Wish) -> Said:
    content: Any = wish.prompt
    if wish.image:
        parts = [
            {"type": "input_text", "text": wish.prompt},
            {"type": "input_image", "detail": "auto", "image_url": f"data:image/png;base64,{PIXEL}"},
        ]
        content = [{"role": "user", "content": parts}]
    asked = _given(
        model=wish.model,
        input=content,
        max_output_tokens=wish.tokens,
        temperature=wish.temperature,
        include=["message.output_text.logprobs"] if wish.logprobs else None,
        top_logprobs=2 if wish.logprobs else None,
        text={"format": {"type": "json_schema", "name": "city", "schema": PARAMETERS, "strict": True}} if wish.schema else None,
    )
    if wish.tool is not None:
        asked["tools"] = [{"type": "function", "name": name, "parameters": PARAMETERS} for name in TOOLS]
        asked["tool_choice"] = {"type": "function", "name": wish.tool} if wish.tool in TOOLS else wish.tool
    if stream:  # the SDK's own helper knows no answer that is incomplete
        events = [event async for event in await clients.openai.responses.create(**asked, stream=True)]
        assert events[-1].type in ("response.completed", "response.incomplete"), events[-1]
        answer: Any = events[-1].response
    else:
        answer = await clients.openai.responses.create(**asked)
    calls = [(item.name, json.loads(item.arguments)) for item in answer.output if item.type == "function_call"]
    parts = [part for item in answer.output if item.type == "message" for part in item.content]
    finish: Finish = "length" if answer.status == "incomplete" else "tool" if calls else "stop"
    logprobs = [each.logprob for part in parts for each in getattr(part, "logprobs", None) or ()]
    return Said([answer.output_text], finish, answer.usage.input_tokens, answer.usage.output_tokens, calls, logprobs)


# --- messages -----------------------------------------------------------------------------------------------------------
async def _messages(clients: Clients, stream: bool, wish: Wish) -> Said:
    content: Any = wish.prompt
    if wish.image:
        image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
        content = [{"type": "text", "text": wish.prompt}, image]
    asked = _given(
        model=wish.model,
        messages=[{"role": "user", "content": content}],
        max_tokens=wish.tokens,
        stop_sequences=[wish.stop] if wish.stop else None,
        extra_body=_given(
            temperature=wish.temperature,  # which the SDK no longer names
            output_config={"format": {"type": "json_schema", "schema": PARAMETERS}} if wish.schema else None,
        ),
    )
    if wish.tool is not None:
        asked["tools"] = [{"name": name, "input_schema": PARAMETERS} for name in TOOLS]
        named = {"type": "tool", "name": wish.tool}
        asked["tool_choice"] = named if wish.tool in TOOLS else {"type": "any" if wish.tool == "required" else wish.tool}
    if stream:
        async with clients.anthropic.messages.stream(**asked) as events:
            answer: Any = await events.get_final_message()
    else:
        answer = await clients.anthropic.messages.create(**asked)
    text = "".join(block.text for block in answer.content if block.type == "text")
    calls = [(block.name, block.input) for block in answer.content if block.type == "tool_use"]
    prompt_tokens = answer.usage.input_tokens + (answer.usage.cache_read_input_tokens or 0)
    return Said([text], _OF_MESSAGES[answer.stop_reason], prompt_tokens, answer.usage.output_tokens, calls)


_ASK: dict[Name, Callable[[Clients, bool, Wish], Awaitable[Said]]] = {
    "chat": _chat,
    "responses": _responses,
    "messages": _messages,
    "completions": _completions,
}
