"""`ChatRequest` to Converse requests (docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html)."""

import re
from hashlib import sha256
from itertools import dropwhile
from typing import Any

import msgspec
from msgspec import Raw

from contract import requests as r
from contract.errors import TargetCannot
from contract.raw import ABSENT
from providers.wires.anthropic_messages.request_encoder import closed
from providers.wires.arguments import as_object
from providers.wires.bedrock.models import NAME, caches, caches_tools, fitted, is_claude, prefills, structured, takes_unsigned
from providers.wires.losses import Losses

ID_ALLOWED = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_IMAGES = {"image/png": "png", "image/jpeg": "jpeg", "image/jpg": "jpeg", "image/gif": "gif", "image/webp": "webp"}
_DOCUMENTS = {
    "application/pdf": "pdf",
    "text/csv": "csv",
    "text/html": "html",
    "text/plain": "txt",
    "text/markdown": "md",
    "application/json": "txt",
    "application/msword": "doc",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
}
_NAME_FORBIDDEN = re.compile(r"[^A-Za-z0-9\-()\[\]]+")  # a document's name has no two spaces side by side either
_METADATA = re.compile(r"[a-zA-Z0-9\s:_@$#=/+,.\-]{0,256}")
_MOST_METADATA = 16
_ANY_INPUT = {"json": {"type": "object"}}


class _Mark(msgspec.Struct):
    ttl: str | None = None


def tool_id(given: str) -> str:
    """A tool call's id as Bedrock allows it: the same for the call and for its result."""
    return given if ID_ALLOWED.fullmatch(given) else f"tooluse_{sha256(given.encode()).hexdigest()[:24]}"


def encode_request(request: r.ChatRequest, model: str, losses: Losses) -> bytes:
    """What the format has no place for is in `losses`. Whether to stream is in the path. Raises TargetCannot for a request that says nothing."""
    body = prompt(request, model, losses)
    inference, additional = fitted(request, model, losses)
    if inference:
        body["inferenceConfig"] = inference
    if additional:
        body["additionalModelRequestFields"] = additional
    if request.stop and is_claude(model):
        body["additionalModelResponseFieldPaths"] = ["/stop_sequence"]  # which of them it was
    _format(request, model, body, losses)
    if request.user is not None:
        losses.lose("user")
    _metadata(request, body, losses)
    losses.lose_extra(request)
    return msgspec.json.encode(body)


def encode_count(request: r.ChatRequest, model: str, losses: Losses) -> bytes:
    """A CountTokens request: the prompt, and how to think."""
    body = prompt(request, model, losses)
    _, additional = fitted(request, model, losses)
    if additional:
        body["additionalModelRequestFields"] = additional
    return msgspec.json.encode({"input": {"converse": body}})


def prompt(request: r.ChatRequest, model: str, losses: Losses) -> dict[str, Any]:
    """What is counted as input: messages, system, tools."""
    encoder = _Encoder(model, losses)
    system = [block for m in request.messages if m.role in ("system", "developer") for part in m.parts for block in encoder.system(part)]
    messages = encoder.messages(request.messages)
    if not messages:
        raise TargetCannot("the request holds no message that the target's format has a place for", param="messages")
    if messages[-1]["role"] == "assistant" and not prefills(model):
        losses.lose("messages.prefill")
        messages = messages[:-1] or messages
    body: dict[str, Any] = {"messages": messages}
    if system := _begun(system):
        body["system"] = system
    if tools := _tools(request, encoder, losses):
        body["toolConfig"] = tools
    return body


def _tools(request: r.ChatRequest, encoder: "_Encoder", losses: Losses) -> dict[str, Any]:
    tools = [tool for given in request.tools for tool in encoder.tool(given)]
    choice = request.tool_choice
    called = dict.fromkeys(part.name for message in request.messages for part in message.parts if isinstance(part, r.ToolCallPart))
    if not called and (not tools or (choice is not None and choice.mode == "none")):
        return {}  # without tools none can be called, which is what `none` asks for
    if not tools:  # calls of tools that are not told are refused
        return {"tools": [{"toolSpec": {"name": name, "description": "Not available.", "inputSchema": _ANY_INPUT}} for name in called]}
    if request.parallel_tool_calls is False:
        losses.lose("parallel_tool_calls")
    if choice is None or choice.mode == "auto":
        return {"tools": tools}  # which is what is done anyway, and what not every family can be told
    if choice.mode == "none":
        losses.lose("tool_choice")
        return {"tools": tools}
    if choice.mode == "named":
        return {"tools": tools, "toolChoice": {"tool": {"name": choice.name}}}
    return {"tools": tools, "toolChoice": {"any": {}}}


def _format(request: r.ChatRequest, model: str, body: dict[str, Any], losses: Losses) -> None:
    match request.response_format:
        case r.JsonSchemaFormat() as wanted if wanted.schema and structured(model) is not False:
            told = {"name": wanted.name, "schema": msgspec.json.encode(closed(wanted.schema)).decode(), "description": wanted.description}
            schema = {name: value for name, value in told.items() if value is not None}
            body["outputConfig"] = {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": schema}}}
        case r.JsonSchemaFormat() | r.JsonObjectFormat():
            losses.lose("response_format")


def _metadata(request: r.ChatRequest, body: dict[str, Any], losses: Losses) -> None:
    given = request.metadata
    if len(given) > _MOST_METADATA or not all(name and _METADATA.fullmatch(name) and _METADATA.fullmatch(text) for name, text in given.items()):
        losses.lose("metadata")
    elif given:
        body["requestMetadata"] = given


def _cache_point(mark: Raw) -> dict[str, Any]:
    try:
        ttl = msgspec.json.decode(mark, type=_Mark).ttl
    except msgspec.ValidationError:
        ttl = None
    return {"cachePoint": {"type": "default"} if ttl in (None, "5m") else {"type": "default", "ttl": ttl}}


def _begun(blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without cache points that have nothing before them: of a blank text, which is left out."""
    return list(dropwhile(lambda block: "cachePoint" in block, blocks))


def _mark_of(part: r.Part) -> Raw:
    """A result's own mark, or that of something in it: within a result there is no place for one."""
    inner = part.content if isinstance(part, r.ToolResultPart) else ()
    return part.cache_control or next((each.cache_control for each in inner if each.cache_control), ABSENT)


def _kind(media_type: str | None) -> str:
    return (media_type or "").partition(";")[0].strip().lower()


class _Encoder:
    """One request's messages and tools."""

    def __init__(self, model: str, losses: Losses) -> None:
        self._model = model
        self._losses = losses
        self._documents: set[str] = set()

    def system(self, part: r.Part) -> list[dict[str, Any]]:
        """Text alone."""
        blocks = self.blocks(part)
        if blocks and not isinstance(part, r.TextPart | r.RefusalPart):
            self._losses.lose("messages.image" if isinstance(part, r.ImagePart) else "messages.file")
            return []
        return blocks

    def messages(self, messages: tuple[r.Message, ...]) -> list[dict[str, Any]]:
        """Turns of user and assistant; neighbours of one role become one, so that results stand together right after their calls."""
        encoded: list[dict[str, Any]] = []
        for message in messages:
            if message.role in ("system", "developer"):
                continue
            if message.name is not None:
                self._losses.lose("messages.name")
            role = "assistant" if message.role == "assistant" else "user"
            blocks = [block for part in message.parts for block in self.blocks(part)]
            if encoded and encoded[-1]["role"] == role:
                encoded[-1]["content"] += blocks
            elif blocks := _begun(blocks):
                encoded.append({"role": role, "content": blocks})
        for turn in encoded:
            turn["content"].sort(key=lambda block: "toolResult" not in block)
        return encoded

    def blocks(self, part: r.Part) -> list[dict[str, Any]]:
        """The part, and a cache point after it where it has a mark; none for what has no place, which is then noted."""
        mark = _mark_of(part)
        points = [_cache_point(mark)] if mark and caches(self._model) else []
        if mark and not points:
            self._losses.lose("messages.cache_control")
        block = self._block(part)
        if block:
            return [block, *points]
        return points if isinstance(part, r.TextPart) else []

    def _block(self, part: r.Part) -> dict[str, Any]:
        match part:
            case r.TextPart() | r.RefusalPart():
                return {"text": part.text} if part.text.strip() else {}  # a blank one is refused
            case r.ImagePart():
                return self._image(part)
            case r.FilePart():
                return self._document(part)
            case r.ToolCallPart():
                if part.signature is not None:
                    self._losses.lose("messages.signature")
                return {"toolUse": {"toolUseId": tool_id(part.id), "name": part.name, "input": as_object(part.arguments)}}
            case r.ToolResultPart():
                content = [block for inner in part.content if (block := self._block(inner))] or [{"text": "(empty)"}]
                failed = {"status": "error"} if part.is_error else {}  # not every family takes a status
                return {"toolResult": {"toolUseId": tool_id(part.tool_call_id), "content": content, **failed}}
            case r.ReasoningPart():
                return self._reasoning(part)
            case r.AudioPart():
                self._losses.lose("messages.audio")
            case r.NativePart():
                self._losses.lose(f"messages.{part.type}")
        return {}

    def _image(self, part: r.ImagePart) -> dict[str, Any]:
        form = _IMAGES.get(_kind(part.media_type))
        if part.data is None or form is None:
            self._losses.lose("messages.image")
            return {}
        if part.detail is not None:
            self._losses.lose("messages.detail")
        return {"image": {"format": form, "source": {"bytes": part.data}}}

    def _document(self, part: r.FilePart) -> dict[str, Any]:
        kind = _kind(part.media_type)
        form = _DOCUMENTS.get(kind, "txt" if kind.startswith("text/") else None)
        if part.data is None or form is None:
            self._losses.lose("messages.file")
            return {}
        return {"document": {"format": form, "name": self._document_name(part.filename), "source": {"bytes": part.data}}}

    def _document_name(self, given: str | None) -> str:
        """Of the characters that are allowed, and no other document's."""
        plain = _NAME_FORBIDDEN.sub(" ", given or "").strip()[:180].strip()
        name = plain or f"document {len(self._documents) + 1}"
        if name in self._documents:
            name = f"{name} ({len(self._documents) + 1})"
        self._documents.add(name)
        return name

    def _reasoning(self, part: r.ReasoningPart) -> dict[str, Any]:
        if part.maker != NAME or (part.signature is None and not takes_unsigned(self._model)):
            if part.signature is not None:
                self._losses.lose("messages.reasoning")
            elif part.text:
                self._losses.lose("messages.reasoning_text")
            return {}
        if part.redacted:
            return {"reasoningContent": {"redactedContent": part.signature}}
        signed = {} if part.signature is None else {"signature": part.signature}
        return {"reasoningContent": {"reasoningText": {"text": part.text, **signed}}} if part.text or signed else {}

    def tool(self, tool: r.Tool) -> list[dict[str, Any]]:
        """A tool, and a cache point after it where it has a mark; none for another provider's own, which is then noted."""
        if isinstance(tool, r.NativeTool):
            self._losses.lose(f"tools.{tool.type}")
            return []
        spec: dict[str, Any] = {"name": tool.name}
        if tool.description:
            spec["description"] = tool.description
        spec["inputSchema"] = {"json": tool.parameters or {"type": "object"}}
        if tool.strict and structured(self._model):
            spec["strict"] = True
        elif tool.strict:
            self._losses.lose("tools.strict")
        told = {"toolSpec": spec}
        if tool.cache_control and caches_tools(self._model):
            return [told, _cache_point(tool.cache_control)]
        if tool.cache_control:
            self._losses.lose("tools.cache_control")
        return [told]
