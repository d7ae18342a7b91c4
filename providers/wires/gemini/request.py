"""`ChatRequest` to Google's generateContent requests (ai.google.dev/api/generate-content)."""

import re
from base64 import b64encode
from typing import Any

import msgspec
from msgspec import Raw

from contract import requests as r
from providers.wires.arguments import as_object
from providers.wires.effort import budget_of, effort_of
from providers.wires.losses import Losses

NAME = "gemini"
GEMINI_3 = re.compile(r"gemini-(?:[3-9]|\d{2})")
LEVELS = {"none": "minimal", "xhigh": "high"}
# Google's own word for a call that another model made: it is then not asked to prove it (ai.google.dev/gemini-api/docs/thought-signatures).
# The field is of bytes, which JSON holds as base64: so Google's own client writes it.
FOREIGN_CALL = b64encode(b"skip_thought_signature_validator").decode()
_GENERATION = {
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "n": "candidateCount",
    "seed": "seed",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
    "logprobs": "responseLogprobs",
    "top_logprobs": "logprobs",
}
_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY", "named": "ANY"}
_MEDIA = {"png": "image/png", "gif": "image/gif", "webp": "image/webp", "pdf": "application/pdf", "mp4": "video/mp4", "mp3": "audio/mp3"}


def encode_request(request: r.ChatRequest, model: str, losses: Losses) -> bytes:
    """What the format has no place for is in `losses`."""
    body = prompt(request, model, losses)
    generation: dict[str, Any] = {}
    for ours, theirs in _GENERATION.items():
        if (value := getattr(request.sampling, ours)) is not None:
            generation[theirs] = value
    if request.sampling.logit_bias:
        losses.lose("logit_bias")
    if request.max_output_tokens is not None:
        generation["maxOutputTokens"] = request.max_output_tokens
    if request.stop:
        generation["stopSequences"] = request.stop
    match request.response_format:
        case r.JsonSchemaFormat() as wanted:
            generation["responseMimeType"] = "application/json"
            if wanted.schema:
                generation["responseJsonSchema"] = wanted.schema
        case r.JsonObjectFormat():
            generation["responseMimeType"] = "application/json"
    if (thinking := _thinking(request, model)) is not None:
        generation["thinkingConfig"] = thinking
    if generation:
        body["generationConfig"] = generation
    for name, given in (("user", request.user), ("metadata", request.metadata)):
        if given:
            losses.lose(name)
    losses.lose_extra(request)
    return msgspec.json.encode(body)


def prompt(request: r.ChatRequest, model: str, losses: Losses) -> dict[str, Any]:
    """What is counted as input: contents, system instruction, tools."""
    encoder = _Encoder(request, model, losses)
    system = [part for m in request.messages if m.role in ("system", "developer") for p in m.parts for part in encoder.parts(p)]
    body: dict[str, Any] = {"contents": encoder.contents()}
    if system:
        body["systemInstruction"] = {"parts": system}
    if declarations := [tool for given in request.tools if (tool := _tool(given, losses)) is not None]:
        body["tools"] = [{"functionDeclarations": declarations}]
        if (choice := request.tool_choice) is not None:
            named = {"allowedFunctionNames": [choice.name]} if choice.mode == "named" else {}
            body["toolConfig"] = {"functionCallingConfig": {"mode": _MODES[choice.mode], **named}}
        if request.parallel_tool_calls is False:
            losses.lose("parallel_tool_calls")
    return body


def _thinking(request: r.ChatRequest, model: str) -> dict[str, Any] | None:
    reasoning = request.reasoning
    if reasoning is None:
        return None
    if reasoning.effort == "none":
        if request.dialect == "anthropic_messages":
            return None  # Anthropic's `disabled` is its default, not a wish
        return {"thinkingLevel": "minimal"} if GEMINI_3.search(model) else {"thinkingBudget": 0}
    told: dict[str, Any] = {"includeThoughts": True}
    if GEMINI_3.search(model):
        if (effort := effort_of(reasoning)) is not None:
            told["thinkingLevel"] = LEVELS.get(effort, effort)
    elif (budget := budget_of(reasoning)) is not None:
        told["thinkingBudget"] = budget
    return told


def _tool(tool: r.Tool, losses: Losses) -> dict[str, Any] | None:
    if isinstance(tool, r.NativeTool):
        losses.lose(f"tools.{tool.type}")
        return None
    if tool.cache_control:
        losses.lose("tools.cache_control")
    if tool.strict:
        losses.lose("tools.strict")
    told: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        told["description"] = tool.description
    if tool.parameters:
        told["parametersJsonSchema"] = tool.parameters
    return told


class _Encoder:
    """One request's messages. Results are told by the function's name here, so the calls' names are looked up by their ids."""

    def __init__(self, request: r.ChatRequest, model: str, losses: Losses) -> None:
        self._messages = request.messages
        self._losses = losses
        self._reasons_first = request.dialect == "openai_chat"  # its messages do not tell where among their text the reasoning was
        self._is_gemini_3 = GEMINI_3.search(model) is not None
        self._names = {p.id: p.name for m in request.messages for p in m.parts if isinstance(p, r.ToolCallPart)}
        self._places = {name: place for place, name in enumerate(self._names)}

    def contents(self) -> list[dict[str, Any]]:
        """Turns of user and model in their order; neighbours of one role become one."""
        contents: list[dict[str, Any]] = []
        for message in self._messages:
            if message.role in ("system", "developer"):
                continue
            if message.name is not None:
                self._losses.lose("messages.name")
            role = "model" if message.role == "assistant" else "user"
            parts: list[dict[str, Any]] = []
            for part in message.parts:
                self._add(parts, part)
            if role == "model":
                if self._reasons_first:
                    parts = joined(parts)
                self._sign(parts)
            if contents and contents[-1]["role"] == role:
                contents[-1]["parts"] += parts
            elif parts:
                contents.append({"role": role, "parts": parts})
        for content in contents:
            if content["role"] == "user":  # results answer the calls before them, and come first
                content["parts"].sort(key=self._place)
        return contents or [{"role": "user", "parts": [{"text": ""}]}]  # none at all is refused

    def _place(self, part: dict[str, Any]) -> int:
        """Results stand in the order of their calls; all else stays behind them, in its own."""
        result = part.get("functionResponse")
        return len(self._places) if result is None else self._places.get(result["id"], len(self._places) - 1)

    def _add(self, parts: list[dict[str, Any]], part: r.Part) -> None:
        """A signature of a text belongs on the text before it."""
        if isinstance(part, r.ReasoningPart) and part.maker == NAME and part.signature and not part.text:
            if parts and "text" in parts[-1] and "thoughtSignature" not in parts[-1]:
                parts[-1]["thoughtSignature"] = part.signature
            else:
                parts.append({"text": "", "thoughtSignature": part.signature})
            return
        parts += self.parts(part)

    def _sign(self, parts: list[dict[str, Any]]) -> None:
        """The first call of a turn must be signed; one that another model made says so."""
        first = next((part for part in parts if "functionCall" in part), None)
        if first is not None and self._is_gemini_3:
            first.setdefault("thoughtSignature", FOREIGN_CALL)

    def parts(self, part: r.Part) -> list[dict[str, Any]]:
        """The part in Google's form; none for what has no place, which is then noted."""
        if part.cache_control:
            self._losses.lose("messages.cache_control")
        match part:
            case r.TextPart() | r.RefusalPart():
                return [{"text": part.text}]
            case r.ImagePart():
                if part.detail is not None:
                    self._losses.lose("messages.detail")
                return [media(part.data, part.url, part.media_type, "image/jpeg")]
            case r.AudioPart():
                if part.data is None:
                    self._losses.lose("messages.audio")
                    return []
                return [{"inlineData": {"mimeType": f"audio/{part.format or 'wav'}", "data": part.data}}]
            case r.FilePart():
                if part.file_id is not None:
                    self._losses.lose("messages.file")
                    return []
                return [media(part.data, part.url, part.media_type, "application/pdf")]
            case r.ToolCallPart():
                return [self._call(part)]
            case r.ToolResultPart():
                return self._result(part)
            case r.ReasoningPart():
                return self._reasoning(part)
            case r.NativePart():
                self._losses.lose(f"messages.{part.type}")
        return []

    def _call(self, part: r.ToolCallPart) -> dict[str, Any]:
        told: dict[str, Any] = {"functionCall": {"id": part.id, "name": part.name, "args": as_object(part.arguments)}}
        if part.signature is not None:
            if part.maker == NAME:
                told["thoughtSignature"] = part.signature
            else:
                self._losses.lose("messages.signature")
        return told

    def _result(self, part: r.ToolResultPart) -> list[dict[str, Any]]:
        text = "".join(inner.text for inner in part.content if isinstance(inner, r.TextPart))
        response = {"error": text} if part.is_error else as_response(text)
        name = self._names.get(part.tool_call_id, part.tool_call_id)
        told: dict[str, Any] = {"id": part.tool_call_id, "name": name, "response": response}
        rest = [piece for inner in part.content if not isinstance(inner, r.TextPart) for piece in self.parts(inner)]
        if self._is_gemini_3 and rest:  # the models before it take media only beside a result
            told["parts"], rest = rest, []
        return [{"functionResponse": told}, *rest]

    def _reasoning(self, part: r.ReasoningPart) -> list[dict[str, Any]]:
        if part.signature is not None and part.maker == NAME:
            return [{"text": part.text, "thought": True, "thoughtSignature": part.signature}]
        if part.signature is not None:
            self._losses.lose("messages.reasoning")
        elif part.text and part.maker == NAME:
            return [{"text": part.text, "thought": True}]
        elif part.text:
            self._losses.lose("messages.reasoning_text")
        return []


def joined(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A signature that lost its text finds the last one that has none."""
    lone = next((part for part in parts if part.get("text") == "" and "thoughtSignature" in part), None)
    bare = [part for part in parts if part.get("text") and not part.keys() & {"thought", "thoughtSignature"}]
    if lone is None or not bare:
        return parts
    bare[-1]["thoughtSignature"] = lone["thoughtSignature"]
    return [part for part in parts if part is not lone]


def as_response(text: str) -> Any:
    """A function's response must be an object: one goes as it is, all else as its `result`."""
    try:
        decoded = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return {"result": text}
    return Raw(text.encode()) if isinstance(decoded, dict) else {"result": decoded}


def media(data: str | None, url: str | None, media_type: str | None, default: str) -> dict[str, Any]:
    """Inline data, or a file by its address."""
    if data is not None:
        return {"inlineData": {"mimeType": media_type or default, "data": data}}
    suffix = (url or "").partition("?")[0].rpartition(".")[2].lower()
    return {"fileData": {"fileUri": url or "", "mimeType": media_type or _MEDIA.get(suffix, default)}}
