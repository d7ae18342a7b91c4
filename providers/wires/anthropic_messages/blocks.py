"""Parts of any dialect's messages as Anthropic's content blocks, and tools as its tools."""

from base64 import b64decode
from hashlib import sha256
from typing import Any

import msgspec
from msgspec import Raw

from contract import requests as r
from providers.wires.anthropic_messages.request import NAME
from providers.wires.fields import with_extra
from providers.wires.losses import Losses

IMAGES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
TEXTS = frozenset({"application/json", "application/xml", "application/yaml", "application/x-ndjson"})  # and text/*
PDF = "application/pdf"
ID_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
_ANY_OBJECT = Raw(b'{"type":"object"}')
_EMPTY = Raw(b"{}")
Block = dict[str, Any]


def tool_id(given: str) -> str:
    """A tool call's id as Anthropic allows it: the same for the call and for its result."""
    return given if given and ID_LETTERS.issuperset(given) else f"toolu_{sha256(given.encode('utf-8', 'replace')).hexdigest()[:24]}"


def as_object(arguments: str) -> Raw:
    """Arguments as the JSON object that they should be; text that is none goes on as one member, so that nothing is lost."""
    if not arguments.strip():
        return _EMPTY
    try:
        decoded = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, RecursionError):
        return Raw(msgspec.json.encode({"_arguments": arguments}))
    return Raw(arguments.encode()) if isinstance(decoded, dict) else Raw(msgspec.json.encode({"_arguments": decoded}))


class BlockEncoder:
    """Of one request. `own`: it was written in Anthropic's own dialect, and goes as it came."""

    def __init__(self, own: bool, strict_tools: bool, losses: Losses) -> None:
        self.own = own
        self._strict_tools = strict_tools
        self._losses = losses

    def messages(self, messages: list[r.Message]) -> list[dict[str, Any]]:
        """Consecutive messages of one role become one, so that results stand together right after their calls."""
        encoded: list[dict[str, Any]] = []
        for message in messages:
            if message.name is not None:
                self._losses.lose("messages.name")
            blocks = self.blocks(message.parts)
            if self.own:
                encoded.append(with_extra({"role": message.role, "content": blocks}, message.extra))
                continue
            role = "assistant" if message.role == "assistant" else "user"
            if blocks and encoded and encoded[-1]["role"] == role:
                encoded[-1]["content"] += blocks
            elif blocks:
                encoded.append({"role": role, "content": blocks})
        if not self.own:
            for told in encoded:
                if len(told["content"]) > 1:
                    told["content"] = _in_order(told["content"])
        return encoded

    def blocks(self, parts: tuple[r.Part, ...]) -> list[Block]:
        """Without those that have no place, which are then noted."""
        return [block for part in parts if (block := self._marked(part))]

    def _marked(self, part: r.Part) -> Block:
        encoded = self._block(part)
        if encoded and part.cache_control:
            encoded["cache_control"] = part.cache_control
        return with_extra(encoded, part.extra) if self.own and encoded else encoded

    def _block(self, part: r.Part) -> Block:
        match part:
            case r.TextPart() | r.RefusalPart():
                return {"type": "text", "text": part.text} if part.text.strip() or self.own else {}  # refused where there is nothing to read
            case r.ImagePart():
                return self._image(part)
            case r.FilePart():
                return self._document(part)
            case r.ToolCallPart():
                if part.signature is not None:
                    self._losses.lose("messages.signature")
                return {"type": "tool_use", "id": tool_id(part.id), "name": part.name, "input": as_object(part.arguments)}
            case r.ToolResultPart():
                return self._result(part)
            case r.ReasoningPart():
                return self._thinking(part)
            case r.NativePart() if self.own:
                return dict(msgspec.json.decode(part.raw, type=dict[str, Raw]))
            case r.NativePart():
                return self._lost(part.type)
            case r.AudioPart():
                return self._lost("audio")

    def _lost(self, what: str) -> Block:
        self._losses.lose(f"messages.{what}")
        return {}

    def _image(self, part: r.ImagePart) -> Block:
        if part.detail is not None:
            self._losses.lose("messages.detail")
        if part.data is not None and (self.own or part.media_type in IMAGES):
            return {"type": "image", "source": {"type": "base64", "media_type": part.media_type, "data": part.data}}
        if part.url is not None and (self.own or part.url.startswith(("https://", "http://"))):
            return {"type": "image", "source": {"type": "url", "url": part.url}}
        return self._lost("image")

    def _document(self, part: r.FilePart) -> Block:
        source = self._source(part)
        if not source:
            return self._lost("file")
        encoded: Block = {"type": "document", "source": source}
        if part.filename is not None:
            encoded["title"] = part.filename
        return encoded

    def _source(self, part: r.FilePart) -> Block:
        """Where a document is; empty: not where Anthropic could read it, as a file kept by another provider."""
        if part.file_id is not None:
            return {"type": "file", "file_id": part.file_id} if self.own else {}
        if part.data is None:
            return {"type": "url", "url": part.url} if part.url and (self.own or part.url.startswith(("https://", "http://"))) else {}
        kind = (part.media_type or PDF).partition(";")[0].strip().lower()
        if kind == PDF or (self.own and kind != "text/plain"):
            return {"type": "base64", "media_type": part.media_type or PDF, "data": part.data}
        if not kind.startswith("text/") and kind not in TEXTS:
            return {}
        try:
            return {"type": "text", "media_type": "text/plain", "data": b64decode(part.data).decode()}
        except ValueError:
            return {}

    def _result(self, part: r.ToolResultPart) -> Block:
        blocks = self.blocks(part.content)
        plain = len(blocks) == 1 and blocks[0].keys() == {"type", "text"}
        encoded: Block = {"type": "tool_result", "tool_use_id": tool_id(part.tool_call_id)}
        if blocks:
            encoded["content"] = blocks[0]["text"] if plain else blocks
        if part.is_error:
            encoded["is_error"] = True
        return encoded

    def _thinking(self, part: r.ReasoningPart) -> Block:
        """Only what Anthropic signed itself comes back to it."""
        if part.signature is None:
            return self._lost("reasoning_text") if part.text else {}
        if part.maker != NAME and not (part.maker is None and self.own):
            return self._lost("reasoning")
        if part.redacted:
            return {"type": "redacted_thinking", "data": part.signature}
        return {"type": "thinking", "thinking": part.text, "signature": part.signature}

    def tool(self, tool: r.Tool) -> Any:
        """A tool as Anthropic takes it; None: another provider's own, noted as lost."""
        if isinstance(tool, r.NativeTool):
            if self.own:
                return tool.raw
            self._losses.lose(f"tools.{tool.type}")
            return None
        encoded: dict[str, Any] = {"name": tool.name}
        if tool.description is not None:
            encoded["description"] = tool.description
        encoded["input_schema"] = tool.parameters or _ANY_OBJECT
        if tool.strict is not None and self.own:
            encoded["strict"] = tool.strict
        elif tool.strict and self._strict_tools:
            encoded["strict"] = True
        elif tool.strict:
            self._losses.lose("tools.strict")
        if tool.cache_control:
            encoded["cache_control"] = tool.cache_control
        return with_extra(encoded, tool.extra) if self.own else encoded


def _in_order(blocks: list[Block]) -> list[Block]:
    """Results first: they must directly follow the calls that they answer."""
    return sorted(blocks, key=lambda block: _FIRST.get(block["type"], 1))


_FIRST = {"tool_result": 0}
