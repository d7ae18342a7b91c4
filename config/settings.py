"""The YAML contract as types. Frozen; unknown keys are errors; what a later version serves is refused, never ignored."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, Tag, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from config.engines import EngineSettings
from config.section import Section
from config.telemetry import MetricsSettings, TelemetrySettings
from config.tenancy import AdminSettings, AlertSettings, BatchSettings, CacheSettings, OrganisationSettings, TeamSettings
from config.values import (
    LIST,
    SECTION,
    WORD,
    DatabaseUrl,
    Free,
    HeaderName,
    HeaderValue,
    HedgeAfter,
    Host,
    Milliseconds,
    ModelName,
    Name,
    PlaceName,
    PositiveUsd,
    PriceUsd,
    RedisUrl,
    Region,
    Seconds,
    Share,
    Url,
    by_shape,
    client_key,
    drop,
    key_text,
    residency_word,
)

ObjectiveName = Literal["ordered", "cheapest", "fastest", "throughput", "weighted"]


class ServerSettings(Section):
    host: Host = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65535, description="0: a free one")
    workers: int = Field(1, ge=1, le=256, description="processes that serve; more than one need a `state.redis` for limits and budgets")
    max_body_bytes: int = Field(32 << 20, ge=1024, le=1 << 30, description="a larger request is refused with 413")
    body_idle_s: Seconds = Field(30.0, description="a request whose body does not come on for so long is refused with 408")


class StateSettings(Section):
    database: DatabaseUrl = Field(
        "sqlite:///var/turnout.db", repr=False, description="the ledger; a file's folder, else `var`, also holds the bootstrap key"
    )
    redis: RedisUrl | None = Field(None, description="shares limits, budgets, cached answers and what is learned of targets between processes")
    redis_deadline_ms: int = Field(50, ge=1, le=10_000, description="nobody waits for Redis longer; one that takes longer is taken as lost")
    on_store_loss: Literal["local", "closed", "open"] = Field(
        "local", description="without its Redis a process admits by its share of the limits and budgets, nobody, or everybody"
    )
    cache_mb: int = Field(64, ge=0, le=1 << 20, description="memory for cached answers, in each process")
    responses_days: int = Field(30, ge=0, le=3650, description="how long an answer that `previous_response_id` may name is kept; 0: not at all")


class LedgerSettings(Section):
    retention_days: int | None = Field(
        None, ge=1, le=36500, description="whole days after which attempts are deleted; their hours' and days' sums stay. Default: never"
    )
    spool: str | None = Field(None, min_length=1, description="the folder of rows that wait for the database; default: beside its file")


class TimeoutSettings(Section):
    connect_s: Seconds = 3.0
    headers_s: Seconds | None = Field(None, description="until the response's head; default 60 s for a stream, `total_s` for a unary answer")
    first_token_s: Seconds = 60.0
    idle_s: Seconds = Field(60.0, description="between two pieces of an answer; comments, pings and empty deltas of a stream are none")
    total_s: Seconds = 600.0


class PolicyTimeoutSettings(Section):
    """A provider's clocks, where the policy has its own."""

    connect_s: Seconds | None = None
    headers_s: Seconds | None = None
    first_token_s: Seconds | None = None
    idle_s: Seconds | None = None
    total_s: Seconds | None = None


class CredentialsSettings(Section):
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


class ProviderBatchSettings(Section):
    """A provider's batch API."""

    use: bool = Field(True, description="false: its batch API is not used; rows of batches are asked as live calls")
    turnaround_h: Annotated[float, Field(gt=0, le=168)] = Field(24.0, description="hours in which a job is counted on to end")
    percent_off: int | None = Field(None, ge=0, le=100, description="of the price of the same request made live; default: what the provider says")
    bucket: PlaceName | None = Field(None, description="Bedrock: the S3 bucket that its jobs read and write")
    prefix: str = Field("turnout", pattern=r"^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$", description="Bedrock: of every key in the bucket")
    role_arn: str | None = Field(None, min_length=1, description="Bedrock: the role as which a job reads and writes the bucket")
    control_url: Url | None = Field(None, description="Bedrock: in place of Amazon's own address; `{region}` is filled in")
    bucket_url: Url | None = Field(None, description="Bedrock: the bucket's, in place of Amazon's own; `{region}`, `{bucket}` are filled in")


class ProviderSettings(Section):
    kind: str = Field(description="a row of the registry: `turnout providers` lists them")
    base_url: Url | None = Field(None, description="default: the kind's own")
    api_key: Annotated[SecretStr, AfterValidator(key_text)] | None = None
    api_keys: tuple[Annotated[SecretStr, AfterValidator(key_text)], ...] | None = Field(
        None, min_length=1, description="several keys in turn, instead of api_key; one that is limited or spent rests while the others go on"
    )
    credentials: CredentialsSettings | None = Field(None, description="where the key is not one text")
    region: PlaceName | None = Field(
        None, description="where it computes, for a policy's residency; fills `{region}` of the kind's base URL, and signs for it"
    )
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
    metrics: Url | None = Field(
        None, description="the Prometheus page of the engines behind it (vLLM, SGLang, llama.cpp); the load that it tells is routed by"
    )
    transport: Literal["native", "httpx"] = Field("native", description="httpx: the general client, which honours proxy variables")
    batch: ProviderBatchSettings = ProviderBatchSettings()
    headers: dict[HeaderName, HeaderValue] = Field({}, repr=False, description="constant headers added to every request")

    @model_validator(mode="after")
    def _one_way_in(self) -> "ProviderSettings":
        if self.credentials is not None and self.keys:
            raise PydanticCustomError("credentials", "has both an api_key and credentials; keep one")
        return self

    @field_validator("api_keys")
    @classmethod
    def _each_key_once(cls, value: tuple[SecretStr, ...] | None, info: ValidationInfo) -> tuple[SecretStr, ...] | None:
        if value is not None and info.data.get("api_key") is not None:
            raise PydanticCustomError("credentials", "stands beside an api_key; move that into the list")
        texts = [text for key in value or () if (text := key.get_secret_value())]
        if len(set(texts)) < len(texts):
            raise PydanticCustomError("credentials", "holds the same key twice; it would share one limit, so take one out")
        return value

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that are set; what a variable left empty is none."""
        given = self.api_keys if self.api_keys is not None else (self.api_key,)
        return tuple(text for key in given if key is not None and (text := key.get_secret_value()))


class PriceSettings(Section):
    """US dollars for a million tokens."""

    input_usd_per_mtok: PriceUsd
    output_usd_per_mtok: PriceUsd
    cache_read_usd_per_mtok: PriceUsd | None = None
    cache_write_usd_per_mtok: PriceUsd | None = None
    request_usd: PriceUsd = 0.0
    image_input_usd_per_mtok: PriceUsd | None = Field(None, description="default: as any input")
    image_output_usd_per_mtok: PriceUsd | None = Field(None, description="default: as any output")
    web_search_usd: PriceUsd | None = Field(None, description="of one search by the provider; default: not known, nor is the cost of what has one")
    file_search_usd: PriceUsd | None = Field(None, description="the same, of a search in files that the provider keeps")
    tool_call_usd: PriceUsd | None = Field(None, description="the same, of a call of any other tool that the provider runs and charges for")
    cache_write_1h_usd_per_mtok: PriceUsd | None = Field(None, description="of what is kept for an hour; default: as cache_write_usd_per_mtok")
    reasoning_usd_per_mtok: PriceUsd | None = Field(None, description="default: as any output")
    audio_input_usd_per_mtok: PriceUsd | None = Field(None, description="default: not known, nor is the cost of what has any")
    audio_output_usd_per_mtok: PriceUsd | None = Field(None, description="the same, of audio that is made")
    service_tiers: dict[str, Annotated[float, Field(ge=0, le=1_000)]] = Field(
        default_factory=dict,
        description="what an answer in such a tier costs, as a multiple: {flex: 0.5, priority: 2}; default: not known but of the standard tier",
    )


class TargetSettings(Section):
    provider: str | None = None
    engine: str | None = None
    model: str | None = Field(None, min_length=1, description="the name sent upstream; default: the one asked for. `*` is what a pattern matched")
    price: Annotated[PriceSettings, Free()] | None = Field(None, description="default: genai-prices; free: nothing is paid")
    weight: Annotated[float, Field(gt=0, le=1_000_000)] | None = Field(
        None, description="under `ordered`: its share of the requests that go first to one of the targets with a weight"
    )
    context: int | None = Field(None, ge=1, description="tokens of prompt and answer that it takes; default: what is known of the model")
    batch: bool = Field(True, description="false: rows of batches go there as live calls only, never by its provider's batch API")

    @model_validator(mode="after")
    def _one_backend(self) -> "TargetSettings":
        if (self.provider is None) == (self.engine is None):
            raise PydanticCustomError("target", "a target names either a provider or an engine")
        if self.engine is not None and self.price is not None:
            raise PydanticCustomError("target", "an engine's price is not supported yet: its cost is unknown")
        return self


class ModelSettings(Section):
    policy: str | None = None
    targets: tuple[TargetSettings, ...] = Field(min_length=1)


class RetrySettings(Section):
    max_attempts: int = Field(3, ge=1, le=10, description="of one request in all")
    budget: Share = Field(0.2, description="retries at a target, as a share of its recent requests")


class SloSettings(Section):
    """What is promised. Among the targets predicted to keep it the objective decides."""

    ttft_p95_ms: Milliseconds | None = Field(None, description="95 of 100 streams begin within it")
    tokens_per_s: Annotated[float, Field(gt=0, le=1_000_000)] | None = Field(None, description="an answer goes on at least so fast")
    deadline_ms: Milliseconds | None = Field(None, description="from the request's arrival to the answer's end")

    @model_validator(mode="after")
    def _something(self) -> "SloSettings":
        if self.ttft_p95_ms is None and self.tokens_per_s is None and self.deadline_ms is None:
            raise PydanticCustomError("slo", "must have at least one of ttft_p95_ms, tokens_per_s and deadline_ms")
        return self

    @field_validator("deadline_ms")
    @classmethod
    def _not_over_before_it_begins(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and value < (info.data.get("ttft_p95_ms") or 0):
            raise PydanticCustomError("slo", "is shorter than ttft_p95_ms, by which the answer may only begin; make it longer")
        return value


class WeightSettings(Section):
    """How much each thing counts; what is not named counts nothing."""

    cost: Annotated[float, Field(ge=0, le=1_000_000)] = 0.0
    latency: Annotated[float, Field(ge=0, le=1_000_000)] = 0.0
    throughput: Annotated[float, Field(ge=0, le=1_000_000)] = 0.0

    @model_validator(mode="after")
    def _something(self) -> "WeightSettings":
        if not (self.cost or self.latency or self.throughput):
            raise PydanticCustomError("weights", "at least one of cost, latency and throughput must be above 0")
        return self


class WeightedSettings(Section):
    weighted: WeightSettings


class HedgeSettings(Section):
    """A second attempt beside a first one that is late; the first answer wins."""

    after: HedgeAfter = Field("p95", description="p95: the time to first token that 95 of 100 are predicted to keep; or milliseconds")
    max_extra_spend: Share = Field(0.05, description="what second attempts may cost, as a share of what is spent")


EXPLORE = 0.02
HOLD_MS = 3000


class PolicySettings(Section):
    objective: Annotated[
        Annotated[ObjectiveName, Tag(WORD)] | Annotated[WeightedSettings, Tag(SECTION)],
        by_shape("must be ordered, cheapest, fastest, throughput, weighted, or {weighted: {cost: …, latency: …, throughput: …}}"),
    ] = Field("ordered", description="what decides among the targets that are predicted to keep the slo")
    slo: SloSettings | None = Field(None, description="default: nothing is promised, and the objective alone decides")
    max_usd_per_request: PositiveUsd | None = Field(None, description="a target that is predicted to cost more is left out")
    fallback: Literal["any", "local", "none"] = "any"
    residency: Annotated[
        Annotated[Literal["any", "local_only"], BeforeValidator(residency_word), Tag(WORD)]
        | Annotated[tuple[Region, ...], Field(min_length=1), Tag(LIST)],
        by_shape("must be any, local_only or a list of regions"),
    ] = Field("any", description="where data may go; a list of regions: providers with one of them as `region`, and engines")
    retry: RetrySettings = RetrySettings()
    hedge: HedgeSettings | None = Field(None, description="default: no second attempts")
    recovery: Literal["error", "hold", "continue"] = Field("error", description="what becomes of a stream that is cut")
    commit_after_ms: Annotated[int, Field(ge=0, le=600_000)] | None = Field(
        None, description=f"how far the client's stream runs behind under `recovery: hold`; default {HOLD_MS} there, else 0"
    )
    explore: Share | None = Field(
        None, description=f"the share of requests that may measure a little known target; default 0 for `ordered`, else {EXPLORE}"
    )
    timeouts: PolicyTimeoutSettings | None = Field(None, description="default: each provider's own")
    cache: CacheSettings | None = Field(None, description="default: no answer is kept for who asks the same again")
    drop_unsupported: Annotated[bool | Literal["hints"], BeforeValidator(drop)] = Field(
        "hints",
        description="of what a target cannot honour, leave out and name in `x-turnout-dropped`: false: nothing, refuse it; "
        "hints: what does not change the answer; true: everything",
    )

    @field_validator("commit_after_ms")
    @classmethod
    def _held(cls, value: int | None, info: ValidationInfo) -> int | None:
        holds = info.data.get("recovery") == "hold"
        if value and not holds:
            raise PydanticCustomError("hold", "holds a stream back under recovery: hold only; set that, or take this out")
        if value == 0 and holds:
            raise PydanticCustomError("hold", "holds nothing back, which recovery: hold is for; make it longer, or set recovery: error")
        return value

    @property
    def objective_name(self) -> ObjectiveName:
        return "weighted" if isinstance(self.objective, WeightedSettings) else self.objective

    @property
    def weights(self) -> WeightSettings:
        """Those of the objective `weighted`; its bare word weighs all alike."""
        return self.objective.weighted if isinstance(self.objective, WeightedSettings) else WeightSettings(cost=1, latency=1, throughput=1)

    @property
    def counts_cost(self) -> bool:
        """Whether its choice compares prices."""
        return self.objective_name == "cheapest" or (self.objective_name == "weighted" and self.weights.cost > 0)

    @property
    def held_ms(self) -> int:
        """How far a client's stream runs behind."""
        return self.commit_after_ms if self.commit_after_ms is not None else HOLD_MS if self.recovery == "hold" else 0

    @property
    def explore_share(self) -> float:
        return self.explore if self.explore is not None else 0.0 if self.objective_name == "ordered" else EXPLORE


class Settings(Section):
    server: ServerSettings = ServerSettings()
    state: StateSettings = StateSettings()
    ledger: LedgerSettings = LedgerSettings()
    batch: BatchSettings = BatchSettings()
    providers: dict[Name, ProviderSettings] = Field({})
    engines: dict[Name, EngineSettings] = Field({})
    models: dict[ModelName, ModelSettings] = Field({})
    policies: dict[Name, PolicySettings] = Field({})
    organisations: dict[Name, OrganisationSettings] = Field({})
    teams: dict[Name, TeamSettings] = Field({})
    admin: AdminSettings | None = Field(None, description="default: no admin API; the command line works without it")
    alerts: AlertSettings | None = Field(None, description="default: nobody is told of spent budgets")
    metrics: MetricsSettings = MetricsSettings()
    telemetry: TelemetrySettings | None = Field(None, description="default: no traces are made")

    @property
    def engine_replicas(self) -> dict[str, EngineSettings]:
        """Every engine that runs, by its name: an engine with replicas is several."""
        return {each: settings for name, engine in self.engines.items() for each, settings in engine.each(name).items()}


class Environment(BaseSettings):
    """What the process takes from its environment beside the file: `TURNOUT_BOOTSTRAP_KEY`."""

    model_config = SettingsConfigDict(env_prefix="TURNOUT_", extra="ignore", env_ignore_empty=True)

    bootstrap_key: Annotated[SecretStr, AfterValidator(client_key)] | None = Field(
        None, description="the bootstrap key, instead of one that is made and kept"
    )
