"""Which ledger a command reads, and from when: the options of every command that reports, and what they stand for."""

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from ledger.row import AttemptRow

DatabaseOption = Annotated[str | None, typer.Option(help="the ledger's URL [default: the configuration's]")]
ConfigOption = Annotated[Path | None, typer.Option("--config", "-c", help="the YAML file whose state.database is read")]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON")]
SinceOption = Annotated[str, typer.Option(help="how far back: 30m, 24h, 7d …")]


def since_or_exit(since: str) -> int:
    """The moment so long ago, in microseconds of Unix time; exit code 2 for what is not a time span."""
    from ledger.units import since_us

    try:
        return since_us(since, time.time())
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--since") from error


def one_of(value: str, known: Iterable[str], option: str) -> None:
    """Exit code 2 for a value that is not known."""
    if value not in known:
        raise typer.BadParameter(f"{value!r} is not one of {', '.join(known)}", param_hint=option)


def known_or_exit(value: str | None, group: str, engine: "Engine", config: Path | None) -> None:
    """Exit code 2 for a team or provider that neither the ledger nor a configuration that was named knows. None: none was asked for."""
    from config.load import names_in
    from ledger.queries import names

    if value is None or value in (known := names(engine, group, time.time())) or (config and value in names_in(config, os.environ, f"{group}s")):
        return
    listed = f"; the ledger has {', '.join(known[:20])}" if known else ""
    raise typer.BadParameter(
        f"there is no {group} {value!r} in the ledger{' or the configuration' if config else ''}{listed}", param_hint=f"--{group}"
    )


def open_ledger(database: str | None, config: Path | None) -> "Engine":
    """The ledger's engine; a finding on stderr and exit code 1 where there is none, or none that can be read."""
    from config.load import ConfigError, database_url
    from gateway.cli.settings import load_or_exit
    from ledger.database import shown

    try:
        url = database or (load_or_exit(None).settings.state.database if config is None else database_url(config, os.environ))
    except ConfigError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    ledger = ledger_at(url)
    if ledger is None:
        typer.echo(f"there is no ledger at {shown(url)}; name one by --database or --config", err=True)
        raise typer.Exit(1)
    return ledger


def tell_deleted(whole: bool, left: str = "at most the sums of their whole hours are in it") -> None:
    """On stderr, where what was printed lacks deleted rows. `left`: what there is of them."""
    if not whole:
        typer.echo(f"rows of a part of this time were deleted (ledger.retention_days): {left}", err=True)


def ledger_at(url: str) -> "Engine | None":
    """The engine of a ledger; None: there is none yet. A finding on stderr and exit code 1 for one that cannot be read."""
    from ledger.database import LedgerError, is_there, open_engine

    try:
        return open_engine(url) if is_there(url) else None
    except LedgerError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error


def rows_or_exit(engine: "Engine", request_id: str) -> "list[AttemptRow]":
    """Every attempt of a request in order; a finding on stderr and exit code 1 where there is none."""
    from ledger.queries import attempts_of

    rows = attempts_of(engine, request_id, team=None)
    if not rows:
        typer.echo(f"the ledger has no request {request_id!r}", err=True)
        raise typer.Exit(1)
    return rows
