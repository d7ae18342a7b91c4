"""`turnout top`: what goes on just now, target by target, read from the ledger again and again."""

import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.ledger_file import ConfigOption, DatabaseOption, JsonOption, SinceOption, open_ledger, since_or_exit
from gateway.cli.tables import plain, print_table

if TYPE_CHECKING:
    from sqlalchemy import Engine

HEAD = ["target", "requests", "failed", "output tok/s", "first token p50 ms", "p90 ms", "USD"]


def register(app: typer.Typer) -> None:
    app.command()(top)


def top(  # noqa: PLR0913 - typer reads the options from here
    since: SinceOption = "5m",
    team: Annotated[str | None, typer.Option(help="only this team")] = None,
    every: Annotated[float, typer.Option(min=0.2, help="seconds between two looks")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="look once")] = False,
    database: DatabaseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what the last minutes' requests did, target by target, until Ctrl-C."""
    since_or_exit(since)
    engine = open_ledger(database, config)
    if once or as_json:
        lines = _lines(engine, since, team)
        if as_json:
            typer.echo(json.dumps(lines))
        else:
            print_table(HEAD, [list(line.values()) for line in lines], f"nothing in the last {since}")
        return
    from rich.live import Live

    with Live(_table(_lines(engine, since, team), since), refresh_per_second=4, screen=True) as live:
        try:
            while True:
                time.sleep(every)
                live.update(_table(_lines(engine, since, team), since))
        except KeyboardInterrupt:
            return


def _lines(engine: "Engine", since: str, team: str | None) -> list[dict[str, Any]]:
    """A line for each target that was asked."""
    from ledger.latency import latency
    from ledger.observed import OUTPUTS
    from ledger.reports import tokens_of
    from ledger.rollups import roll_up
    from ledger.summed import summed
    from ledger.units import usd
    from ledger.window import Window

    now = time.time()
    from_us = since_or_exit(since)
    roll_up(engine, now, 1.0)
    window = Window(from_us, int(now * 1e6) + 1, {} if team is None else {"team": team})
    waits = {each.group: each.ttft for each in latency(engine, window, ("target",), now)}
    found = []
    for sums in sorted(summed(engine, window, ("target",), now), key=lambda sums: -sums.rows):
        wait, output = waits.get(sums.group), tokens_of(sums, OUTPUTS)
        speed = None if output is None else round(output / max(1.0, now - from_us / 1e6), 1)
        cells = (sums.group[0] or "(none)", sums.rows, sums.failed, speed, wait and wait.p50_ms, wait and wait.p90_ms, usd(sums.cost_nusd))
        found.append(dict(zip(("target", "requests", "failed", "tokens_per_s", "ttft_p50_ms", "ttft_p90_ms", "cost_usd"), cells, strict=True)))
    return found


def _table(lines: list[dict[str, Any]], since: str) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(*HEAD, box=None, pad_edge=False, title=f"the last {since}; Ctrl-C ends", title_justify="left")
    for line in lines:
        table.add_row(*("-" if cell is None else Text(plain(str(cell))) for cell in line.values()))
    return table
