"""The command line: every verb registered on one typer app. Exit codes: 0 ok, 1 findings, 2 usage."""

from importlib.metadata import version
from typing import Annotated

import typer

from gateway.cli import (
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
    *(report_commands, top, history_commands, explain, replay, key_commands),
)
for module in COMMANDS:
    module.register(app)


def main() -> None:
    app()
