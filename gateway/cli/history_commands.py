"""`turnout export`, `reprice` and `reconcile`: the ledger's history taken out, priced anew, and held against a provider's own."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.ledger_file import ConfigOption, DatabaseOption, JsonOption, SinceOption, known_or_exit, open_ledger, since_or_exit, tell_deleted
from gateway.cli.tables import print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ledger.repricing import Repriced
    from ledger.row import AttemptRow


def register(app: typer.Typer) -> None:
    app.command()(export)
    app.command()(reprice)
    app.command()(reconcile)


def export(
    file: Annotated[Path, typer.Argument(help="what is written: FILE.parquet or FILE.csv")],
    since: SinceOption = "30d",
    team: Annotated[str | None, typer.Option(help="only this team")] = None,
    database: DatabaseOption = None,
    config: ConfigOption = None,
) -> None:
    """Write the attempts of a time into a Parquet or CSV file."""
    from ledger import exporting
    from ledger.retention import is_whole
    from ledger.window import Window

    if file.suffix not in exporting.FORMATS:
        raise typer.BadParameter(f"{file.name!r} must end in {' or '.join(exporting.FORMATS)}", param_hint="FILE")
    window = Window(since_or_exit(since), int(time.time() * 1e6) + 1, {} if team is None else {"team": team})
    engine = open_ledger(database, config)
    known_or_exit(team, "team", engine, config)
    try:
        count = exporting.export(engine, window, file)
    except OSError as error:
        typer.echo(f"{file} cannot be written: {error.strerror or error}", err=True)
        raise typer.Exit(1) from error
    tell_deleted(is_whole(engine, window, by_rows=True), "they are not in it")
    typer.echo(f"{count} attempts written to {file}")


def reprice(
    since: SinceOption = "30d",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show what would change, and change nothing")] = False,
    database: DatabaseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Price the attempts of a time anew, by the configuration's prices and genai-prices' of that day."""
    from gateway.cli.settings import load_or_exit
    from gateway.pricing import entry_of, price_of
    from ledger import repricing
    from ledger.prices import Price
    from ledger.retention import is_whole, purged_us
    from ledger.rollups import roll_up
    from ledger.units import iso, usd
    from ledger.window import FOR_EVER_US, Window

    settings = load_or_exit(config).settings

    def price(row: "AttemptRow") -> Price | None:
        if row.target not in settings.providers:
            return None
        at = datetime.fromtimestamp(row.started_at_us / 1e6, UTC)
        return price_of(settings, row.target, row.model_sent, entry_of(settings, row.route, row.target, row.model_sent), at)

    engine, since_us = open_ledger(database, config), since_or_exit(since)
    if not is_whole(engine, Window(since_us, FOR_EVER_US), by_rows=True):
        typer.echo(f"rows from before {iso(purged_us(engine))} were deleted (ledger.retention_days): their sums keep their prices", err=True)
    found = repricing.reprice(engine, since_us, price, dry_run)
    roll_up(engine, time.time())
    lines = [[each.target, each.rows, each.changed, each.unknown, usd(each.before_nusd), usd(each.after_nusd)] for each in found]
    if as_json:
        names = ("target", "rows", "changed", "unknown", "before_usd", "after_usd")
        typer.echo(json.dumps([dict(zip(names, line, strict=True)) for line in lines]))
        return
    if found:
        lines.append(["(total)", *_totals(found)])
    print_table(["target", "attempts", "changed", "no price", "USD before", "USD after"], lines, f"nothing in the last {since}")


def _totals(found: "Sequence[Repriced]") -> list[int | str | None]:
    from ledger.units import usd

    counts = [sum(getattr(each, name) for each in found) for name in ("rows", "changed", "unknown")]
    return [*counts, *(usd(sum(getattr(each, name) for each in found)) for name in ("before_nusd", "after_nusd"))]


def reconcile(
    file: Annotated[Path, typer.Argument(help="an export of OpenAI's or Anthropic's usage or cost, JSON or CSV")],
    provider: Annotated[str, typer.Option(help="whose it is: a provider's name in the configuration")],
    database: DatabaseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hold a provider's export against the ledger, row by row, and what only the ledger has of its time. Exit code 1 where something differs,
    or cannot be compared because rows of its time were deleted."""
    from ledger import reconciling
    from ledger.rollups import roll_up

    try:
        told = reconciling.read(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        typer.echo(f"{file}: {getattr(error, 'strerror', None) or error}", err=True)
        raise typer.Exit(1) from error
    engine, now = open_ledger(database, config), time.time()
    roll_up(engine, now)
    known_or_exit(provider, "provider", engine, config)
    found = reconciling.reconcile(engine, told, provider, now)
    if as_json:
        from msgspec import to_builtins

        typer.echo(json.dumps(to_builtins(found)))
    else:
        print_table(["from", "model", "what", "theirs", "ours", "ours less theirs"], list(_lines(found)), "nothing was compared")
    if any(row.differences or row.deleted for row in found):
        raise typer.Exit(1)


def _lines(found: Any) -> Any:
    from ledger.window import iso_s

    for row in found:
        begins, model = iso_s(row.told.from_s), row.told.model or "(all)"
        if row.only_ours:
            yield [begins, model, "only ours", None, None, None]
        elif row.deleted:
            yield [begins, model, "our rows were deleted: not compared", None, None, None]
        elif not row.differences:
            yield [begins, model, "agrees", None, None, None]
        for name, difference in row.differences.items():
            yield [begins, model, name, getattr(row.told, name), row.ours[name], f"{difference:+}"]
