"""What single values of the configuration must look like: in words for the error, as a pattern for the JSON schema."""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, LiteralString
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    SecretStr,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import PydanticCustomError, core_schema


@dataclass(frozen=True)
class Free:
    """`price: free`: the word for prices of 0."""

    def _read(self, value: Any) -> Any:
        if value == "free":
            searches = {"web_search_usd": 0, "file_search_usd": 0, "tool_call_usd": 0}
            audio = {"audio_input_usd_per_mtok": 0, "audio_output_usd_per_mtok": 0}
            return {"input_usd_per_mtok": 0, "output_usd_per_mtok": 0, **searches, **audio}
        if isinstance(value, str):
            raise PydanticCustomError("like", "must be free, or {input_usd_per_mtok: …, output_usd_per_mtok: …}")
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_before_validator_function(self._read, handler(source))

    def __get_pydantic_json_schema__(self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [{"const": "free"}, handler(schema)]}


def later_values(*values: str) -> BeforeValidator:
    def refuse(value: Any) -> Any:
        if isinstance(value, dict | list) or value in values:
            raise PydanticCustomError("later", "this value is not supported yet")
        return value

    return BeforeValidator(refuse)


@dataclass(frozen=True)
class Like:
    """Text of a form that the error tells in words and the JSON schema as a pattern."""

    pattern: str
    words: LiteralString

    def _check(self, value: str) -> str:
        if not re.fullmatch(self.pattern, value):
            raise PydanticCustomError("like", self.words)
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema), "pattern": f"^{self.pattern}$"}


def _url(value: str) -> str:
    try:
        port = urlsplit(value).port
        value.encode("ascii")
    except ValueError as exc:
        raise PydanticCustomError("like", "is not a URL: the host or the port is not one") from exc
    if port == 0:
        raise PydanticCustomError("like", "is not a URL: there is no port 0")
    return value


def _host(value: str) -> str:
    try:
        value.encode("idna")
    except UnicodeError as exc:
        raise PydanticCustomError("like", "is not an address to listen on") from exc
    return value


def _header_name(value: str) -> str:
    if value.lower() in ("connection", "content-length", "content-type", "host", "transfer-encoding"):
        raise PydanticCustomError("like", "the gateway sets this header itself")
    return value


def key_text(value: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[\x21-\x7e]*", value.get_secret_value()):
        raise PydanticCustomError("like", "holds a space or a character that a key cannot have")
    return value


def client_key(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if text != text.strip() or not text.isprintable():
        raise PydanticCustomError("like", "is no key that a client could send: it has a space at an end, or a control character")
    return value


def drop(value: Any) -> Any:
    if value is True or value is False or value == "hints":
        return value
    raise PydanticCustomError("like", "must be true, false or hints")


def _redis_url(value: SecretStr) -> SecretStr:
    """Its password is why the URL is a secret: no error may show it."""
    text = value.get_secret_value()
    form = "must be redis://HOST:PORT/DATABASE, rediss:// for TLS, or unix:///PATH; with USER:PASSWORD@ if need be"
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError as exc:
        raise PydanticCustomError("like", form) from exc
    is_server = url.scheme in ("redis", "rediss") and url.hostname and port != 0 and re.fullmatch(r"(/\d*)?", url.path)
    is_socket = url.scheme == "unix" and len(url.path) > 1
    if not (is_server or is_socket) or not re.fullmatch(r"[\x21-\x7e]+", text):
        raise PydanticCustomError("like", form)
    return value


def _region(value: str) -> str:
    if value in ("any", "local_only", "local"):
        raise PydanticCustomError("like", "is not a region; write residency: any or residency: local_only, without a list")
    return value


def residency_word(value: Any) -> Any:
    if value not in ("any", "local_only"):
        raise PydanticCustomError("like", "must be any, local_only, or a list of regions such as [eu, us-east-1]")
    return value


def _after(value: Any) -> Any:
    try:
        if value == "p95" or (not isinstance(value, bool) and 1 <= int(value) <= 86_400_000):
            return value if value == "p95" else int(value)
    except (TypeError, ValueError):
        pass
    raise PydanticCustomError("like", "must be p95, or milliseconds from 1 to 86400000")


WORD, LIST, SECTION = "[word]", "[list]", "[section]"  # steps that pydantic puts in an error's path for the shape it chose; no keys of the file
SHAPES = frozenset({WORD, LIST, SECTION})


def by_shape(words: str) -> Discriminator:
    """Chooses among a union's members by the value's shape, so that an error is of the member that was meant. `words`: when none is."""

    def shape(value: Any) -> str:
        if isinstance(value, dict | BaseModel):
            return SECTION
        return LIST if isinstance(value, list | tuple) else WORD

    return Discriminator(shape, custom_error_type="like", custom_error_message=words)


Seconds = Annotated[float, Field(gt=0, le=86_400)]
Usd = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]
PriceUsd = Annotated[float, Field(ge=0, le=10_000, allow_inf_nan=False)]  # for a million tokens, for a search: so that no sum of costs is too large
PositiveUsd = Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)]
Name = Annotated[
    str, Like(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", "it must be a letter or digit, then letters, digits, `_`, `.` and `-`, 100 in all at most")
]
ModelName = Annotated[str, Field(max_length=200), Like(r"(?=.)[^*\s]*\*?[^*\s]*", "it must have no space and one `*` at most, and not be empty")]
PlaceName = Annotated[str, Like(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}", "it must be letters, digits, `.`, `_`, `:` and `-`")]
Host = Annotated[str, Field(min_length=1), AfterValidator(_host)]
Url = Annotated[str, Like(r"https?://[^/?#@\s]+(/[^?#\s]*)?", "must be http://HOST or https://HOST, with a path if need be"), AfterValidator(_url)]
HeaderName = Annotated[str, Like(r"[A-Za-z0-9-]+", "it must be letters, digits and `-`"), AfterValidator(_header_name)]
DatabaseUrl = Annotated[
    str,  # with a password: shown by ledger.database.shown alone
    Like(
        r"(sqlite:///.+|postgresql://[^/?#\s]*/[^/?#\s]+(\?[^#\s]*)?)",
        "must be sqlite:///PATH or postgresql://USER:PASSWORD@HOST/DATABASE, with /, ? and # in a password as %2F, %3F and %23",
    ),
]
RedisUrl = Annotated[SecretStr, AfterValidator(_redis_url)]
Region = Annotated[PlaceName, AfterValidator(_region)]
Share = Annotated[float, Field(ge=0, le=1)]
Milliseconds = Annotated[int, Field(gt=0, le=86_400_000)]
HedgeAfter = Annotated[Literal["p95"] | Milliseconds, BeforeValidator(_after)]
HeaderValue = Annotated[str, Like(r"([\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?)?", "must be printable ASCII, without a space at either end")]
