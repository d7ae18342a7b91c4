"""`ChatRequest` to Converse requests (docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html)."""

import re
from base64 import b64decode
from hashlib import sha256
from typing import Any

import msgspec

from contract import requests as r
from providers.wires.anthropic_messages.request_encoder import ADAPTIVE_MODELS, MIN_BUDGET
from providers.wires.arguments import as_object
from providers.wires.effort import budget_of, effort_of
from providers.wires.losses import Losses

NAME = "bedrock"
ID_ALLOWED = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_IMAGES = {"image/png": "png", "image/jpeg": "jpeg", "image/jpg": "jpeg", "image/gif": "gif", "image/webp": "webp"}
_DOCUMENTS = {
    "application/pdf": "pdf",
    "text/csv": "csv",
    "text/html": "html",
    "text/plain": "txt",
    "text/markdown": "md",
    "application/msword": "doc",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
}
_NO_PLACE = ("frequency_penalty", "presence_penalty", "seed", "logit_bias")
_CACHE_POINT = {"cachePoint": {"type": "default"}}
_NAME_FORBIDDEN = re.compile(r"[^A-Za-z0-9 \-()\[\]]+")


def tool_id(given: str) -> str:
    """A tool call's id as Bedrock allows it: the same for the call and for its result."""
    return given if ID_ALLOWED.fullmatch(given) else f"tooluse_{sha256(given.encode()).hexdigest()[:24]}"


def encode_request(request: r.ChatRequest, model: str, losses: Losses) -> bytes:
    """What the format has no place for is in `losses`. Whether to stream is in the path."""
    body = prompt(request, losses)
    inference: dict[str, Any] = {"maxTokens": request.max_output_tokens, "temperature": request.sampling.temperature, "topP": request.sampling.top_p}
    inference["stopSequences"] = list(request.stop) or None
    if known := {name: value for name, value in inference.items() if value is not None}:
        body["inferenceConfig"] = known
    if additional := _additional(request, model, losses):
        body["additionalModelRequestFields"] = additional
    _format(request, body, losses)
    for name in _NO_PLACE:
        if getattr(request.sampling, name):
            losses.lose(name)
    if request.sampling.n is not None and request.sampling.n > 1:
        losses.lose("n")
    if request.sampling.logprobs or request.sampling.top_logprobs:
        losses.lose("logprobs")
    if request.user is not None:
        losses.lose("user")
    if request.metadata:
        body["requestMetadata"] = request.metadata
    losses.lose_extra(request)
    return msgspec.json.encode(body)


def prompt(request: r.ChatRequest, losses: Losses) -> dict[str, Any]:
    """What is counted as input: messages, system, tools."""
    encoder = _Encoder(losses)
    system = [block for m in request.messages if m.role in ("system", "developer") for part in m.parts for block in encoder.blocks(part)]
    body: dict[str, Any] = {"messages": encoder.messages(request.messages)}
    if system:
        body["system"] = system
    if tools := _tools(request, encoder, losses):
        body["toolConfig"] = tools
    return body


def _tools(request: r.ChatRequest, encoder: "_Encoder", losses: Losses) -> dict[str, Any]:
    tools = [tool for given in request.tools for tool in encoder.tool(given)]
    choice = request.tool_choice
    used = any(isinstance(part, r.ToolCallPart) for message in request.messages for part in message.parts)
    if not tools or (choice is not None and choice.mode == "none" and not used):
        return {}  # without tools none can be called, which is what `none` asks for
    if request.parallel_tool_calls is False:
        losses.lose("parallel_tool_calls")
    if choice is None:
        return {"tools": tools}
    if choice.mode == "none":
        losses.lose("tool_choice")
        return {"tools": tools}
    if choice.mode == "named":
        return {"tools": tools, "toolChoice": {"tool": {"name": choice.name}}}
    return {"tools": tools, "toolChoice": {"any": {}} if choice.mode == "required" else {"auto": {}}}


def _additional(request: r.ChatRequest, model: str, losses: Losses) -> dict[str, Any]:
    """What only some model families take, in their own words."""
    claude = "anthropic." in model
    told: dict[str, Any] = {}
    if request.sampling.top_k is not None:
        if claude:
            told["top_k"] = request.sampling.top_k
        else:
            losses.lose("top_k")
    reasoning = request.reasoning
    if reasoning is None or reasoning.effort == "none":
        return told
    effort, budget = effort_of(reasoning), budget_of(reasoning)
    if claude and ADAPTIVE_MODELS.search(model):
        told["thinking"] = {"type": "adaptive"}
        if effort is not None:
            told["output_config"] = {"effort": "low" if effort == "minimal" else effort}
    elif claude:
        most = (request.max_output_tokens or 1 << 30) - 1
        told["thinking"] = {"type": "enabled", "budget_tokens": max(MIN_BUDGET, min(budget or MIN_BUDGET, most))}
    elif "amazon.nova" in model:
        told["reasoningConfig"] = {"type": "enabled", "maxReasoningEffort": _nova(effort)}
    elif "openai." in model:
        told["reasoning_effort"] = effort or "medium"
    elif "qwen." in model or "deepseek." in model:
        told["reasoning_config"] = effort or "medium"
    else:
        losses.lose("reasoning")
    return told


def _nova(effort: str | None) -> str:
    return {"minimal": "low", "low": "low", "high": "high", "xhigh": "high"}.get(effort or "", "medium")


def _format(request: r.ChatRequest, body: dict[str, Any], losses: Losses) -> None:
    match request.response_format:
        case r.JsonSchemaFormat() as wanted if wanted.schema:
            told = {"name": wanted.name, "schema": bytes(wanted.schema).decode(), "description": wanted.description}
            schema = {name: value for name, value in told.items() if value is not None}
            body["outputConfig"] = {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": schema}}}
        case r.JsonSchemaFormat() | r.JsonObjectFormat():
            losses.lose("response_format")


class _Encoder:
    """One request's messages and tools."""

    def __init__(self, losses: Losses) -> None:
        self._losses = losses
        self._documents = 0

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
            elif blocks:
                encoded.append({"role": role, "content": blocks})
        for turn in encoded:
            turn["content"].sort(key=lambda block: "toolResult" not in block)
        return encoded

    def blocks(self, part: r.Part) -> list[dict[str, Any]]:
        """The part, and a cache point after it where it has a mark; none for what has no place, which is then noted."""
        block = self._block(part)
        if not block:
            return []
        return [block, _CACHE_POINT] if part.cache_control else [block]

    def _block(self, part: r.Part) -> dict[str, Any]:
        match part:
            case r.TextPart() | r.RefusalPart():
                return {"text": part.text} if part.text else {}
            case r.ImagePart():
                return self._image(part)
            case r.FilePart():
                return self._document(part)
            case r.ToolCallPart():
                if part.signature is not None:
                    self._losses.lose("messages.signature")
                return {"toolUse": {"toolUseId": tool_id(part.id), "name": part.name, "input": as_object(part.arguments)}}
            case r.ToolResultPart():
                content = [block for inner in part.content if (block := self._block(inner))] or [{"text": ""}]
                told = {"toolUseId": tool_id(part.tool_call_id), "content": content, "status": "error" if part.is_error else "success"}
                return {"toolResult": told}
            case r.ReasoningPart():
                return self._reasoning(part)
            case r.AudioPart():
                self._losses.lose("messages.audio")
            case r.NativePart():
                self._losses.lose(f"messages.{part.type}")
        return {}

    def _image(self, part: r.ImagePart) -> dict[str, Any]:
        form = _IMAGES.get(part.media_type or "")
        if part.data is None or form is None:
            self._losses.lose("messages.image")
            return {}
        if part.detail is not None:
            self._losses.lose("messages.detail")
        return {"image": {"format": form, "source": {"bytes": part.data}}}

    def _document(self, part: r.FilePart) -> dict[str, Any]:
        form = _DOCUMENTS.get(part.media_type or "")
        if part.data is None or form is None:
            self._losses.lose("messages.file")
            return {}
        self._documents += 1
        name = _NAME_FORBIDDEN.sub(" ", part.filename or "").strip()[:180] or f"document {self._documents}"
        source = {"text": b64decode(part.data).decode("utf-8", "replace")} if form == "txt" else {"bytes": part.data}
        return {"document": {"format": form, "name": name, "source": source}}

    def _reasoning(self, part: r.ReasoningPart) -> dict[str, Any]:
        if part.signature is None or part.maker != NAME:
            if part.signature is not None:
                self._losses.lose("messages.reasoning")
            elif part.text:
                self._losses.lose("messages.reasoning_text")
            return {}
        if part.redacted:
            return {"reasoningContent": {"redactedContent": part.signature}}
        return {"reasoningContent": {"reasoningText": {"text": part.text, "signature": part.signature}}}

    def tool(self, tool: r.Tool) -> list[dict[str, Any]]:
        """A tool, and a cache point after it where it has a mark; none for another provider's own, which is then noted."""
        if isinstance(tool, r.NativeTool):
            self._losses.lose(f"tools.{tool.type}")
            return []
        spec: dict[str, Any] = {"name": tool.name}
        if tool.description:
            spec["description"] = tool.description
        spec["inputSchema"] = {"json": tool.parameters or {"type": "object"}}
        if tool.strict:
            spec["strict"] = True
        told = {"toolSpec": spec}
        return [told, _CACHE_POINT] if tool.cache_control else [told]
