"""`turnout report`: what the ledger's rows add up to, a report a command."""

import json
import time
from typing import Annotated, Any

import typer

from gateway.cli.ledger_file import ConfigOption, DatabaseOption, JsonOption, SinceOption, known_or_exit, open_ledger, since_or_exit, tell_deleted
from gateway.cli.tables import print_table
from ledger.units import MOST_USD_PER_HOUR

GroupOption = Annotated[str | None, typer.Option("--group-by", "--by", help="up to four of the report's groups, such as team,model,day")]
TeamOption = Annotated[str | None, typer.Option(help="only this team")]
CsvOption = Annotated[bool, typer.Option("--csv", help="print CSV")]
ABOUT = {
    "usage": "Show requests, attempts and tokens by class.",
    "cost": "Show what was paid, absorbed by the gateway, and saved by kept answers.",
    "slo": "Show how many requests kept their policy's SLO.",
    "latency": "Show p50, p90 and p99 of the time to first token, between tokens, to the end, in our queue, at the upstream, and of our own.",
    "calibration": "Show predicted against actual: how many attempts came within their predicted p95 (right: 95 %), and the errors of the rest.",
}
SHOWN = {  # of the lines, what a terminal has room for
    "usage": ("requests", "attempts", "failed", "input_tokens", "cache_read", "output_tokens", "reasoning"),
    "latency": ("ttft", "inter_token", "end", "queue", "upstream", "overhead"),
}

PROJECTED = ("projected_mtok_per_day", "projected_mtok_per_day_low", "projected_mtok_per_day_high", "projected_traffic_mtok_per_day")
UNSHOWN = ("recent", "last", "tokens", "traffic_mtok_per_day", *PROJECTED)  # of engines' lines


def register(app: typer.Typer) -> None:
    report = typer.Typer(help="What the ledger's rows add up to.", no_args_is_help=True)
    for name, about in ABOUT.items():
        report.command(name, help=about)(_command(name))
    report.command()(breakeven)
    report.command()(engines)
    report.command()(unpriced)
    app.add_typer(report, name="report")


def _command(name: str) -> Any:
    def command(  # noqa: PLR0913 - typer reads the options from here
        since: SinceOption = "7d",
        group_by: GroupOption = None,
        team: TeamOption = None,
        database: DatabaseOption = None,
        config: ConfigOption = None,
        as_json: JsonOption = False,
        as_csv: CsvOption = False,
    ) -> None:
        from ledger import reports

        since_us, groups = since_or_exit(since), _groups(name, group_by)
        engine = open_ledger(database, config)
        known_or_exit(team, "team", engine, config)
        lines, whole = reports.report(engine, name, _window(since_us, team), groups, time.time(), limit_s=float("inf"))
        tell_deleted(whole)
        if as_csv:
            from ledger.lines import as_csv as written
            from ledger.lines import like

            typer.echo(written(lines, like(name, groups)), nl=False)
        elif as_json:
            typer.echo(json.dumps(lines))
        else:
            print_table([*groups, *_head(name, lines, groups)], [_cells(name, line, groups) for line in lines], f"nothing in the last {since}")

    return command


def _price(usd: float | None) -> float | None:
    if usd is not None and not 0 < usd <= MOST_USD_PER_HOUR:
        raise typer.BadParameter(f"{usd} is no price of an hour; write US dollars, more than 0 and at most {MOST_USD_PER_HOUR:,}, such as 2.49")
    return usd


def breakeven(  # noqa: PLR0913 - typer reads the options from here
    gpu_usd_per_hour: Annotated[float | None, typer.Option(callback=_price, help="what an hour of the machine costs, busy or not")] = None,
    since: SinceOption = "7d",
    team: TeamOption = None,
    database: DatabaseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Show at which volume each owned engine is cheaper than each managed target, for the traffic that there was."""
    from ledger import breakeven as comparing
    from ledger.retention import is_whole
    from ledger.rollups import roll_up

    window, engine, now = _window(since_or_exit(since), team), open_ledger(database, config), time.time()
    roll_up(engine, now)
    known_or_exit(team, "team", engine, config)
    prices = {} if gpu_usd_per_hour is None else {"": gpu_usd_per_hour}
    lines = comparing.as_lines(comparing.breakeven(engine, window, prices, now))
    tell_deleted(is_whole(engine, window))
    _print(lines, comparing.LIKE, as_json, as_csv, f"no engine and no priced target were both used in the last {since}")


def engines(
    since: SinceOption = "7d", database: DatabaseOption = None, config: ConfigOption = None, as_json: JsonOption = False, as_csv: CsvOption = False
) -> None:
    """Show how long each owned engine was up, busy and asleep, what that cost and what its idle and its asleep time did, its tokens, and what those
    of the last hour, day and week cost a million, with the time in which it did nothing and (busy) without."""
    from ledger.engine_time import LIKE, engine_lines
    from ledger.retention import is_whole
    from ledger.rollups import roll_up

    window, engine, now = _window(since_or_exit(since), None), open_ledger(database, config), time.time()
    roll_up(engine, now)
    tell_deleted(is_whole(engine, window))
    _print(engine_lines(engine, window, now), LIKE, as_json, as_csv, f"no engine was up or asleep in the last {since}")


def unpriced(
    since: SinceOption = "30d", team: TeamOption = None, database: DatabaseOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """List the targets with attempts whose cost is not known. Exit code 1 where there are any."""
    from ledger import reports
    from ledger.rollups import roll_up

    window, engine, now = _window(since_or_exit(since), team), open_ledger(database, config), time.time()
    roll_up(engine, now)
    known_or_exit(team, "team", engine, config)
    found = reports.unpriced(engine, window, now)
    if as_json:
        typer.echo(json.dumps(found))
    else:
        print_table(["target", "attempts"], [[line["target"], line["attempts"]] for line in found], f"every cost of the last {since} is known")
    if found:
        raise typer.Exit(1)


def _print(lines: list[dict[str, Any]], like: dict[str, Any], as_json: bool, as_csv: bool, nothing: str) -> None:
    """Of engines: with the cost of their last hour, day and week in columns of their own, where there is room for no more."""
    if as_csv:
        from ledger.lines import as_csv as written

        typer.echo(written(lines, like), nl=False)
    elif as_json:
        typer.echo(json.dumps(lines))
    else:
        flat = [_flattened(line) for line in lines]
        print_table([name.replace("_", " ") for name in flat[0]] if flat else [], [list(line.values()) for line in flat], nothing)


def _flattened(line: dict[str, Any]) -> dict[str, Any]:
    told = {name: value for name, value in line.items() if name not in UNSHOWN}
    spans = line.get("recent" if "recent" in line else "last") or {}
    return told | {f"usd_per_mtok_{span}": _effective(spans.get(span)) for span in ("hour", "day", "week")}


def _effective(cost: dict[str, Any] | None) -> str | None:
    if cost is None or cost["usd_per_mtok"] is None:
        return None
    return f"{cost['usd_per_mtok']:g}" if cost["busy_usd_per_mtok"] is None else f"{cost['usd_per_mtok']:g} (busy {cost['busy_usd_per_mtok']:g})"


def _window(since_us: int, team: str | None) -> Any:
    from ledger.window import Window

    return Window(since_us, int(time.time() * 1e6) + 1, {} if team is None else {"team": team})


def _groups(name: str, told: str | None) -> list[str]:
    from ledger.lines import groups_of
    from ledger.reports import REPORTS

    try:
        return groups_of(told, REPORTS[name])
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--group-by") from error


def _head(name: str, lines: list[dict[str, Any]], groups: list[str]) -> list[str]:
    if name == "calibration":
        return [
            "attempts",
            "SLO odds",
            "SLO met",
            "first token in p95",
            "end in p95",
            "seconds error",
            "bias",
            "output error",
            "bias",
            "cost error",
            "bias",
        ]
    return [f"{key} ms p50/p90/p99" if name == "latency" else key.replace("_", " ") for key in _shown(name, lines[0], groups)] if lines else []


def _shown(name: str, line: dict[str, Any], groups: list[str]) -> list[str]:
    return list(SHOWN.get(name, [key for key in line if key not in groups]))


def _cells(name: str, line: dict[str, Any], groups: list[str]) -> list[Any]:
    found = [line[group] for group in groups]
    if name == "calibration":
        return [*found, line["attempts"], *_calibrated(line)]
    return found + [_told(line[key]) for key in _shown(name, line, groups)]


def _told(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return "/".join("-" if value[p] is None else f"{value[p]:.4g}" for p in ("p50_ms", "p90_ms", "p99_ms")) if value["n"] else None


def _calibrated(line: dict[str, Any]) -> list[str | None]:
    slo = line["slo"]
    found = [
        None if slo[name] is None else f"{slo[name]:.1%}" + (f" of {slo['n']}" if name == "observed" else "") for name in ("predicted", "observed")
    ]
    for name in ("ttft", "end"):
        within = line[name]["within_p95"]
        found.append(None if within is None else f"{within:.1%} of {line[name]['n']}")
    for name in ("end_ms", "output_tokens", "cost_usd"):
        absolute, bias = line[name]["absolute_share"], line[name]["bias_share"]
        found += [None if absolute is None else f"{absolute:.1%}", None if bias is None else f"{bias:+.1%}"]
    return found
