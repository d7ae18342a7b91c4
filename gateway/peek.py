"""A request's bytes to a `Call`: valid JSON of bounded depth, a few top-level types checked, nothing else decoded."""

import msgspec

from contract.call import Call
from contract.errors import InvalidRequest

MAX_DEPTH = 64
MAX_BRACKETS = 100_000
MAX_MEMBERS = 200_000  # of all objects together: bounds the work that reading them is
MAX_CHOICES = 128

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_string = msgspec.json.Decoder(str)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_NOT_OPENING = bytes(set(range(256)) - set(b"[{"))
_TO_BRACES = bytes.maketrans(b"[]", b"{}")


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


_stream_options = msgspec.json.Decoder(_StreamOptions | None)

_NUMBER = frozenset(b"-0123456789")
_KINDS: dict[str, frozenset[int]] = {
    "a string": frozenset(b'"'),
    "a number": _NUMBER,
    "true or false": frozenset(b"tf"),
    "an array": frozenset(b"["),
    "an object": frozenset(b"{"),
    "a string or an array of strings": frozenset(b'"['),
    "a string or an object": frozenset(b'"{'),
}
# field -> what it must be; null is allowed for all but the required ones (openapi: CreateChatCompletionRequest)
FIELD_KINDS: dict[str, str] = {
    **dict.fromkeys(("reasoning_effort", "service_tier", "user", "prompt_cache_key", "safety_identifier", "verbosity"), "a string"),
    **dict.fromkeys(
        (
            "temperature",
            "top_p",
            "n",
            "max_tokens",
            "max_completion_tokens",
            "presence_penalty",
            "frequency_penalty",
            "seed",
            "top_logprobs",
        ),
        "a number",
    ),
    **dict.fromkeys(("stream", "logprobs", "parallel_tool_calls", "store"), "true or false"),
    **dict.fromkeys(("messages", "tools", "functions", "modalities"), "an array"),
    **dict.fromkeys(("stream_options", "response_format", "logit_bias", "metadata", "audio", "prediction", "web_search_options"), "an object"),
    "stop": "a string or an array of strings",
    "tool_choice": "a string or an object",
    "function_call": "a string or an object",
}
_FIRST_BYTES = {field: _KINDS[kind] for field, kind in FIELD_KINDS.items()}


def read_chat_call(request_id: str, body: bytes) -> Call:
    """Reads an OpenAI chat completions request as far as routing needs it. Raises InvalidRequest, with `param` where one field is at fault."""
    fields = _decode(body)
    model = _model(fields)
    if "messages" not in fields:
        raise InvalidRequest("`messages` is missing", param="messages")
    for name, raw in fields.items():
        allowed = _FIRST_BYTES.get(name)
        if allowed is not None and memoryview(raw)[0] not in allowed:
            _refuse_kind(name, bytes(raw))
    if _is_empty_array(bytes(fields["messages"])):
        raise InvalidRequest("`messages` must hold at least one message", param="messages")
    return Call(
        request_id=request_id,
        dialect="openai_chat",
        model=model,
        stream=_is_true(fields, "stream"),
        include_usage="stream_options" in fields and _includes_usage(bytes(fields["stream_options"])),
        choices=_choices(bytes(fields["n"])) if "n" in fields else 1,
        body=body,
        fields=fields,
    )


def _decode(body: bytes) -> dict[str, msgspec.Raw]:
    if not body:
        raise InvalidRequest("the request has no body; send a JSON object")
    if len(body) > MAX_MEMBERS and body.count(b":") > MAX_MEMBERS and outside_strings(body).count(b":") > MAX_MEMBERS:
        raise InvalidRequest(f"the body's objects have more than {MAX_MEMBERS} members")
    try:
        if not body.isascii():
            body.decode()
        fields = _fields.decode(body)
    except UnicodeDecodeError as exc:
        raise InvalidRequest(f"the body is not valid UTF-8 (byte {exc.start})") from exc
    except RecursionError as exc:
        raise InvalidRequest(f"the body is nested more than {MAX_DEPTH} levels deep") from exc
    except msgspec.ValidationError as exc:
        raise InvalidRequest("the body must be a JSON object") from exc
    except msgspec.DecodeError as exc:
        raise InvalidRequest(f"the body is not valid JSON: {exc}") from exc
    if len(body.translate(None, _NOT_OPENING)) > MAX_DEPTH and too_deep(body, MAX_DEPTH):
        raise InvalidRequest(f"the body is nested more than {MAX_DEPTH} levels deep")
    return fields


def outside_strings(body: bytes) -> bytes:
    """What of a JSON text is not in its strings; of a text that is no JSON, anything."""
    if b'\\"' in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    return b"".join(body.split(b'"')[::2])


def too_deep(body: bytes, limit: int) -> bool:
    """Whether valid JSON nests deeper than `limit`: the strings go, then all but brackets, then these from the innermost pair outwards."""
    brackets = outside_strings(body).translate(_TO_BRACES, _NOT_BRACKETS)
    if len(brackets) > MAX_BRACKETS:
        raise InvalidRequest(f"the body holds more than {MAX_BRACKETS // 2} arrays and objects")
    for _ in range(limit):
        if not brackets:
            return False
        brackets = brackets.replace(b"{}", b"")  # takes the innermost level away
    return bool(brackets)


def _model(fields: dict[str, msgspec.Raw]) -> str:
    raw = fields.get("model")
    if raw is None:
        raise InvalidRequest("`model` is missing", param="model")
    try:
        model = _string.decode(raw)
    except msgspec.DecodeError as exc:
        raise InvalidRequest("`model` must be a string", param="model") from exc
    if not model:
        raise InvalidRequest("`model` is empty", param="model")
    return model


def _refuse_kind(name: str, raw: bytes) -> None:
    if raw == b"null" and name != "messages":
        return
    raise InvalidRequest(f"`{name}` must be {FIELD_KINDS[name]}", param=name)


def _is_empty_array(raw: bytes) -> bool:
    return raw[1:].lstrip()[:1] == b"]"


def _is_true(fields: dict[str, msgspec.Raw], name: str) -> bool:
    raw = fields.get(name)
    return raw is not None and bytes(raw) == b"true"


def _includes_usage(raw: bytes) -> bool:
    try:
        options = _stream_options.decode(raw)
    except msgspec.DecodeError as exc:
        raise InvalidRequest("`stream_options.include_usage` must be true or false", param="stream_options.include_usage") from exc
    return options is not None and options.include_usage is True


def _choices(raw: bytes) -> int:
    if raw == b"null":
        return 1
    if not raw.isdigit() or not 1 <= int(raw[:4]) <= MAX_CHOICES:
        raise InvalidRequest(f"`n` must be a whole number from 1 to {MAX_CHOICES}", param="n")
    return int(raw)
