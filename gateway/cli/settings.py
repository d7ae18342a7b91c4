"""What the command line knows of configuration: which kinds exist, and how findings are shown."""

import os
from pathlib import Path

import typer

from config.engines import EngineSettings
from config.load import ConfigError, Known, Loaded, load
from config.settings import ProviderSettings
from gateway.chosen import chosen_of, signer_of
from gateway.engine_spec import weights_of
from ledger.prices import compile_price
from providers.address import base_url_of, missing
from providers.local.fit.gguf import NotGguf, trained_tokens
from providers.local.weights import BUILTIN, WeightsNotFound
from providers.registry import PROVIDER_KINDS


def known_kinds() -> Known:
    """The kinds and models of this build; `config` itself knows none."""

    def priced(kind: str, model: str) -> bool:
        provider = PROVIDER_KINDS[kind].price_provider
        return provider is not None and compile_price(provider, model) is not None

    return Known(
        provider_kinds={name: row.key_env for name, row in PROVIDER_KINDS.items()},
        needs_url=frozenset(name for name, row in PROVIDER_KINDS.items() if row.base_url is None),
        missing=missing_settings,
        credentials_fault=credentials_fault,
        builtin_models=frozenset(BUILTIN),
        metered=frozenset(name for name, row in PROVIDER_KINDS.items() if row.price_provider is not None),
        own_machine=frozenset(name for name, row in PROVIDER_KINDS.items() if (row.base_url or "").startswith("http://")),
        priced=priced,
        base_url=lambda provider: base_url_of(PROVIDER_KINDS[provider.kind], chosen_of("", provider)),
        trained_tokens=trained,
    )


def trained(engine: EngineSettings) -> int | None:
    """By the head of its GGUF file; None where that cannot be read, which its start tells."""
    try:
        return trained_tokens(weights_of(engine))
    except (WeightsNotFound, NotGguf, OSError):
        return None


def missing_settings(provider: ProviderSettings) -> list[str]:
    """What else a provider of its kind needs; nothing of a kind that does not exist."""
    kind = PROVIDER_KINDS.get(provider.kind)
    if kind is None:
        return []
    lacking = missing(kind, chosen_of("", provider))
    signs = kind.auth == "aws" and provider.credentials is not None
    return ["region", *lacking] if signs and provider.region is None and "region" not in lacking else lacking


TAKES = {"aws": "access_key_id and secret_access_key", "google": "service_account"}  # auth scheme -> the credentials that may stand for a key


def credentials_fault(provider: ProviderSettings) -> str | None:
    """Why a provider of its kind cannot be used with the credentials given."""
    given, auth = provider.credentials, PROVIDER_KINDS[provider.kind].auth
    if given is None:
        return None
    if (auth == "google") != (given.service_account is not None) or auth not in TAKES:
        return f"the kind `{provider.kind}` takes {TAKES.get(auth, 'an api_key')}"
    try:
        signer_of(provider)
    except ValueError:
        return "service_account is not the JSON text of a service account's key file"
    return None


def load_or_exit(path: Path | None) -> Loaded:
    """The configuration, or its findings on stderr and exit code 1."""
    try:
        return load(path, os.environ, known_kinds())
    except ConfigError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
