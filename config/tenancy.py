"""Who may ask, how much of it, and who administers: organisations, their teams, limits, budgets, caches, the admin API."""

from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field, SecretStr, Tag, field_validator, model_validator
from pydantic_core import PydanticCustomError

from config.section import Section
from config.values import LIST, SECTION, WORD, Host, ModelName, Name, PositiveUsd, Seconds, Url, by_shape, client_key

Override = Literal["policy", "deadline_ms", "max_cost", "residency"]
Count = Annotated[int, Field(ge=1, le=1 << 53)]
Fraction = Annotated[float, Field(gt=0, le=1)]
TOLD_AT = (0.5, 0.8, 1.0)


class LimitSettings(Section):
    """Continuous, as a bucket that holds one minute's worth: what was not used a minute ago is not saved."""

    rpm: Count | None = Field(None, description="requests a minute")
    tpm: Count | None = Field(None, description="tokens a minute, prompts and answers together")
    concurrency: Count | None = Field(None, description="requests at once")
    max_wait_s: Annotated[float, Field(ge=0, le=600)] = Field(0.0, description="how long a request may wait for its turn; 0: it is refused at once")

    @model_validator(mode="after")
    def _something(self) -> "LimitSettings":
        if self.rpm is None and self.tpm is None and self.concurrency is None:
            raise PydanticCustomError("limits", "must have at least one of rpm, tpm and concurrency")
        return self


class BudgetSettings(Section):
    """Money for a calendar window in UTC."""

    usd: PositiveUsd
    window: Literal["day", "week", "month", "total"] = Field("month", description="a week begins on Monday")
    on_exhausted: Literal["local", "reject"] = Field("reject", description="local: engines of the gateway's own go on answering; reject: nobody does")
    alert_at: tuple[Fraction, ...] = Field(TOLD_AT, description="shares of the budget at which `alerts` is told")


Budgets = Annotated[
    Annotated[BudgetSettings, Tag(SECTION)] | Annotated[tuple[BudgetSettings, ...], Field(min_length=1), Tag(LIST)],
    by_shape("must be {usd: …, window: …}, or a list of them"),
]


class _Tenant(Section):
    """What an organisation, a team and a key have in common. A child never has more than its parent."""

    models: tuple[ModelName, ...] | None = Field(None, min_length=1, description="entries of `models` that may be asked for; default: all")
    limits: LimitSettings | None = None
    budget: Budgets | None = Field(None, description="one, or a list with a window each")
    max_usd_per_request: PositiveUsd | None = Field(None, description="a target that may cost more is left out")
    max_tokens_per_request: Count | None = Field(None, description="of an answer; a request without a limit of its own is sent with this one")

    @property
    def budgets(self) -> tuple[BudgetSettings, ...]:
        if self.budget is None:
            return ()
        return self.budget if isinstance(self.budget, tuple) else (self.budget,)

    @field_validator("budget")
    @classmethod
    def _each_window_once(cls, value: Budgets | None) -> Budgets | None:
        if isinstance(value, tuple) and len({each.window for each in value}) < len(value):
            raise PydanticCustomError("budget", "has two budgets for one window; keep one of them")
        return value


class OrganisationSettings(_Tenant):
    """Its limits and budgets hold for all of its teams together."""


class KeySettings(_Tenant):
    """What a key that is made at run time may by itself."""


class SemanticSettings(Section):
    """Answers for questions that mean the same. Opt-in, because texts that embed alike may still differ in what they ask."""

    embeddings: ModelName = Field(description="the entry of `models` that embeds")
    threshold: Fraction = Field(0.97, description="cosine of two questions from which they may be the same")
    ttl_s: Seconds = 3600.0


class TeamSettings(_Tenant):
    organisation: Name | None = None
    policy: str | None = Field(None, description="instead of each model's own")
    keys: tuple[Annotated[SecretStr, Field(min_length=1), AfterValidator(client_key)], ...] = ()
    overrides: Annotated[
        Annotated[bool, Tag(WORD)] | Annotated[tuple[Override, ...], Tag(LIST)],
        by_shape("must be true, false or a list of policy, deadline_ms, max_cost and residency"),
    ] = Field(False, description="what its requests may say of themselves, against its policy: true: all of it")
    priority: Literal["interactive", "batch"] = Field("interactive", description="batch waits until nobody interactive does")
    weight: Annotated[float, Field(gt=0, le=1_000)] = Field(1.0, description="its share of what has to be waited for, beside other teams'")
    semantic_cache: SemanticSettings | None = None
    batch_budget: BudgetSettings | None = Field(None, description="money for rows of its batches, within its `budget`")

    @property
    def allowed_overrides(self) -> frozenset[str]:
        if isinstance(self.overrides, bool):
            return frozenset(get_args(Override)) if self.overrides else frozenset()
        return frozenset(self.overrides)


class CacheSettings(Section):
    """Whole answers, for the same team that asks the very same again."""

    ttl_s: Seconds = 3600.0
    replay: Literal["full", "recorded"] = Field("full", description="the speed of a stream that is answered from the cache")
    single_flight: bool = Field(True, description="requests that are the same at the same time share one answer")


class OidcSettings(Section):
    """Single sign-on for people, with any provider that has a discovery document."""

    issuer: Url
    client_id: Annotated[str, Field(min_length=1)]
    client_secret: SecretStr | None = Field(None, description="default: a public client, with PKCE alone")
    public_url: Url | None = Field(None, description="how browsers reach the admin API; default: as the request says")
    roles_claim: str = Field("groups", description="the claim whose values `admins`, `viewers` and `team_owners` name")
    admins: tuple[str, ...] = ()
    viewers: tuple[str, ...] = Field((), description="may read everything")
    team_owners: dict[str, tuple[Name, ...]] = Field({}, description="value -> the teams that it owns")
    scopes: tuple[str, ...] = ("openid", "profile", "email")


class AdminSettings(Section):
    """An API of its own port, for keys, teams and budgets."""

    host: Host = "127.0.0.1"
    port: int = Field(8081, ge=0, le=65535, description="0: a free one")
    key: Annotated[SecretStr, Field(min_length=16), AfterValidator(client_key)] | None = Field(None, description="for programs; people use oidc")
    oidc: OidcSettings | None = None

    @model_validator(mode="after")
    def _some_way_in(self) -> "AdminSettings":
        if self.key is None and self.oidc is None:
            raise PydanticCustomError("admin", "has neither a key nor oidc: nobody could use it")
        return self


class AlertSettings(Section):
    """A webhook that is told when a budget reaches its thresholds, signed as Standard Webhooks has it."""

    url: Url
    secret: SecretStr = Field(description="`whsec_` and base64, or any text")


class WebhookSettings(Section):
    """Told when a batch ends, in the form and with the signature of OpenAI's webhooks."""

    url: Url
    secret: SecretStr = Field(description="`whsec_` and base64, or any text")


class RayActorSettings(Section):
    """Workers of batches on a Ray cluster."""

    python: str = Field(min_length=1, description="the interpreter of an environment that has Ray")
    config: str = Field(min_length=1, description="what an actor serves by: its engine and models, the same database, `batch.folder` and teams' keys")
    folder: str = Field("~/.cache/turnout/batch-actors", min_length=1, description="on each node: for what an actor's gateway keeps of its own")
    address: str | None = Field(None, min_length=1, description="of the cluster, such as auto or HOST:6379; default: one is started here")
    actors: int = Field(1, ge=1, le=1024, description="how many, each a gateway of its own with its engines")
    cpus: Annotated[float, Field(ge=0, le=1024)] = Field(1.0, description="what an actor takes of a node")
    gpus: Annotated[float, Field(ge=0, le=64)] = Field(0.0, description="what an actor takes of a node")


class BatchSettings(Section):
    """Files and batches."""

    executor: Literal["gateway", "ray"] = Field("gateway", description="who asks the rows: the gateway's own processes, or actors on a Ray cluster")
    ray: RayActorSettings | None = Field(None, description="for `executor: ray`")

    folder: str | None = Field(
        None, min_length=1, description="where files lie; default: beside the database. Hosts that share a database share this folder"
    )
    concurrency: int = Field(16, ge=1, le=1000, description="rows that are asked at once by a gateway, however many its processes")
    attempts: int = Field(5, ge=1, le=20, description="of one row, each with all that its policy does, before its failure stands")
    lease_s: Annotated[float, Field(ge=1, le=3600)] = Field(30.0, description="a worker that is not heard of for so long loses its rows to others")
    poll_s: Annotated[float, Field(ge=0.01, le=3600)] = Field(15.0, description="until a provider's job is asked for; then less and less often")
    retention_days: int | None = Field(30, ge=1, le=3650, description="how long files and ended batches are kept; null: until they are deleted")
    webhook: WebhookSettings | None = None
