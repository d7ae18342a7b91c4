"""`turnout report`: what the ledger's rows add up to, a report a command."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.ledger_file import ConfigOption, DatabaseOption, JsonOption, SinceOption, one_of, open_ledger, since_or_exit
from gateway.cli.tables import print_table

if TYPE_CHECKING:
    from ledger.calibration import Calibration


def register(app: typer.Typer) -> None:
    report = typer.Typer(help="What the ledger's rows add up to.", no_args_is_help=True)
    report.callback()(lambda: None)  # a sub-command must be named, however few there are
    report.command()(calibration)
    app.add_typer(report, name="report")


def calibration(
    since: SinceOption = "7d",
    by: Annotated[str, typer.Option(help="target or model")] = "target",
    team: Annotated[str | None, typer.Option(help="only this team")] = None,
    database: DatabaseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show predicted against actual: how many attempts came within their predicted p95 (right: 95 %), and the errors of seconds, tokens and cost."""
    from msgspec import to_builtins

    from ledger import calibration as reports

    since_us = since_or_exit(since)
    one_of(by, reports.GROUPS, "--by")
    rows = reports.calibration(open_ledger(database, config), since_us, by, team)
    if as_json:
        typer.echo(json.dumps(to_builtins(rows)))
        return
    head = [by, "attempts", "first token in p95", "end in p95", "seconds error", "bias", "output error", "bias", "cost error", "bias"]
    print_table(head, [[r.group, r.attempts, *_cells(r)] for r in rows], f"nothing was predicted in the last {since}")


def _cells(row: "Calibration") -> Iterator[str | None]:
    for coverage in (row.ttft, row.end):
        yield None if coverage.within_p95 is None else f"{coverage.within_p95:.1%} of {coverage.n}"
    for error in (row.end_ms, row.output_tokens, row.cost_usd):
        yield None if error.absolute_share is None else f"{error.absolute_share:.1%}"
        yield None if error.bias_share is None else f"{error.bias_share:+.1%}"
