"""One request for an answer, free of any dialect. Frozen; built by a client dialect's decoder, read by a provider's encoder.

What no field here names is kept in `extra` as the JSON it was, so that a dialect's own target still receives it.
"""

from typing import Literal

import msgspec
from msgspec import Raw

from contract.raw import ABSENT

Role = Literal["system", "developer", "user", "assistant", "tool"]


class _Part(msgspec.Struct, frozen=True, tag=True, tag_field="part", omit_defaults=True, kw_only=True):
    """Base of the tagged union of content parts. `cache_control` is the provider's prompt-cache mark, as JSON."""

    cache_control: Raw = ABSENT
    extra: dict[str, Raw] = {}


class TextPart(_Part, frozen=True, kw_only=True):
    text: str


class RefusalPart(_Part, frozen=True, kw_only=True):
    text: str


class ImagePart(_Part, frozen=True, kw_only=True):
    """Either `url` (http, or a provider's file reference) or base64 `data` with its `media_type`."""

    url: str | None = None
    data: str | None = None
    media_type: str | None = None
    detail: str | None = None


class AudioPart(_Part, frozen=True, kw_only=True):
    """base64 `data`, or the `id` of an earlier audio answer. `format` is wav, mp3, …"""

    data: str | None = None
    format: str | None = None
    id: str | None = None


class FilePart(_Part, frozen=True, kw_only=True):
    """One of `file_id` (bound to one provider), `url`, or base64 `data`."""

    file_id: str | None = None
    url: str | None = None
    data: str | None = None
    filename: str | None = None
    media_type: str | None = None


class ToolCallPart(_Part, frozen=True, kw_only=True):
    """A call the model made. `arguments` is JSON text as the model wrote it; it may be empty or not parse.

    `signature` binds it to the target that made it (Gemini's thoughtSignature); `maker`: the wire that made it, when a seal says so.
    """

    id: str
    name: str
    arguments: str
    signature: str | None = None
    maker: str | None = None


class ToolResultPart(_Part, frozen=True, kw_only=True):
    """What a call gave back: text, images and files."""

    tool_call_id: str
    content: tuple[TextPart | ImagePart | FilePart, ...]
    is_error: bool = False


class ReasoningPart(_Part, frozen=True, kw_only=True):
    """Earlier reasoning, returned to the model. A `signature` binds it to the target that made it; `redacted`: no text.

    `maker`: the wire whose target made it, when a seal says so (providers/wires/seal.py); None: the dialect's own.
    """

    text: str = ""
    signature: str | None = None
    redacted: bool = False
    id: str | None = None
    maker: str | None = None


class NativePart(_Part, frozen=True, kw_only=True):
    """Content that only its own dialect knows (a server tool's call or result …), whole, as JSON."""

    type: str
    raw: Raw


Part = TextPart | RefusalPart | ImagePart | AudioPart | FilePart | ToolCallPart | ToolResultPart | ReasoningPart | NativePart


class Message(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    role: Role
    parts: tuple[Part, ...] = ()
    name: str | None = None
    extra: dict[str, Raw] = {}


class FunctionTool(msgspec.Struct, frozen=True, tag="function", tag_field="tool", omit_defaults=True, kw_only=True):
    """`parameters` is a JSON Schema, as JSON."""

    name: str
    description: str | None = None
    parameters: Raw = ABSENT
    strict: bool | None = None
    cache_control: Raw = ABSENT
    extra: dict[str, Raw] = {}


class NativeTool(msgspec.Struct, frozen=True, tag="native", tag_field="tool", kw_only=True):
    """A provider's own tool (web search, code interpreter …): `type` and the whole object as JSON."""

    type: str
    raw: Raw


Tool = FunctionTool | NativeTool


class ToolChoice(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`named` forces the tool called `name`; `required` forces some tool."""

    mode: Literal["auto", "none", "required", "named"]
    name: str | None = None


class JsonSchemaFormat(msgspec.Struct, frozen=True, tag="json_schema", tag_field="type", omit_defaults=True, kw_only=True):
    name: str
    schema: Raw = ABSENT
    description: str | None = None
    strict: bool | None = None


class JsonObjectFormat(msgspec.Struct, frozen=True, tag="json_object", tag_field="type"):
    pass


class TextFormat(msgspec.Struct, frozen=True, tag="text", tag_field="type"):
    pass


ResponseFormat = TextFormat | JsonObjectFormat | JsonSchemaFormat


class Sampling(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """None is 'the provider's default', not a value."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    seed: int | None = None
    logit_bias: dict[str, float] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    n: int | None = None


class Reasoning(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`effort` is the provider's word (none, minimal, low, medium, high, xhigh …); `budget_tokens` where a number is asked.

    With neither, reasoning is on and its amount left to the model. `effort` none is off.
    `asked`: by a word of its own beside the effort, which in Anthropic's dialect is of the text too.
    """

    effort: str | None = None
    budget_tokens: int | None = None
    summary: str | None = None
    asked: bool = False


class ChatRequest(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`max_output_tokens` covers reasoning and visible text together. `include_usage`: the client wants usage in its stream.

    `dialect`: what the request was written in, which is what every `extra` in it belongs to.
    """

    dialect: str = "openai_chat"
    model: str
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    sampling: Sampling = Sampling()
    max_output_tokens: int | None = None
    stop: tuple[str, ...] = ()
    reasoning: Reasoning | None = None
    metadata: dict[str, str] = {}
    user: str | None = None
    stream: bool = False
    include_usage: bool = False
    extra: dict[str, Raw] = {}
