"""A request's bytes to a `Call`: valid JSON of bounded depth, a few top-level types checked, nothing else decoded.

One `Form` for each endpoint says what is required there and of what type the top-level fields are.
"""

import re
from collections.abc import Mapping

import msgspec

from contract.call import Call, Dialect
from contract.errors import InvalidRequest
from gateway.scan import LONG, SIGNS, scan
from providers.multipart import form_fields

MAX_DEPTH = 64
MAX_BRACKETS = 100_000
MAX_MEMBERS = 200_000  # of all objects together: bounds the work that reading them is
MAX_CHOICES = 128

NEVER = rb"(?!)"
NO_NAMES: frozenset[bytes] = frozenset()

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_string = msgspec.json.Decoder(str)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_TELLS_NOTHING = bytes(set(range(256)) - set(b'[]{}:,"\\/bfnrtu'))  # what may follow a backslash stays, so that it escapes nothing else
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
    "a string or an array": frozenset(b'"['),
    "a string or an array of strings": frozenset(b'"['),
    "a string or an object": frozenset(b'"{'),
}


class Form(msgspec.Struct, frozen=True, kw_only=True):
    """`kinds`: field -> what it must be; null is allowed for all but the `required` ones. `filled`: arrays that must hold something.

    `default_model`: the one that is meant where the client names none.
    `signs`, `sign_fields`: byte strings, and top-level fields, of which a body that holds state of an earlier answer has one.
    `path`: what follows the base URL at a provider. `passed_on`: the client's headers that go on to a provider of the same dialect.
    """

    dialect: Dialect
    path: str
    kinds: Mapping[str, str]
    required: tuple[str, ...] = ()
    filled: tuple[str, ...] = ()
    passed_on: frozenset[bytes] = frozenset()
    multipart: bool = False
    default_model: str | None = None
    signs: tuple[bytes, ...] = ()
    sign_fields: frozenset[str] = frozenset()

    @property
    def first_bytes(self) -> dict[str, frozenset[int]]:
        return {field: _KINDS[kind] for field, kind in self.kinds.items()}


def _kinds(**fields: str) -> dict[str, str]:
    """From `a_string="x y z"` to {"x": "a string", …}."""
    return {field: kind.replace("_", " ") for kind, names in fields.items() for field in names.split()}


_BETA = frozenset({b"anthropic-beta", b"anthropic-version"})
_ANTHROPIC_SIGNS = (b'"signature"', b'"redacted_thinking"', b'"encrypted_index"', b'"file_id"')
CHAT = Form(  # openapi: CreateChatCompletionRequest
    dialect="openai_chat",
    path="/chat/completions",
    required=("messages",),
    filled=("messages",),
    signs=(b'"reasoning_signature"', b'"thought_signature"', b'"reasoning_details"', b'"file_id"'),  # our seals stand in signatures too
    kinds=_kinds(
        a_string="reasoning_effort service_tier user prompt_cache_key safety_identifier verbosity",
        a_number="temperature top_p n max_tokens max_completion_tokens presence_penalty frequency_penalty seed top_logprobs",
        true_or_false="stream logprobs parallel_tool_calls store",
        an_array="messages tools functions modalities",
        an_object="stream_options response_format logit_bias metadata audio prediction web_search_options",
        a_string_or_an_array_of_strings="stop",
        a_string_or_an_object="tool_choice function_call",
    ),
)
COMPLETIONS = Form(  # openapi: CreateCompletionRequest
    dialect="openai_completions",
    path="/completions",
    required=("prompt",),
    kinds=_kinds(
        a_string="suffix user",
        a_number="temperature top_p n best_of max_tokens presence_penalty frequency_penalty seed logprobs",
        true_or_false="stream echo",
        an_object="stream_options logit_bias",
        a_string_or_an_array="prompt",
        a_string_or_an_array_of_strings="stop",
    ),
)
RESPONSES = Form(  # openapi: CreateResponse
    dialect="openai_responses",
    path="/responses",
    signs=(b'"encrypted_content"', b'"file_id"'),
    sign_fields=frozenset({"previous_response_id", "conversation"}),
    kinds=_kinds(
        a_string="previous_response_id service_tier user prompt_cache_key safety_identifier truncation",
        a_number="temperature top_p max_output_tokens max_tool_calls top_logprobs",
        true_or_false="stream store background parallel_tool_calls",
        an_array="tools include",
        an_object="text reasoning metadata stream_options",
        a_string_or_an_array="input instructions",
        a_string_or_an_object="tool_choice conversation",
    ),
)
EMBEDDINGS = Form(  # openapi: CreateEmbeddingRequest
    dialect="openai_embeddings",
    path="/embeddings",
    required=("input",),
    filled=("input",),
    kinds=_kinds(a_string="encoding_format user", a_number="dimensions", a_string_or_an_array="input"),
)
MESSAGES = Form(  # anthropic: MessageCreateParams
    dialect="anthropic_messages",
    path="/messages",
    required=("messages", "max_tokens"),
    filled=("messages",),
    passed_on=_BETA,
    signs=_ANTHROPIC_SIGNS,
    sign_fields=frozenset({"container"}),
    kinds=_kinds(
        a_string="service_tier",
        a_number="max_tokens temperature top_p top_k",
        true_or_false="stream",
        an_array="messages tools stop_sequences mcp_servers",
        an_object="thinking tool_choice metadata output_config",
        a_string_or_an_array="system",
    ),
)
COUNT_TOKENS = Form(
    dialect="anthropic_count_tokens",
    path="/messages/count_tokens",
    required=("messages",),
    filled=("messages",),
    passed_on=_BETA,
    signs=_ANTHROPIC_SIGNS,
    kinds=_kinds(an_array="messages tools", an_object="thinking tool_choice", a_string_or_an_array="system"),
)


def passing(path: str, *, multipart: bool = False, default_model: str | None = None, like: Form | None = None) -> Form:
    """An endpoint whose bodies only the provider reads. `like`: whose bodies hold state of an earlier answer in the same way."""
    return Form(
        dialect="passthrough",
        path=path,
        kinds=_kinds(true_or_false="stream"),
        multipart=multipart,
        default_model=default_model,
        signs=like.signs if like is not None else (),
        sign_fields=like.sign_fields if like is not None else frozenset(),
    )


Headers = list[tuple[bytes, bytes]]


class Reader:
    """Reads one endpoint's requests. Built once; `read` runs for every request."""

    def __init__(self, form: Form) -> None:
        self.form = form
        self._first_bytes = form.first_bytes
        self._needs = tuple((name, name in form.filled) for name in form.required)
        self._sign_fields = form.sign_fields
        self._sign = re.compile(b"|".join(map(re.escape, form.signs)) or NEVER).search
        self._looked_for = re.compile(b"|".join(map(re.escape, (*SIGNS, *form.signs)))).search
        self._named = frozenset(sign.strip(b'"') for sign in form.signs)

    def read(self, request_id: str, body: bytes, headers: Headers) -> Call:
        """The call. Raises InvalidRequest, with `param` where one field is at fault."""
        form = self.form
        if form.multipart:
            return self._form_call(request_id, body, headers)
        fields = _decode(body)
        seen = scan(body)
        names = seen.names if seen is not None else self._names(body)
        if deeper(seen.outside, MAX_DEPTH) if seen is not None else body.count(b"[") + body.count(b"{") > MAX_DEPTH and too_deep(body, MAX_DEPTH):
            raise InvalidRequest(f"the body is nested more than {MAX_DEPTH} levels deep")
        model = _model(fields, form.default_model)
        first_bytes = self._first_bytes
        for name, raw in fields.items():
            allowed = first_bytes.get(name)
            if allowed is not None and memoryview(raw)[0] not in allowed:
                self._refuse_kind(name, bytes(raw))
        for name, must_hold in self._needs:
            if name not in fields:
                raise InvalidRequest(f"`{name}` is missing", param=name)
            if must_hold and _is_empty_array(bytes(fields[name])):
                raise InvalidRequest(f"`{name}` must hold at least one {'message' if name == 'messages' else 'entry'}", param=name)
        return Call(
            request_id=request_id,
            dialect=form.dialect,
            model=model,
            stream=_is_true(fields, "stream"),
            include_usage="stream_options" in fields and _includes_usage(bytes(fields["stream_options"])),
            choices=_choices(bytes(fields["n"])) if "n" in fields else 1,
            body=body,
            fields=fields,
            path=form.path,
            headers=tuple([pair for pair in headers if pair[0] in form.passed_on]) if form.passed_on else (),
            may_hold_state=self._may_hold_state(fields, body, names),
            names=names,
            longest=0 if seen is None else seen.longest,
        )

    def _names(self, body: bytes) -> frozenset[bytes] | None:
        """Of a body that was not scanned: none, where it is short and none stands in it that anybody looks for. None: whoever wants one must look."""
        return NO_NAMES if len(body) < LONG and self._looked_for(body) is None else None

    def _may_hold_state(self, fields: dict[str, msgspec.Raw], body: bytes, names: frozenset[bytes] | None) -> bool:
        if names is None:
            if self._sign(body) is not None:
                return True
        elif not names.isdisjoint(self._named):
            return True
        return not self._sign_fields.isdisjoint(fields)

    def _refuse_kind(self, name: str, raw: bytes) -> None:
        if raw == b"null" and name not in self.form.required:
            return
        raise InvalidRequest(f"`{name}` must be {self.form.kinds[name]}", param=name)

    def _form_call(self, request_id: str, body: bytes, headers: Headers) -> Call:
        content_type = next((value for name, value in headers if name == b"content-type"), b"")
        places = form_fields(body, content_type, "model", "stream")
        values = {name: body[start:end].decode("utf-8", "replace") for name, (start, end) in places.items()}
        if not values.get("model"):
            raise InvalidRequest("the form's field `model` is missing", param="model")
        return Call(
            request_id=request_id,
            dialect="passthrough",
            model=values["model"],
            stream=values.get("stream") == "true",
            include_usage=False,
            choices=1,
            body=body,
            fields={},
            path=self.form.path,
            content_type=content_type,
            may_hold_state=False,
        )


read_chat_call = Reader(CHAT).read


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
    return fields


def outside_strings(body: bytes) -> bytes:
    """The brackets, commas and colons of a JSON text that are not in its strings; of a text that is no JSON, anything."""
    body = body.translate(None, _TELLS_NOTHING)
    if b'\\"' in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    return b"".join(body.split(b'"')[::2])


def too_deep(body: bytes, limit: int) -> bool:
    """Whether valid JSON nests deeper than `limit`: the strings go, then all but brackets, then these from the innermost pair outwards."""
    return deeper(outside_strings(body), limit)


def deeper(outside: bytes, limit: int) -> bool:
    """The same of what stands outside strings."""
    brackets = outside.translate(_TO_BRACES, _NOT_BRACKETS)
    if len(brackets) > MAX_BRACKETS:
        raise InvalidRequest(f"the body holds more than {MAX_BRACKETS // 2} arrays and objects")
    for _ in range(limit):
        if not brackets:
            return False
        brackets = brackets.replace(b"{}", b"")  # takes the innermost level away
    return bool(brackets)


def _model(fields: dict[str, msgspec.Raw], default: str | None) -> str:
    raw = fields.get("model")
    if raw is None and default is not None:
        return default
    if raw is None:
        raise InvalidRequest("`model` is missing", param="model")
    try:
        model = _string.decode(raw)
    except msgspec.DecodeError as exc:
        raise InvalidRequest("`model` must be a string", param="model") from exc
    if not model:
        raise InvalidRequest("`model` is empty", param="model")
    return model


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
