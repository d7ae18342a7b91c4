"""OpenAI chat requests to `ChatRequest`. What no field of ours names is kept as it came.

Fields: https://platform.openai.com/docs/api-reference/chat/create; `reasoning_content` as DeepSeek, vLLM and others take it back.
"""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from contract import requests as r
from contract.errors import InvalidRequest, UnsupportedField
from contract.raw import ABSENT
from providers.wires.fields import Fields, items_of, read
from providers.wires.openai_chat.parts import decode_content
from providers.wires.openai_chat.spans import read_spans
from providers.wires.openai_chat.state import call_signature
from providers.wires.openai_chat.usual import read_usual
from providers.wires.seal import Seal, unseal

SAMPLING: dict[str, Any] = {
    "temperature": float,
    "top_p": float,
    "top_k": int,
    "frequency_penalty": float,
    "presence_penalty": float,
    "seed": int,
    "logit_bias": dict[str, float],
    "logprobs": bool,
    "top_logprobs": int,
    "n": int,
}
_REASONING = frozenset({"reasoning_content", "reasoning", "reasoning_signature"})
_BESIDE = frozenset({"refusal", "audio"})
_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})


def decode_request(body: bytes) -> r.ChatRequest:
    """Raises InvalidRequest with the path of the field at fault, such as `messages[0].content`."""
    fields = Fields(Raw(body), "")
    model, messages = fields.need("model", str), fields.need("messages", Raw)
    limit, old_limit = fields.take("max_completion_tokens", int), fields.take("max_tokens", int)
    effort, include_usage = fields.take("reasoning_effort", str), _includes_usage(fields)
    return r.ChatRequest(
        model=model,
        messages=_messages(messages),
        tools=(*_tools(fields), *_functions(fields)),
        tool_choice=_tool_choice(fields) or _function_choice(fields),
        parallel_tool_calls=fields.take("parallel_tool_calls", bool),
        response_format=_response_format(fields),
        sampling=r.Sampling(**{name: fields.take(name, kind) for name, kind in SAMPLING.items()}),
        max_output_tokens=old_limit if limit is None else limit,
        stop=_stop(fields.take("stop", str | list[str])),
        reasoning=r.Reasoning(effort=effort) if effort is not None else None,
        metadata=fields.take("metadata", dict[str, str]) or {},
        user=fields.take("user", str),
        stream=fields.take("stream", bool) or False,
        include_usage=include_usage,
        extra=fields.rest(),
    )


def _stop(stop: str | list[str] | None) -> tuple[str, ...]:
    return (stop,) if isinstance(stop, str) else tuple(stop or ())


def _includes_usage(fields: Fields) -> bool:
    raw = fields.take("stream_options", Raw)
    if raw is None:
        return False
    options = Fields(raw, "stream_options")
    include = bool(options.take("include_usage", bool))
    fields.keep("stream_options", options)
    return include


def _messages(raw: Raw) -> tuple[r.Message, ...]:
    called: dict[str, str] = {}  # of the form before tools: a function -> its last call, which had no id
    return tuple([read_usual(message) or read_message(message, path, called) for message, path in items_of(raw, "messages")])


def read_message(raw: Raw, path: str, called: dict[str, str]) -> r.Message:
    """One message of any shape, field by field."""
    fields = Fields(raw, path)
    role = fields.need("role", str)
    if role not in _ROLES:
        raise InvalidRequest(f"`{path}.role` is not one of {', '.join(sorted(_ROLES))}", param=f"{path}.role")
    parts: list[r.Part] = []
    if role == "tool":
        call_id = fields.need("tool_call_id", str)
        parts.append(r.ToolResultPart(tool_call_id=call_id, content=_result(fields, path)))
    elif role == "function":
        name = fields.need("name", str)
        parts.append(r.ToolResultPart(tool_call_id=called.get(name, name), content=_result(fields, path)))
        return r.Message(role="tool", parts=tuple(parts), extra=fields.rest())
    elif role == "assistant":
        parts = _assistant(fields, path, called)
    else:
        parts = decode_content(fields.need("content", Raw), f"{path}.content")
    return r.Message(role=role, parts=tuple(parts), name=fields.take("name", str), extra=fields.rest())


def _result(fields: Fields, path: str) -> tuple[r.TextPart | r.ImagePart, ...]:
    parts = decode_content(fields.take("content", Raw), f"{path}.content")
    for part in parts:
        if not isinstance(part, r.TextPart | r.ImagePart):
            raise UnsupportedField(f"`{path}.content` of a tool's result holds text and images only", param=f"{path}.content")
    return tuple(part for part in parts if isinstance(part, r.TextPart | r.ImagePart))


def _assistant(fields: Fields, path: str, called: dict[str, str]) -> list[r.Part]:
    parts: list[r.Part] = [*_reasoning(fields)] if fields.has_any(_REASONING) else []
    parts += decode_content(fields.take("content", Raw), f"{path}.content")
    if fields.has_any(_BESIDE):
        parts += _beside(fields, path)
    if (raw := fields.take("tool_calls", Raw)) is not None:
        parts += [_tool_call(item, at) for item, at in items_of(raw, f"{path}.tool_calls")]
    if (raw := fields.take("function_call", Raw)) is not None:
        call = Fields(raw, f"{path}.function_call")
        name = call.need("name", str)
        called[name] = f"call_{path.removeprefix('messages[').removesuffix(']')}_{name}"
        parts.append(r.ToolCallPart(id=called[name], name=name, arguments=call.need("arguments", str)))
    return parts


def _beside(fields: Fields, path: str) -> Iterator[r.Part]:
    """What of an answer stands beside its content."""
    if (refusal := fields.take("refusal", str)) is not None:
        yield r.RefusalPart(text=refusal)
    if (raw := fields.take("audio", Raw)) is not None:
        audio = Fields(raw, f"{path}.audio")
        yield r.AudioPart(id=audio.need("id", str))
        fields.keep("audio", audio)


def _reasoning(fields: Fields) -> list[r.ReasoningPart]:
    """Earlier reasoning, with the seals that we gave it, if they are still there."""
    text, other = fields.take("reasoning_content", str), fields.take("reasoning", str)
    text = other if text is None else text
    given = fields.take("reasoning_signature", str)
    if given:
        return read_spans(text or "", given) or [r.ReasoningPart(text=text or "", signature=given)]
    return [] if text is None else [r.ReasoningPart(text=text)]


def _sealed(extra: dict[str, Raw]) -> Seal | None:
    """The seal that we put on a call; it is then not of the provider's own."""
    raw = extra.get("extra_content")
    found = unseal(call_signature(raw) or "") if raw is not None else None
    if found is not None:
        del extra["extra_content"]
    return found


def _tool_call(raw: Raw, path: str) -> r.ToolCallPart:
    """A function call; a custom tool's call is one too, marked by its type in `extra`."""
    fields = Fields(raw, path)
    kind = fields.take("type", str) or "function"
    call_id = fields.need("id", str)
    if kind == "custom":
        custom = Fields(fields.need("custom", Raw), f"{path}.custom")
        name, arguments = custom.need("name", str), custom.need("input", str)
        fields.keep("custom", custom)
        return r.ToolCallPart(id=call_id, name=name, arguments=arguments, extra={"type": Raw(b'"custom"'), **fields.rest()})
    function = Fields(fields.need("function", Raw), f"{path}.function")
    name, arguments = function.need("name", str), function.need("arguments", str)
    fields.keep("function", function)
    extra = fields.rest()
    sealed = _sealed(extra)
    signature, maker = (sealed.signature or None, sealed.maker) if sealed is not None else (None, None)
    return r.ToolCallPart(id=call_id, name=name, arguments=arguments, signature=signature, maker=maker, extra=extra)


def _tools(fields: Fields) -> list[r.Tool]:
    return [_tool(raw, path) for raw, path in items_of(fields.take("tools", Raw), "tools")]


def _tool(raw: Raw, path: str) -> r.Tool:
    fields = Fields(raw, path)
    kind = fields.take("type", str) or "function"
    if kind != "function":
        return r.NativeTool(type=kind, raw=Raw(bytes(raw)))
    function = Fields(fields.need("function", Raw), f"{path}.function")
    tool = _function(function)
    mark = fields.take("cache_control", Raw) or ABSENT
    fields.keep("function", function)
    return replace(tool, cache_control=mark, extra=fields.rest())


def _function(function: Fields) -> r.FunctionTool:
    name, description = function.need("name", str), function.take("description", str)
    parameters, strict = function.take("parameters", Raw) or ABSENT, function.take("strict", bool)
    return r.FunctionTool(name=name, description=description, parameters=parameters, strict=strict)


def _functions(fields: Fields) -> Iterator[r.FunctionTool]:
    """Tools in the form before them, which was retired in 2023."""
    for raw, path in items_of(fields.take("functions", Raw), "functions"):
        function = Fields(raw, path)
        tool = _function(function)
        rest = function.rest()
        yield replace(tool, extra={"function": Raw(msgspec.json.encode(rest))}) if rest else tool


def _function_choice(fields: Fields) -> r.ToolChoice | None:
    raw = fields.take("function_call", Raw)
    if raw is None:
        return None
    if bytes(raw)[:1] != b'"':
        return r.ToolChoice(mode="named", name=Fields(raw, "function_call").need("name", str))
    word = read(raw, str, "function_call")
    if word not in ("auto", "none"):
        raise InvalidRequest("`function_call` is not auto, none or an object", param="function_call")
    return r.ToolChoice(mode=word)


def _tool_choice(fields: Fields) -> r.ToolChoice | None:
    raw = fields.take("tool_choice", Raw)
    if raw is None:
        return None
    if bytes(raw)[:1] == b'"':
        word = read(raw, str, "tool_choice")
        if word not in ("auto", "none", "required"):
            raise InvalidRequest("`tool_choice` is not auto, none, required or an object", param="tool_choice")
        return r.ToolChoice(mode=word)
    choice = Fields(raw, "tool_choice")
    if (choice.take("type", str) or "function") != "function":
        fields.put_back("tool_choice", raw)  # allowed_tools, custom: OpenAI's own
        return None
    return r.ToolChoice(mode="named", name=Fields(choice.need("function", Raw), "tool_choice.function").need("name", str))


def _response_format(fields: Fields) -> r.ResponseFormat | None:
    raw = fields.take("response_format", Raw)
    if raw is None:
        return None
    wanted = Fields(raw, "response_format")
    found: r.ResponseFormat
    match wanted.need("type", str):
        case "text":
            found = r.TextFormat()
        case "json_object":
            found = r.JsonObjectFormat()
        case "json_schema":
            schema = Fields(wanted.need("json_schema", Raw), "response_format.json_schema")
            found = r.JsonSchemaFormat(
                name=schema.need("name", str),
                schema=schema.take("schema", Raw) or ABSENT,
                description=schema.take("description", str),
                strict=schema.take("strict", bool),
            )
            wanted.keep("json_schema", schema)
        case _:
            fields.put_back("response_format", raw)
            return None
    fields.keep("response_format", wanted)
    return found
