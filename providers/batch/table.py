"""A provider's row and its settings to the client of its batch API."""

from collections.abc import Callable

import msgspec

from contract.call import Drop
from providers.address import Chosen, address_of, headers_of, native_dialects, page_address
from providers.batch import anthropic, bedrock, gemini, mistral, openai_files, together
from providers.batch.port import BatchClient, Limits
from providers.batch.rows import Form, Rows
from providers.batch.session import Channel, Session
from providers.build import routes_of
from providers.registry import Batch, ProviderKind
from providers.sigv4 import Credentials
from providers.wires.anthropic_messages import ANTHROPIC_MESSAGES
from providers.wires.bedrock import BEDROCK
from providers.wires.gemini import GEMINI
from providers.wires.openai_chat import OPENAI_CHAT


class Amazon(msgspec.Struct, frozen=True, kw_only=True):
    """What Bedrock's batches need beside a provider's settings. The two addresses stand for Amazon's own; `{region}`, `{bucket}` are filled in."""

    credentials: Credentials
    place: bedrock.Place
    control_url: str = "https://bedrock.{region}.amazonaws.com"
    bucket_url: str = "https://{bucket}.s3.{region}.amazonaws.com"


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One configured provider, as for its live requests. `drop`: what may be left out of a request that it cannot honour."""

    kind: ProviderKind
    chosen: Chosen
    channel: Channel
    drop: Drop = "hints"
    amazon: Amazon | None = None


def batch_client(setting: Setting) -> BatchClient | None:
    """None: the provider has no batches, or none that we speak. Raises ValueError where its settings lack something."""
    build = BUILDERS.get(setting.kind.batch) if setting.kind.batch is not None else None
    return None if build is None else build(setting)


def limits_of(kind: ProviderKind) -> Limits | None:
    """What one job may hold there; None as in `batch_client`."""
    return None if kind.batch is None else LIMITS.get(kind.batch)


def _session(setting: Setting, prefix: str = "") -> Session:
    """The provider's API. `prefix`: what stands before its whole path."""
    kind, chosen = setting.kind, setting.chosen
    origin, base_path = address_of(kind, chosen)
    error = {"anthropic": ANTHROPIC_MESSAGES.decode_error, "gemini": GEMINI.decode_error}.get(kind.batch or "", OPENAI_CHAT.decode_error)
    return Session(setting.channel, origin, prefix + base_path, headers_of(kind, chosen, signed=False), error)


def _rows(setting: Setting, limits: Limits, form: Form) -> Rows:
    """What the provider speaks live, but has no batches of, is translated to what it has."""
    kind, chosen = setting.kind, setting.chosen
    spoken = tuple(dialect for dialect, path in native_dialects(kind, chosen).items() if form.endpoint(path) in limits.endpoints)
    return Rows(routes_of(kind, msgspec.structs.replace(chosen, dialects=spoken)), setting.drop, limits, form)


def _openai(flavour: openai_files.Flavour) -> Callable[[Setting], BatchClient]:
    def build(setting: Setting) -> BatchClient:
        rows = _rows(setting, flavour.limits, openai_files.ROWS)
        return openai_files.OpenAIBatches(setting.chosen.name, _session(setting), rows, flavour)

    return build


def _mistral(setting: Setting) -> BatchClient:
    return mistral.MistralBatches(setting.chosen.name, _session(setting), _rows(setting, mistral.LIMITS, mistral.ROWS))


def _together(setting: Setting) -> BatchClient:
    return together.TogetherBatches(setting.chosen.name, _session(setting), _rows(setting, together.LIMITS, together.ROWS))


def _anthropic(setting: Setting) -> BatchClient:
    return anthropic.AnthropicBatches(setting.chosen.name, _session(setting), _rows(setting, anthropic.LIMITS, anthropic.ROWS))


def _gemini(setting: Setting) -> BatchClient:
    rows = _rows(setting, gemini.LIMITS, gemini.ROWS)
    return gemini.GeminiBatches(setting.chosen.name, _session(setting), _session(setting, "/upload"), _session(setting, "/download"), rows)


def _bedrock(setting: Setting) -> BatchClient:
    amazon, chosen = setting.amazon, setting.chosen
    if amazon is None or not chosen.region:
        raise ValueError("Bedrock's batches need a region, credentials, a bucket and a role")
    session = _amazon_session(setting, amazon, "bedrock", amazon.control_url)
    bucket = _amazon_session(setting, amazon, "s3", amazon.bucket_url)
    return bedrock.BedrockBatches(chosen.name, session, bucket, _rows(setting, bedrock.LIMITS, bedrock.ROWS), amazon.place)


def _amazon_session(setting: Setting, amazon: Amazon, service: str, template: str) -> Session:
    kind, chosen = setting.kind, setting.chosen
    origin, path = page_address(template.replace("{region}", chosen.region).replace("{bucket}", amazon.place.bucket))
    signing = bedrock.AmazonSigning(amazon.credentials, chosen.region, service)
    return Session(setting.channel, origin, path.rstrip("/"), headers_of(kind, chosen, signed=True), BEDROCK.decode_error, signing)


BUILDERS: dict[Batch, Callable[[Setting], BatchClient]] = {
    "openai": _openai(openai_files.OPENAI),
    "azure": _openai(openai_files.AZURE),
    "groq": _openai(openai_files.GROQ),
    "mistral": _mistral,
    "together": _together,
    "anthropic": _anthropic,
    "gemini": _gemini,
    "bedrock": _bedrock,
}
LIMITS: dict[Batch, Limits] = {
    "openai": openai_files.OPENAI.limits,
    "azure": openai_files.AZURE.limits,
    "groq": openai_files.GROQ.limits,
    "mistral": mistral.LIMITS,
    "together": together.LIMITS,
    "anthropic": anthropic.LIMITS,
    "gemini": gemini.LIMITS,
    "bedrock": bedrock.LIMITS,
}
