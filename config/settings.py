"""The YAML contract as types. Frozen; unknown keys are errors; what a later version serves is refused, never ignored."""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, LiteralString
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    SecretStr,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import PydanticCustomError, core_schema
from pydantic_settings import BaseSettings, SettingsConfigDict


def _not_yet(value: Any) -> Any:
    if value is None:
        return None
    raise PydanticCustomError("later", "not supported yet: this version would ignore it, so take it out")


def _later_values(*values: str) -> BeforeValidator:
    def refuse(value: Any) -> Any:
        if isinstance(value, dict | list) or value in values:
            raise PydanticCustomError("later", "this value is not supported yet")
        return value

    return BeforeValidator(refuse)


def _only(value: int) -> AfterValidator:
    def refuse(given: int) -> int:
        if given > value:
            raise PydanticCustomError("later", "more than {value} is not supported yet", {"value": value})
        return given

    return AfterValidator(refuse)


@dataclass(frozen=True)
class _Like:
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


def _key_text(value: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[\x21-\x7e]*", value.get_secret_value()):
        raise PydanticCustomError("like", "holds a space or a character that a key cannot have")
    return value


def _client_key(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if text != text.strip() or not text.isprintable():
        raise PydanticCustomError("like", "is no key that a client could send: it has a space at an end, or a control character")
    return value


def _drop(value: Any) -> Any:
    if value is True or value is False or value == "hints":
        return value
    raise PydanticCustomError("like", "must be true, false or hints")


Later = Annotated[Any, AfterValidator(_not_yet), WithJsonSchema({"type": "null"})]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Usd = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]
Name = Annotated[
    str, _Like(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", "it must be a letter or digit, then letters, digits, `_`, `.` and `-`, 100 in all at most")
]
ModelName = Annotated[str, Field(max_length=200), _Like(r"(?=.)[^*\s]*\*?[^*\s]*", "it must have no space and one `*` at most, and not be empty")]
PlaceName = Annotated[str, _Like(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}", "it must be letters, digits, `.`, `_`, `:` and `-`")]
Host = Annotated[str, Field(min_length=1), AfterValidator(_host)]
Url = Annotated[str, _Like(r"https?://[^/?#@\s]+(/[^?#\s]*)?", "must be http://HOST or https://HOST, with a path if need be"), AfterValidator(_url)]
HeaderName = Annotated[str, _Like(r"[A-Za-z0-9-]+", "it must be letters, digits and `-`"), AfterValidator(_header_name)]
HeaderValue = Annotated[str, _Like(r"([\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?)?", "must be printable ASCII, without a space at either end")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_flag(cls, value: Any, info: ValidationInfo) -> Any:
        """There is but one flag here, and `port: yes` would be port 1."""
        if isinstance(value, bool) and cls.model_fields[info.field_name or ""].annotation not in (Any, bool | Literal["hints"]):
            raise PydanticCustomError("flag", "must not be true or false (YAML reads yes, no, on and off so too); put text in quotes")
        return value


class ServerSettings(_Section):
    host: Host = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65535, description="0: a free one")
    workers: Annotated[int, _only(1), Field(ge=1, description="more than one is not supported yet", json_schema_extra={"maximum": 1})] = 1
    max_body_bytes: int = Field(32 << 20, ge=1024, le=1 << 30, description="a larger request is refused with 413")
    body_idle_s: Seconds = Field(30.0, description="a request whose body does not come on for so long is refused with 408")


class StateSettings(_Section):
    database: Annotated[str, _Like(r"sqlite:///.+", "must be sqlite:///PATH; other databases are not supported yet")] = Field(
        "sqlite:///var/turnout.db", description="the ledger; its folder also holds the bootstrap key"
    )
    redis: Later = Field(None, description="not supported yet")
    responses_days: int = Field(30, ge=0, le=3650, description="how long an answer that `previous_response_id` may name is kept; 0: not at all")


class TimeoutSettings(_Section):
    connect_s: Seconds = 3.0
    headers_s: Seconds | None = Field(None, description="until the response's head; default 60 s for a stream, `total_s` for a unary answer")
    first_token_s: Seconds = 60.0
    idle_s: Seconds = Field(60.0, description="between two pieces of an answer")
    total_s: Seconds = 600.0


class CredentialsSettings(_Section):
    """Amazon's access key, or a Google service account's key file."""

    access_key_id: str | None = None
    secret_access_key: SecretStr | None = None
    session_token: SecretStr | None = None
    service_account: SecretStr | None = Field(None, description="the key file's JSON text: `${file:PATH}`")

    @model_validator(mode="after")
    def _whole(self) -> "CredentialsSettings":
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise PydanticCustomError("credentials", "access_key_id and secret_access_key go together")
        if (self.access_key_id is None) == (self.service_account is None):
            raise PydanticCustomError("credentials", "must hold either access_key_id and secret_access_key, or service_account")
        return self


class ProviderSettings(_Section):
    kind: str = Field(description="a row of the registry: `turnout providers` lists them")
    base_url: Url | None = Field(None, description="default: the kind's own")
    api_key: Annotated[SecretStr, AfterValidator(_key_text)] | None = None
    credentials: CredentialsSettings | None = Field(None, description="where the key is not one text")
    region: PlaceName | None = Field(None, description="fills `{region}` of the kind's base URL, and signs for it")
    project: PlaceName | None = Field(None, description="fills `{project}` of the kind's base URL")
    api_version: PlaceName | None = Field(None, description="fills `{api_version}` of the kind's paths")
    wire: Literal["openai_chat", "openai_responses", "anthropic_messages", "gemini", "bedrock", "cohere", "mistral"] | None = Field(
        None, description="what requests of dialects that the provider does not speak are translated to; default: the kind's own"
    )
    dialects: (
        tuple[
            Literal["openai_chat", "openai_completions", "openai_responses", "openai_embeddings", "anthropic_messages", "anthropic_count_tokens"],
            ...,
        ]
        | None
    ) = Field(None, description="the dialects that the provider itself speaks; default: the kind's own")
    timeouts: TimeoutSettings = TimeoutSettings()
    transport: Literal["native", "httpx"] = Field("native", description="httpx: the general client, which honours proxy variables")
    headers: dict[HeaderName, HeaderValue] = Field({}, repr=False, description="constant headers added to every request")

    @model_validator(mode="after")
    def _one_key(self) -> "ProviderSettings":
        if self.credentials is not None and self.api_key is not None and self.api_key.get_secret_value():
            raise PydanticCustomError("credentials", "has both an api_key and credentials; keep one")
        return self


class EngineSettings(_Section):
    kind: Annotated[Literal["llamacpp"], _later_values("vllm")]
    model: str = Field(description="`builtin:NAME` or the path of a GGUF file")
    slots: int = Field(8, ge=1, le=256, description="requests computed at once")
    context: int = Field(2048, ge=64, description="tokens of prompt and answer together, for each slot")
    max_prompt_tokens: int | None = Field(None, ge=1, description="default: three quarters of `context`")
    threads: int = Field(0, ge=0, description="0: every CPU")
    max_queue: int = Field(64, ge=0, description="requests that may wait for a slot")
    max_wait_s: Seconds = 30.0
    quantization: Later = Field(None, description="not supported yet")
    gpu_usd_per_hour: Later = Field(None, description="not supported yet")

    @model_validator(mode="after")
    def _prompt_fits(self) -> "EngineSettings":
        if self.prompt_tokens >= self.context:
            raise PydanticCustomError("prompt", "max_prompt_tokens must be below context, which the answer shares")
        return self

    @property
    def prompt_tokens(self) -> int:
        return self.max_prompt_tokens or self.context * 3 // 4


class PriceSettings(_Section):
    """US dollars for a million tokens."""

    input_usd_per_mtok: Usd
    output_usd_per_mtok: Usd
    cache_read_usd_per_mtok: Usd | None = None
    cache_write_usd_per_mtok: Usd | None = None
    request_usd: Usd = 0.0


class TargetSettings(_Section):
    provider: str | None = None
    engine: str | None = None
    model: str | None = Field(None, min_length=1, description="the name sent upstream; default: the one asked for. `*` is what a pattern matched")
    price: PriceSettings | None = Field(None, description="default: genai-prices")

    @model_validator(mode="after")
    def _one_backend(self) -> "TargetSettings":
        if (self.provider is None) == (self.engine is None):
            raise PydanticCustomError("target", "a target names either a provider or an engine")
        if self.engine is not None and self.price is not None:
            raise PydanticCustomError("target", "an engine's price is not supported yet: its cost is unknown")
        return self


class ModelSettings(_Section):
    policy: str | None = None
    targets: tuple[TargetSettings, ...] = Field(min_length=1)


class RetrySettings(_Section):
    max_attempts: int = Field(3, ge=1, le=10, description="of one request in all")
    budget: Later = Field(None, description="not supported yet")


class PolicySettings(_Section):
    objective: Annotated[Literal["ordered"], _later_values("cheapest", "fastest", "throughput", "weighted")] = "ordered"
    fallback: Literal["any", "local", "none"] = "any"
    residency: Annotated[Literal["any", "local_only"], _later_values()] = "any"
    retry: RetrySettings = RetrySettings()
    recovery: Annotated[Literal["error"], _later_values("hold", "continue")] = "error"
    commit_after_ms: Annotated[int, _only(0), Field(ge=0, description="more than 0 is not supported yet", json_schema_extra={"maximum": 0})] = 0
    drop_unsupported: Annotated[bool | Literal["hints"], BeforeValidator(_drop)] = Field(
        "hints",
        description="of what a target cannot honour, leave out and name in `x-turnout-dropped`: false: nothing, refuse it; "
        "hints: what does not change the answer; true: everything",
    )
    slo: Later = Field(None, description="not supported yet")
    hedge: Later = Field(None, description="not supported yet")
    max_usd_per_request: Later = Field(None, description="not supported yet")


class TeamSettings(_Section):
    policy: str | None = Field(None, description="instead of each model's own")
    models: tuple[str, ...] | None = Field(None, description="entries of `models` that the team may use; default: all")
    keys: tuple[Annotated[SecretStr, Field(min_length=1), AfterValidator(_client_key)], ...] = ()
    limits: Later = Field(None, description="not supported yet")
    budget: Later = Field(None, description="not supported yet")


class Settings(_Section):
    server: ServerSettings = ServerSettings()
    state: StateSettings = StateSettings()
    providers: dict[Name, ProviderSettings] = {}
    engines: dict[Name, EngineSettings] = {}
    models: dict[ModelName, ModelSettings] = {}
    policies: dict[Name, PolicySettings] = {}
    teams: dict[Name, TeamSettings] = {}


class Environment(BaseSettings):
    """What the process takes from its environment beside the file: `TURNOUT_BOOTSTRAP_KEY`."""

    model_config = SettingsConfigDict(env_prefix="TURNOUT_", extra="ignore", env_ignore_empty=True)

    bootstrap_key: Annotated[SecretStr, AfterValidator(_client_key)] | None = Field(
        None, description="the bootstrap key, instead of one that is made and kept"
    )
