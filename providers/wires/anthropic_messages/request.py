"""Anthropic's message requests to `ChatRequest`. What no field of ours names is kept as it came.

Fields: the `anthropic` SDK's MessageCreateParams; https://platform.claude.com/docs/en/api/messages.
"""

import msgspec
from msgspec import Raw

from contract import requests as r
from contract.errors import InvalidRequest
from contract.raw import ABSENT
from providers.wires.anthropic_messages.parts import decode_content, rest_of
from providers.wires.anthropic_messages.usual import read_usual
from providers.wires.fields import Fields, items_of

NAME = "anthropic_messages"
_ROLES = frozenset({"user", "assistant", "system"})


def decode_request(body: bytes) -> r.ChatRequest:
    """Raises InvalidRequest with the path of the field at fault."""
    return _decode(Fields(Raw(body), ""), needs_limit=True)


def decode_count_request(body: bytes) -> r.ChatRequest:
    """A count_tokens request: a message request without the answer's part."""
    return _decode(Fields(Raw(body), ""), needs_limit=False)


def _decode(fields: Fields, *, needs_limit: bool) -> r.ChatRequest:
    model, messages = fields.need("model", str), fields.need("messages", Raw)
    system = decode_content(fields.take("system", Raw), "system")
    found = [r.Message(role="system", parts=tuple(system))] if system else []
    found += [read_usual(raw) or read_message(raw, path) for raw, path in items_of(messages, "messages")]
    choice, parallel = _tool_choice(fields)
    response_format, effort = _output_config(fields)
    stream = bool(fields.take("stream", bool))
    return r.ChatRequest(
        dialect=NAME,
        model=model,
        messages=tuple(found),
        tools=tuple(_tool(raw, path) for raw, path in items_of(fields.take("tools", Raw), "tools")),
        tool_choice=choice,
        parallel_tool_calls=parallel,
        response_format=response_format,
        sampling=r.Sampling(temperature=fields.take("temperature", float), top_p=fields.take("top_p", float), top_k=fields.take("top_k", int)),
        max_output_tokens=fields.need("max_tokens", int) if needs_limit else fields.take("max_tokens", int),
        stop=tuple(fields.take("stop_sequences", list[str]) or ()),
        reasoning=_thinking(fields, effort),
        user=_user(fields),
        stream=stream,
        include_usage=stream,
        extra=rest_of(fields),
    )


def _user(fields: Fields) -> str | None:
    raw = fields.take("metadata", Raw)
    if raw is None:
        return None
    metadata = Fields(raw, "metadata")
    user: str | None = metadata.take("user_id", str)
    fields.keep("metadata", metadata)
    return user


def _thinking(fields: Fields, effort: str | None) -> r.Reasoning | None:
    """`thinking` and `output_config.effort` together: an effort alone asks for reasoning, for the words of other dialects have no other."""
    raw = fields.take("thinking", Raw)
    if raw is None:
        return None if effort is None else r.Reasoning(effort=effort)
    thinking = Fields(raw, "thinking")
    kind, budget, display = thinking.need("type", str), thinking.take("budget_tokens", int), thinking.take("display", Raw)
    told = display is not None and bytes(display) == b'"summarized"'
    if kind not in ("enabled", "adaptive", "disabled"):
        fields.put_back("thinking", Raw(bytes(raw)))
        return r.Reasoning(effort=effort)
    if display is not None and not told:
        thinking.put_back("display", display)
    fields.keep("thinking", thinking)
    if kind == "disabled" and effort is not None:  # of the text, then
        kept: dict[str, Raw] = fields.take("output_config", dict[str, Raw]) or {}
        fields.put_back("output_config", Raw(msgspec.json.encode({**kept, "effort": effort})))
    if kind == "disabled":
        return r.Reasoning(effort="none")
    return r.Reasoning(effort=effort, budget_tokens=budget, summary="auto" if told else None, asked=effort is not None)


def _output_config(fields: Fields) -> tuple[r.ResponseFormat | None, str | None]:
    """What form the answer has, and how much effort goes into it."""
    raw = fields.take("output_config", Raw)
    if raw is None:
        return None, None
    config = Fields(raw, "output_config")
    effort, wanted = config.take("effort", str), config.take("format", Raw)
    found: r.ResponseFormat | None = None
    if wanted is not None:
        form = Fields(wanted, "output_config.format")
        if form.need("type", str) == "json_schema":
            found = r.JsonSchemaFormat(name="answer", schema=form.need("schema", Raw))
            config.keep("format", form)
        else:
            config.put_back("format", wanted)
    fields.keep("output_config", config)
    return found, effort


def _tool_choice(fields: Fields) -> tuple[r.ToolChoice | None, bool | None]:
    """What must be called, and whether several calls may come at once."""
    raw = fields.take("tool_choice", Raw)
    if raw is None:
        return None, None
    choice = Fields(raw, "tool_choice")
    kind = choice.need("type", str)
    single = choice.take("disable_parallel_tool_use", bool)
    parallel = None if single is None else not single
    name = choice.need("name", str) if kind == "tool" else None
    fields.keep("tool_choice", choice)
    match kind:
        case "auto" | "none":
            return r.ToolChoice(mode=kind), parallel
        case "any":
            return r.ToolChoice(mode="required"), parallel
        case "tool":
            return r.ToolChoice(mode="named", name=name), parallel
    raise InvalidRequest("`tool_choice.type` is not auto, any, tool or none", param="tool_choice.type")


def _tool(raw: Raw, path: str) -> r.Tool:
    fields = Fields(raw, path)
    kind = fields.take("type", str) or "custom"
    if kind != "custom":
        return r.NativeTool(type=kind, raw=Raw(bytes(raw)))
    return r.FunctionTool(
        name=fields.need("name", str),
        description=fields.take("description", str),
        parameters=fields.take("input_schema", Raw) or ABSENT,
        strict=fields.take("strict", bool),
        cache_control=fields.take("cache_control", Raw) or ABSENT,
        extra=rest_of(fields),
    )


def read_message(raw: Raw, path: str) -> r.Message:
    """One message of any shape, field by field."""
    fields = Fields(raw, path)
    role = fields.need("role", str)
    if role not in _ROLES:
        raise InvalidRequest(f"`{path}.role` must be user, assistant or system", param=f"{path}.role")
    return r.Message(role=role, parts=tuple(decode_content(fields.need("content", Raw), f"{path}.content")), extra=rest_of(fields))
