"""What the command line knows of configuration: which kinds exist, and how findings are shown."""

import os
from pathlib import Path

import typer

from config.load import ConfigError, Known, Loaded, load
from ledger.prices import compile_price
from providers.local.weights import BUILTIN
from providers.registry import LATER_KINDS, PROVIDER_KINDS


def known_kinds() -> Known:
    """The kinds and models of this build; `config` itself knows none."""

    def price_known(kind: str, model: str) -> bool:
        provider = PROVIDER_KINDS[kind].price_provider
        return provider is None or compile_price(provider, model) is not None

    return Known(
        provider_kinds={name: row.key_env for name, row in PROVIDER_KINDS.items()},
        needs_url=frozenset(name for name, row in PROVIDER_KINDS.items() if row.base_url is None),
        later_kinds=LATER_KINDS,
        builtin_models=frozenset(BUILTIN),
        price_known=price_known,
    )


def load_or_exit(path: Path | None) -> Loaded:
    """The configuration, or its findings on stderr and exit code 1."""
    try:
        return load(path, os.environ, known_kinds())
    except ConfigError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
