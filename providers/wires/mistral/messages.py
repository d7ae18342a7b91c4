"""Messages to Mistral's form (docs.mistral.ai/api): OpenAI's roles; thinking, documents and audio as chunks of its own; ids of nine."""

import re
from collections.abc import Sequence
from hashlib import sha256
from itertools import pairwise
from typing import Any

import msgspec

from contract import requests as r
from providers.wires.losses import Losses
from providers.wires.openai_chat.parts import url_of

NAME = "mistral"
ID = re.compile(r"[a-zA-Z0-9]{9}")
BETWEEN = {"role": "assistant", "content": "OK"}  # no user's message may follow a tool's


def tool_id(given: str) -> str:
    """A tool call's id as Mistral allows it, nine letters and digits: the same for the call and for its result."""
    return given if ID.fullmatch(given) else sha256(given.encode()).hexdigest()[:9]


def encode_messages(messages: Sequence[r.Message], losses: Losses) -> list[dict[str, Any]]:
    """What the format has no place for is in `losses`."""
    encoded: list[dict[str, Any]] = []
    for message in messages:
        for each in _message(message, losses):
            if each["role"] == "user" and encoded and encoded[-1]["role"] == "tool":
                encoded.append(BETWEEN)
            encoded.append(each)
    if encoded and encoded[-1]["role"] == "assistant" and "tool_calls" not in encoded[-1]:
        encoded[-1] = {"prefix": True, **encoded[-1]}  # it is refused as the last one, but for the beginning of the answer
    return encoded


def _message(message: r.Message, losses: Losses) -> list[dict[str, Any]]:
    """One message as one, or as several: each tool's result is a message of its own here, and comes before what else was said."""
    results = [part for part in message.parts if isinstance(part, r.ToolResultPart)]
    rest = [part for part in message.parts if not isinstance(part, r.ToolResultPart)]
    encoded = [_result(result, losses) for result in results]
    if not rest and results:
        return encoded
    if message.name is not None:
        losses.lose("messages.name")
    if message.role == "assistant":
        return [*encoded, _assistant(message, rest, losses)]
    chunks = [chunk for part in rest if (chunk := _chunk(part, losses)) is not None]
    return [*encoded, {"role": "system" if message.role == "developer" else message.role, "content": _short(chunks)}]


def _result(part: r.ToolResultPart, losses: Losses) -> dict[str, Any]:
    if part.is_error:
        losses.lose("messages.is_error")
    chunks = [chunk for inner in part.content if (chunk := _chunk(inner, losses)) is not None]
    return {"role": "tool", "tool_call_id": tool_id(part.tool_call_id), "content": _short(chunks)}


def _assistant(message: r.Message, parts: Sequence[r.Part], losses: Losses) -> dict[str, Any]:
    chunks: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    for part in parts:
        match part:
            case r.ReasoningPart():
                if (thought := _thought(part, losses)) is not None:
                    chunks.append(thought)
            case r.ToolCallPart():
                if part.signature:
                    losses.lose("messages.signature")
                function = {"name": part.name, "arguments": part.arguments or "{}"}
                calls.append({"id": tool_id(part.id), "type": "function", "function": function})
            case _ if (chunk := _chunk(part, losses)) is not None:
                chunks.append(chunk)
    encoded: dict[str, Any] = {"role": "assistant", "content": _short(chunks)}
    if calls:
        encoded["tool_calls"] = calls
    if "prefix" in message.extra:
        encoded["prefix"] = message.extra["prefix"]
    return encoded


def _thought(part: r.ReasoningPart, losses: Losses) -> dict[str, Any] | None:
    """Earlier thinking; None for another maker's, which is noted as lost when it is sealed."""
    if part.signature and part.maker != NAME:
        losses.lose("messages.reasoning")
        return None
    if not part.text and not part.signature:
        return None
    thinking = [{"type": "text", "text": part.text}] if part.text else []
    return {"type": "thinking", "thinking": thinking, **({"signature": part.signature} if part.signature else {})}


def _chunk(part: r.Part, losses: Losses) -> dict[str, Any] | None:
    """A piece of content; None: it has no place, which is noted."""
    if part.cache_control:
        losses.lose("messages.cache_control")
    match part:
        case r.TextPart() | r.RefusalPart():
            return {"type": "text", "text": part.text}
        case r.ImagePart() if (url := url_of(part)) is not None:
            detail = {"detail": part.detail} if part.detail is not None else {}
            return {"type": "image_url", "image_url": {"url": url, **detail}}
        case r.ImagePart():
            losses.lose("messages.image")
        case r.AudioPart() if part.data is not None:
            return {"type": "input_audio", "input_audio": part.data}
        case r.AudioPart():
            losses.lose("messages.audio")
        case r.FilePart() if (url := url_of(part)) is not None:
            name = {"document_name": part.filename} if part.filename is not None else {}
            return {"type": "document_url", "document_url": url, **name}
        case r.NativePart():
            losses.lose(f"messages.{part.type}")
        case _:
            losses.lose("messages.file")
    return None


def _short(chunks: Sequence[dict[str, Any]]) -> Any:
    """Texts alone as one text."""
    if all(chunk["type"] == "text" for chunk in chunks):
        return "\n".join(chunk["text"] for chunk in chunks)
    return list(chunks)


# in a list of content: OpenAI's chunks that are others here, and a member that is not known
_CHUNKS_REFUSED = (b'"file"', b'"input_audio"', b'"cache_control"')


class _Called(msgspec.Struct):
    id: str | None = None


class _Said(msgspec.Struct):
    """A message as an OpenAI client wrote it, as far as it may hold what Mistral refuses."""

    role: str = ""
    content: msgspec.Raw = msgspec.Raw(b"null")
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: list[_Called] | None = None
    reasoning_content: msgspec.Raw = msgspec.Raw(b"null")
    reasoning: msgspec.Raw = msgspec.Raw(b"null")
    reasoning_details: msgspec.Raw = msgspec.Raw(b"null")
    reasoning_signature: msgspec.Raw = msgspec.Raw(b"null")
    refusal: msgspec.Raw = msgspec.Raw(b"null")
    audio: msgspec.Raw = msgspec.Raw(b"null")
    function_call: msgspec.Raw = msgspec.Raw(b"null")

    def is_refused(self) -> bool:
        """Mistral takes no member of a message that it does not know, and no id of another form."""
        if self.role in ("developer", "function") or (self.name is not None and self.role != "tool"):
            return True
        content = bytes(self.content)
        if content[:1] == b"[" and any(mark in content for mark in _CHUNKS_REFUSED):
            return True
        ids = [self.tool_call_id, *(call.id for call in self.tool_calls or ())]
        if any(each is not None and not ID.fullmatch(each) for each in ids):
            return True
        unknown = (self.reasoning_content, self.reasoning, self.reasoning_details, self.reasoning_signature)
        return any(bytes(member) != b"null" for member in (*unknown, self.refusal, self.audio, self.function_call))


_said = msgspec.json.Decoder(list[_Said])


def are_plain(raw: msgspec.Raw) -> bool:
    """Whether Mistral takes these messages as they are; what is no list of messages is for it to refuse."""
    try:
        messages = _said.decode(raw)
    except msgspec.DecodeError:
        return True
    turns = pairwise(messages)
    return not any(each.is_refused() for each in messages) and not any(one.role == "tool" and two.role == "user" for one, two in turns)
