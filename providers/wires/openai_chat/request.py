"""OpenAI chat requests to `ChatRequest` and back. What no field of ours names is kept as it came and sent as it came.

Fields: https://platform.openai.com/docs/api-reference/chat/create; `reasoning_content` as DeepSeek, vLLM and others take it back.
"""

from typing import Any

import msgspec
from msgspec import Raw

from contract import requests as r
from contract.errors import InvalidRequest, UnsupportedField
from contract.raw import ABSENT
from providers.wires.fields import Fields, items_of, read, with_extra
from providers.wires.openai_chat.parts import decode_content, encode_content, encode_result

_SAMPLING: dict[str, Any] = {
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
_ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})


# --- decode ----------------------------------------------------------------------------------------------------------
def decode_request(body: bytes) -> r.ChatRequest:
    """Raises InvalidRequest with the path of the field at fault, such as `messages[0].content`."""
    fields = Fields(Raw(body), "")
    model, messages = fields.need("model", str), fields.need("messages", Raw)
    limit, old_limit = fields.take("max_completion_tokens", int), fields.take("max_tokens", int)
    effort, include_usage = fields.take("reasoning_effort", str), _includes_usage(fields)
    return r.ChatRequest(
        model=model,
        messages=tuple(_message(raw, path) for raw, path in items_of(messages, "messages")),
        tools=tuple(_tool(raw, path) for raw, path in items_of(fields.take("tools", Raw), "tools")),
        tool_choice=_tool_choice(fields),
        parallel_tool_calls=fields.take("parallel_tool_calls", bool),
        response_format=_response_format(fields),
        sampling=r.Sampling(**{name: fields.take(name, kind) for name, kind in _SAMPLING.items()}),
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


def _message(raw: Raw, path: str) -> r.Message:
    fields = Fields(raw, path)
    role = fields.need("role", str)
    if role not in _ROLES:
        raise InvalidRequest(f"`{path}.role` is not one of {', '.join(sorted(_ROLES))}", param=f"{path}.role")
    parts: list[r.Part] = []
    if role == "tool":
        call_id = fields.need("tool_call_id", str)
        parts.append(r.ToolResultPart(tool_call_id=call_id, content=_result(fields, path)))
    elif role == "assistant":
        parts = _assistant(fields, path)
    else:
        parts = decode_content(fields.need("content", Raw), f"{path}.content")
    return r.Message(role=role, parts=tuple(parts), name=fields.take("name", str), extra=fields.rest())


def _result(fields: Fields, path: str) -> tuple[r.TextPart | r.ImagePart, ...]:
    parts = decode_content(fields.take("content", Raw), f"{path}.content")
    for part in parts:
        if not isinstance(part, r.TextPart | r.ImagePart):
            raise UnsupportedField(f"`{path}.content` of a tool's result holds text and images only", param=f"{path}.content")
    return tuple(part for part in parts if isinstance(part, r.TextPart | r.ImagePart))


def _assistant(fields: Fields, path: str) -> list[r.Part]:
    parts: list[r.Part] = []
    if (reasoning := fields.take("reasoning_content", str)) is not None:
        parts.append(r.ReasoningPart(text=reasoning))
    parts += decode_content(fields.take("content", Raw), f"{path}.content")
    if (refusal := fields.take("refusal", str)) is not None:
        parts.append(r.RefusalPart(text=refusal))
    if (raw := fields.take("audio", Raw)) is not None:
        audio = Fields(raw, f"{path}.audio")
        parts.append(r.AudioPart(id=audio.need("id", str)))
        fields.keep("audio", audio)
    parts += [_tool_call(raw, at) for raw, at in items_of(fields.take("tool_calls", Raw), f"{path}.tool_calls")]
    return parts


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
    return r.ToolCallPart(id=call_id, name=name, arguments=arguments, extra=fields.rest())


def _tool(raw: Raw, path: str) -> r.Tool:
    fields = Fields(raw, path)
    kind = fields.take("type", str) or "function"
    if kind != "function":
        return r.NativeTool(type=kind, raw=Raw(bytes(raw)))
    function = Fields(fields.need("function", Raw), f"{path}.function")
    name, description = function.need("name", str), function.take("description", str)
    parameters, strict = function.take("parameters", Raw) or ABSENT, function.take("strict", bool)
    mark = fields.take("cache_control", Raw) or ABSENT
    fields.keep("function", function)
    return r.FunctionTool(name=name, description=description, parameters=parameters, strict=strict, cache_control=mark, extra=fields.rest())


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


# --- encode ----------------------------------------------------------------------------------------------------------
def encode_request(request: r.ChatRequest, model: str) -> bytes:
    """Raises UnsupportedField for a part that OpenAI's chat format has no place for."""
    body: dict[str, Any] = {"model": model, "messages": [_encode_message(message) for message in request.messages]}
    if request.tools:
        body["tools"] = [_encode_tool(tool) for tool in request.tools]
    if request.tool_choice is not None:
        choice = request.tool_choice
        body["tool_choice"] = {"type": "function", "function": {"name": choice.name}} if choice.mode == "named" else choice.mode
    if request.response_format is not None:
        body["response_format"] = _encode_format(request.response_format)
    body |= {name: value for name in _SAMPLING if (value := getattr(request.sampling, name)) is not None}
    optional = {
        "parallel_tool_calls": request.parallel_tool_calls,
        "max_completion_tokens": request.max_output_tokens,
        "stop": request.stop or None,
        "reasoning_effort": request.reasoning.effort if request.reasoning else None,
        "metadata": request.metadata or None,
        "user": request.user,
        "stream": request.stream or None,
        "stream_options": {"include_usage": True} if request.include_usage else None,
    }
    body |= {name: value for name, value in optional.items() if value is not None}
    return msgspec.json.encode(with_extra(body, request.extra))


def _encode_message(message: r.Message) -> dict[str, Any]:
    encoded: dict[str, Any] = {"role": message.role}
    if message.name is not None:
        encoded["name"] = message.name
    content: list[r.Part] = []
    calls: list[dict[str, Any]] = []
    for part in message.parts:
        match part:
            case r.ToolCallPart():
                calls.append(_encode_call(part))
            case r.ToolResultPart():
                encoded |= {"tool_call_id": part.tool_call_id, "content": encode_result(part)}
            case r.ReasoningPart():
                encoded["reasoning_content"] = encoded.get("reasoning_content", "") + part.text
            case r.RefusalPart() if message.role == "assistant":
                encoded["refusal"] = part.text
            case r.AudioPart(id=str()):
                encoded["audio"] = {"id": part.id}
            case _:
                content.append(part)
    if calls:
        encoded["tool_calls"] = calls
    if content:
        encoded["content"] = encode_content(content)
    elif message.role == "assistant":
        encoded["content"] = None
    return with_extra(encoded, message.extra)


def _encode_call(part: r.ToolCallPart) -> dict[str, Any]:
    if "type" in part.extra:
        return with_extra({"id": part.id, "custom": {"name": part.name, "input": part.arguments}}, part.extra)
    return with_extra({"id": part.id, "type": "function", "function": {"name": part.name, "arguments": part.arguments}}, part.extra)


def _encode_tool(tool: r.Tool) -> Any:
    if isinstance(tool, r.NativeTool):
        return tool.raw
    function: dict[str, Any] = {"name": tool.name}
    for name, value in (("description", tool.description), ("parameters", tool.parameters or None), ("strict", tool.strict)):
        if value is not None:
            function[name] = value
    encoded: dict[str, Any] = {"type": "function", "function": function}
    if tool.cache_control:
        encoded["cache_control"] = tool.cache_control
    return with_extra(encoded, tool.extra)


def _encode_format(wanted: r.ResponseFormat) -> dict[str, Any]:
    match wanted:
        case r.TextFormat():
            return {"type": "text"}
        case r.JsonObjectFormat():
            return {"type": "json_object"}
        case r.JsonSchemaFormat():
            schema = {"name": wanted.name, "schema": wanted.schema or None, "description": wanted.description, "strict": wanted.strict}
            return {"type": "json_schema", "json_schema": {name: value for name, value in schema.items() if value is not None}}
