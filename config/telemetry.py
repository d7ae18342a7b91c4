"""Who may read the gateway's metrics, and where its traces go."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr

from config.section import Section
from config.values import HeaderName, HeaderValue, Name, Seconds, Url, client_key


def _not_empty(value: SecretStr) -> SecretStr:
    if len(value.get_secret_value()) < 8:
        raise ValueError("must have 8 characters at least")
    return value


class MetricsSettings(Section):
    key: Annotated[SecretStr, AfterValidator(client_key), AfterValidator(_not_empty)] | None = Field(
        None, description="what `GET /metrics` wants as a bearer token; without one it takes the bootstrap key"
    )
    open: bool = Field(False, description="whoever reaches the port may read `GET /metrics`: every team's traffic and spending")


class TelemetrySettings(Section):
    endpoint: Url = Field(description="of an OpenTelemetry collector, OTLP over HTTP; `/v1/traces` and `/v1/metrics` are added")
    protocol: Literal["http/protobuf"] = "http/protobuf"
    headers: dict[HeaderName, HeaderValue] = Field({}, repr=False, description="sent with each export, say an `authorization`")
    sample: Annotated[float, Field(ge=0, le=1)] = Field(
        1.0, description="the share of requests that are traced, where their client sent no `traceparent` that says so"
    )
    service: Name = Field("turnout", description="`service.name`")
    metrics_every_s: Seconds = Field(30.0, description="between two exports of metrics")
