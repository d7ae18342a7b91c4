"""The YAML contract as types. Frozen; unknown keys are errors; what a later version serves is refused, never ignored."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict


class Environment(BaseSettings):
    """What the process takes from its environment beside the file: `TURNOUT_BOOTSTRAP_KEY`."""

    model_config = SettingsConfigDict(env_prefix="TURNOUT_", extra="ignore", env_ignore_empty=True)

    bootstrap_key: SecretStr | None = Field(None, description="the bootstrap key, instead of one that is made and kept")


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


Later = Annotated[Any, AfterValidator(_not_yet)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]
Usd = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ServerSettings(_Section):
    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65535, description="0: a free one")
    workers: Annotated[int, Field(ge=1, le=1, description="more than one is not supported yet")] = 1
    max_body_bytes: int = Field(32 << 20, ge=1024, le=1 << 30, description="a larger request is refused with 413")
    body_idle_s: Seconds = Field(30.0, description="a request whose body does not come on for so long is refused with 408")


class StateSettings(_Section):
    database: str = Field("sqlite:///var/turnout.db", pattern="^sqlite:///.", description="the ledger; its folder also holds the bootstrap key")
    redis: Later = Field(None, description="not supported yet")


class TimeoutSettings(_Section):
    connect_s: Seconds = 3.0
    headers_s: Seconds | None = Field(None, description="until the response's head; default 60 s for a stream, `total_s` for a unary answer")
    first_token_s: Seconds = 60.0
    idle_s: Seconds = Field(60.0, description="between two pieces of an answer")
    total_s: Seconds = 600.0


class ProviderSettings(_Section):
    kind: str = Field(description="a row of the registry: `turnout providers` lists them")
    base_url: str | None = Field(None, pattern=r"^https?://[^/?#@\s]+[^?#\s]*$", description="default: the kind's own")
    api_key: SecretStr | None = None
    timeouts: TimeoutSettings = TimeoutSettings()
    transport: Literal["native", "httpx"] = Field("native", description="httpx: the general client, which honours proxy variables")
    headers: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")], Annotated[str, Field(pattern=r"^[\x20-\x7e]*$")]] = Field(
        {}, description="constant headers added to every request"
    )


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
    commit_after_ms: Annotated[int, Field(ge=0, le=0, description="more than 0 is not supported yet")] = 0
    slo: Later = Field(None, description="not supported yet")
    hedge: Later = Field(None, description="not supported yet")
    max_usd_per_request: Later = Field(None, description="not supported yet")


class TeamSettings(_Section):
    policy: str | None = Field(None, description="instead of each model's own")
    models: tuple[str, ...] | None = Field(None, description="entries of `models` that the team may use; default: all")
    keys: tuple[Annotated[SecretStr, Field(min_length=1)], ...] = ()
    limits: Later = Field(None, description="not supported yet")
    budget: Later = Field(None, description="not supported yet")


class Settings(_Section):
    server: ServerSettings = ServerSettings()
    state: StateSettings = StateSettings()
    providers: dict[Name, ProviderSettings] = {}
    engines: dict[Name, EngineSettings] = {}
    models: dict[Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^*\s]*\*?[^*\s]*$")], ModelSettings] = {}
    policies: dict[Name, PolicySettings] = {}
    teams: dict[Name, TeamSettings] = {}
