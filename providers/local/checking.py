"""What is looked at in a request before an engine of ours is asked: what it would fail at, take as something else, or fetch for a stranger. Pure."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Raw

from contract.call import Call
from contract.errors import EngineRefused, InvalidRequest
from providers.local.forcing import NOT_FORCED

MOST_TOKENS = 2**31 - 1  # that either engine counts
# What OpenAI takes (openapi: CreateChatCompletionRequest, CreateResponse, CreateCompletionRequest); Anthropic's members have the same names.
# `min_p` and `top_k` as vLLM's SamplingParams has them, where -1 is no limit.
BOUNDS: dict[str, tuple[float, float | None]] = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "max_tokens": (1, MOST_TOKENS),
    "max_completion_tokens": (1, MOST_TOKENS),
    "max_output_tokens": (1, MOST_TOKENS),
    "min_p": (0, 1),
    "top_k": (-1, None),
    "seed": (-(2**63), 2**63 - 1),
}
MOST_BIAS, MOST_STOPS = 100, 4
LOGPROBS = ("top_logprobs", "logprobs", "n_probs")  # `logprobs` is a number in completions; `n_probs` is llama.cpp's own
MEDIA = frozenset({"image_url", "audio_url", "video_url"})
SHOWN_CHARACTERS = 100  # of a URL that is refused
LARGEST = 10**30  # that is told; Python cannot make a float of every integer
NOTHING = Raw(b"null")
_DIGITS = frozenset(b"-0123456789")
_LONG = re.compile(rb"(?:^|[\[:,\s-])[0-9]{19}")
# Nothing that two readers of URLs may read as two hosts: no user, no backslash, no space or control character.
_URL = re.compile(r"https?://([a-z0-9.-]+)(?::\d{1,5})?(?:[/?#][^\s\\\x00-\x1f]*)?", re.IGNORECASE)


def check_numbers(call: Call, engine: str, most_logprobs: int) -> None:
    """Of the client's own call. Raises InvalidRequest, and EngineRefused for a number beyond what its member takes.

    `most_logprobs`: alternatives for each token.
    """
    for name, (least, most) in BOUNDS.items():
        # OpenAI's completions take 0: the prompt's own log probabilities alone
        _check(call, engine, name, 0 if name == "max_tokens" and call.dialect == "openai_completions" else least, most)
    for name in LOGPROBS:
        _check(call, engine, name, 0, most_logprobs)
    for name, raw in call.fields.items():
        if _LONG.search(raw) and _is_beyond(_read(raw, name)):
            raise EngineRefused(_fault(engine, f"a whole number in `{name}` is beyond 64 bits"), param=name)
    if "logit_bias" in call.fields:
        _check_bias(call, engine)
    if "stop" in call.fields:
        stops = _read(call.fields["stop"], "stop")
        if isinstance(stops, list) and len(stops) > MOST_STOPS:
            raise EngineRefused(_fault(engine, f"`stop` may have {MOST_STOPS} sequences, not {len(stops)}"), param="stop")


def check_chat(chat: Call, engine: str, several: bool) -> None:
    """Of what is sent. Raises EngineRefused for choices where it has not `several`, no schema, or a function that is not among the tools."""
    if chat.choices > 1 and not several:
        raise EngineRefused(f"the engine {engine!r} gives one choice a request; {chat.choices} were asked for", param="n")
    form = _object(chat.fields, "response_format")
    if form.get("type") == "json_schema" and not _is_schema(form.get("json_schema")):
        raise EngineRefused(_fault(engine, "`json_schema` needs a `schema`, which is an object"), param="response_format")
    named = _object(chat.fields, "tool_choice").get("function")
    if not isinstance(named, dict) or not isinstance(name := named.get("name"), str):
        return
    if name not in _tool_names(chat.fields.get("tools", NOTHING)):
        raise EngineRefused(_fault(engine, f"`tool_choice` names the function {name!r}, which is not among `tools`"), param="tool_choice")


def check_media(chat: Call, engine: str, domains: tuple[str, ...]) -> None:
    """Of what is sent. Raises EngineRefused for an image, audio or video that would have to be fetched, but from `domains`."""
    messages = chat.fields.get("messages", NOTHING)
    if b"_url" not in bytes(messages) and b"\\u" not in bytes(messages):
        return
    for url in _urls(_read(messages, "messages")):
        if url[:5].lower() == "data:" or ((found := _URL.fullmatch(url)) and found[1].lower() in domains):
            continue
        shown = url if len(url) <= SHOWN_CHARACTERS else f"{url[:SHOWN_CHARACTERS]}…"
        told = f"it fetches from {', '.join(domains)} alone" if domains else "it fetches nothing"
        why = f"the engine {engine!r} does not take the URL {shown!r}: {told}. Send the image, audio or video itself, as a data: URL in base64"
        raise EngineRefused(why, param="messages")


def fetched(chat: Call) -> set[str]:
    """URLs of what an engine fetches itself."""
    messages = chat.fields.get("messages", NOTHING)
    return {url for url in _urls(_read(messages, "messages")) if _URL.fullmatch(url)} if b"_url" in bytes(messages) else set()


def wants_tools(call: Call) -> bool:
    """Whether the model is given tools that it may call, or must call one, given or not."""
    given = [bytes(call.fields[name]).strip() for name in ("tools", "functions") if name in call.fields]
    choices = [bytes(call.fields[name]) for name in ("tool_choice", "function_call") if name in call.fields]
    if any(choice not in NOT_FORCED for choice in choices):
        return True
    return any(tools not in (b"null", b"[]") for tools in given) and b'"none"' not in choices


def _check(call: Call, engine: str, name: str, least: float, most: float | None) -> None:
    raw = call.fields.get(name)
    if raw is None or memoryview(raw)[0] not in _DIGITS:
        return
    number = _read(raw, name)
    if number < least or (most is not None and number > most):
        span = f"at least {_told(least)}" if most is None else f"from {_told(least)} to {_told(most)}"
        raise EngineRefused(_fault(engine, f"`{name}` must be {span}, not {_told(number)}"), param=name)


def _told(number: float) -> str:
    return f"{number:.10g}" if abs(number) < LARGEST else "one of more than 30 digits"


def _is_beyond(value: Any) -> bool:
    """Whether a whole number in it has more than 64 bits: vLLM fails over those that it does not look at."""
    if isinstance(value, dict):
        return any(map(_is_beyond, value.values()))
    if isinstance(value, list):
        return any(map(_is_beyond, value))
    return isinstance(value, int) and not -(2**63) <= value < 2**63


def _check_bias(call: Call, engine: str) -> None:
    for token, bias in _object(call.fields, "logit_bias").items():
        if isinstance(bias, int | float) and not -MOST_BIAS <= bias <= MOST_BIAS:
            what = f"`logit_bias` must be from {-MOST_BIAS} to {MOST_BIAS}, not {_told(bias)} (token {token[:SHOWN_CHARACTERS]!r})"
            raise EngineRefused(_fault(engine, what), param="logit_bias")


def _read(raw: Raw, name: str) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidRequest(f"`{name}` is no JSON that can be read: {error}", param=name) from error


def _fault(engine: str, what: str) -> str:
    return f"the engine {engine!r} cannot take this request: {what}"


def _object(fields: Mapping[str, Raw], name: str) -> dict[str, Any]:
    found = _read(fields.get(name, NOTHING), name)
    return found if isinstance(found, dict) else {}


def _is_schema(form: Any) -> bool:
    return isinstance(form, dict) and isinstance(form.get("schema"), dict)


def _tool_names(raw: Raw) -> set[Any]:
    tools = _read(raw, "tools")
    functions = [tool.get("function") for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
    return {each["name"] for each in functions if isinstance(each, dict) and isinstance(each.get("name"), str)}


def _urls(value: Any) -> Iterator[str]:
    """Of every image, audio and video, wherever in the messages it stands."""
    if isinstance(value, list):
        for each in value:
            yield from _urls(each)
    elif isinstance(value, dict):
        for name, each in value.items():
            url = each.get("url") if name in MEDIA and isinstance(each, dict) else each
            if name in MEDIA and isinstance(url, str):
                yield url
            elif isinstance(each, list | dict):
                yield from _urls(each)
