"""The command line: every verb registered on one typer app. Exit codes: 0 ok, 1 findings, 2 usage."""

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from gateway.cli import (
    batch_commands,
    chat,
    config_commands,
    engine_commands,
    explain,
    history_commands,
    key_commands,
    ledger_commands,
    model_commands,
    replay,
    report_commands,
    serve,
    top,
)

app = typer.Typer(
    name="turnout",
    help="A provider-agnostic inference gateway with local fallback.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"turnout {version('turnout')}")
        raise typer.Exit


@app.callback()
def options(_: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="print the version")] = False) -> None:
    """A provider-agnostic inference gateway with local fallback."""


COMMANDS = (
    *(serve, chat, model_commands, engine_commands, config_commands, ledger_commands),
    *(report_commands, top, history_commands, explain, replay, key_commands, batch_commands),
)
for module in COMMANDS:
    module.register(app)


def main() -> None:
    """A database that is locked or gone is a finding, not a failure of ours."""
    try:
        app()
    except Exception as exc:
        told = _of_the_database(exc)
        if told is None:
            raise
        typer.echo(told, err=True)
        sys.exit(1)


def _of_the_database(exc: BaseException) -> str | None:
    """None: it is about something else. What was never imported has not failed."""
    errors, database = sys.modules.get("contract.errors"), sys.modules.get("sqlalchemy.exc")
    if errors is not None and isinstance(exc, errors.LedgerUnavailable):
        exc = exc.__cause__ or exc
    if database is None or not isinstance(exc, database.OperationalError):
        return None
    from ledger.database import said

    return f"the ledger's database cannot be used just now: {said(exc)}; try again when nothing else holds it"
