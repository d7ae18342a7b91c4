"""`turnout spend` and `turnout trace`: what the ledger says, read from its file; no gateway needs to run."""

import json
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from sqlalchemy import Engine

DatabaseOption = Annotated[str | None, typer.Option(help="the ledger's URL [default: the configuration's]")]
ConfigOption = Annotated[Path | None, typer.Option("--config", "-c", help="the YAML file whose state.database is read")]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON")]
_SPAN = re.compile(r"([0-9]{1,9})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def register(app: typer.Typer) -> None:
    app.command()(spend)
    app.command()(trace)


def spend(
    since: Annotated[str, typer.Option(help="how far back: 30m, 24h, 7d …")] = "24h",
    by: Annotated[str, typer.Option(help="team, key, model, target, model_sent or status")] = "team",
    team: Annotated[str | None, typer.Option(help="only this team")] = None,
    database: DatabaseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what was spent: requests, tokens and cost by group."""
    from ledger import queries
    from ledger.reports import usd

    span = _SPAN.fullmatch(since)
    if span is None:
        raise typer.BadParameter(f"{since!r} is not a time span; write 30m, 24h or 7d", param_hint="--since")
    if by not in queries.GROUPS:
        raise typer.BadParameter(f"{by!r} is not one of {', '.join(queries.GROUPS)}", param_hint="--by")
    since_us = max(0, int((time.time() - int(span[1]) * _SECONDS[span[2]]) * 1e6))
    rows = queries.spend(_open(database, config), since_us, by, team)
    if as_json:
        typer.echo(json.dumps([{**{name: getattr(row, name) for name in row.__struct_fields__}, "cost_usd": usd(row.cost_nusd)} for row in rows]))
        return
    table = [[r.group, r.requests, r.attempts, r.failed, r.input_tokens, r.output_tokens, usd(r.cost_nusd) or "unknown", r.unpriced] for r in rows]
    _print_table([by, "requests", "attempts", "failed", "input", "output", "cost USD", "unpriced"], table, f"nothing in the last {since}")


def trace(
    request_id: Annotated[str, typer.Argument(help="the x-request-id of an answer")],
    database: DatabaseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show every attempt of one request: target, status, times, tokens, cost."""
    from ledger.queries import attempts_of
    from ledger.reports import describe_request

    rows = attempts_of(_open(database, config), request_id, team=None)
    if not rows:
        typer.echo(f"the ledger has no request {request_id!r}", err=True)
        raise typer.Exit(1)
    report = describe_request(rows)
    if as_json:
        typer.echo(json.dumps(report))
        return
    typer.echo(_plain(f"{report['request_id']}  {report['status']}  team {report['team']}  {report['endpoint']}  model {report['model']}"))
    for row, told in zip(rows, report["attempts"], strict=True):
        typer.echo(_plain(_attempt(row, told)[0]))
        typer.echo(_plain(_attempt(row, told)[1]))


def _attempt(row: Any, told: dict[str, Any]) -> tuple[str, str]:
    """Two lines: what was tried and how it ended; what it took."""
    times = "  ".join(f"{name} {'-' if ms is None else f'{ms:.1f}'}" for name, ms in told["ms"].items())
    tokens = "-" if row.usage is None else f"{_known(row.usage.input_total)} in, {_known(row.usage.output_total)} out"
    return (
        f"  {row.attempt}  {row.status:<13} {row.target}  model {row.model_sent}  ({row.reason})  {row.error_code or ''}".rstrip(),
        f"     ms: {times}   tokens: {tokens}   USD: {told['cost_usd'] or 'unknown'}",
    )


def _known(count: int | None) -> str:
    return "?" if count is None else str(count)


def _open(database: str | None, config: Path | None) -> "Engine":
    from config.load import ConfigError, database_url
    from gateway.cli.settings import load_or_exit
    from ledger.store import LedgerError, database_file, open_engine

    try:
        url = database or (load_or_exit(None).settings.state.database if config is None else database_url(config, os.environ))
    except ConfigError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    try:
        if not database_file(url).exists():
            raise LedgerError(f"there is no ledger at {url}; name one by --database or --config")
        return open_engine(url)
    except LedgerError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error


def _print_table(head: list[str], rows: list[list[Any]], nothing: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not rows:
        typer.echo(nothing)
        return
    table = Table(*head, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*("-" if cell is None else Text(_plain(str(cell))) for cell in row))
    console = Console()
    if not console.is_terminal:
        console = Console(width=240)
    console.print(table)


def _plain(text: str) -> str:
    """Names come from callers: nothing that moves a terminal's cursor goes through."""
    return "".join(char if char.isprintable() else "?" for char in text)
