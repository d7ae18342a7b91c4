"""`turnout spend` and `turnout trace`: what the ledger says, read from its file; no gateway needs to run."""

import json
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from gateway.cli.ledger_file import (
    ConfigOption,
    DatabaseOption,
    JsonOption,
    SinceOption,
    known_or_exit,
    one_of,
    open_ledger,
    rows_or_exit,
    since_or_exit,
    tell_deleted,
)
from gateway.cli.tables import plain, print_table


def register(app: typer.Typer) -> None:
    app.command()(spend)
    app.command()(trace)


def spend(
    since: SinceOption = "24h",
    by: Annotated[str, typer.Option(help="team, key, model, target, policy, status, hour, day …")] = "team",
    team: Annotated[str | None, typer.Option(help="only this team")] = None,
    database: DatabaseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what was spent: requests, tokens and cost by group; apart, what the gateway absorbed."""
    from msgspec.structs import asdict

    from ledger import queries, window
    from ledger.retention import is_whole
    from ledger.units import usd

    since_us = since_or_exit(since)
    one_of(by, window.GROUPS, "--by")
    engine = open_ledger(database, config)
    known_or_exit(team, "team", engine, config)
    rows = queries.spend(engine, since_us, by, team)
    tell_deleted(is_whole(engine, window.Window(since_us, window.FOR_EVER_US, {} if team is None else {"team": team}), by == "minute"))
    if as_json:
        typer.echo(json.dumps([{**asdict(row), "cost_usd": usd(row.cost_nusd), "absorbed_usd": usd(row.absorbed_nusd)} for row in rows]))
        return
    head = [by, "requests", "attempts", "failed", "input", "output", "cost USD", "absorbed USD", "unpriced"]
    counts = ([r.group, r.requests, r.attempts, r.failed, r.input_tokens, r.output_tokens] for r in rows)
    costs = ([usd(r.cost_nusd) or "unknown", usd(r.absorbed_nusd), r.unpriced] for r in rows)
    print_table(head, [[*left, *right] for left, right in zip(counts, costs, strict=True)], f"nothing in the last {since}")


def trace(
    request_id: Annotated[str, typer.Argument(help="the x-request-id of an answer")],
    database: DatabaseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show every attempt of one request: target, status, times, tokens, cost, and what had been predicted."""
    from ledger.described import describe_request

    rows = rows_or_exit(open_ledger(database, config), request_id)
    report = describe_request(rows)
    if as_json:
        typer.echo(json.dumps(report))
        return
    typer.echo(plain(f"{report['request_id']}  {report['status']}  team {report['team']}  {report['endpoint']}  model {report['model']}"))
    for row, told in zip(rows, report["attempts"], strict=True):
        for line in attempt_lines(row, told):
            typer.echo(plain(line))


def attempt_lines(row: Any, told: dict[str, Any]) -> Iterator[str]:
    """What was tried and how it ended; what it took; what had been predicted, where anything was."""
    times = "  ".join(f"{name} {_told(ms, '.1f')}" for name, ms in told["ms"].items())
    tokens = "-" if row.usage is None else f"{_known(row.usage.input_total)} in, {_known(row.usage.output_total)} out"
    absorbed = "  absorbed by the gateway" if row.billed == "gateway" else ""
    yield f"  {row.attempt}  {row.status:<13} {row.target or '-'}  model {row.model_sent or '-'}  ({row.reason})  {row.error_code or ''}".rstrip()
    yield f"     ms: {times}   tokens: {tokens}   USD: {told['cost_usd'] or 'unknown'}{absorbed}"
    if (p := told["predicted"]) is not None:
        yield f"     predicted {_predicted(p)}"


def _predicted(p: dict[str, Any]) -> str:
    """What was not predicted is `-`: it was no prediction of a cost that nobody knew."""
    if all(value is None for name, value in p.items() if name != "prompt_tokens"):
        return f"tokens: {p['prompt_tokens']} in; nothing else was: too little was known of the target"
    ends = f"first_token p95 {_told(p['ttft_p95_ms'], '.1f')}  end {_told(p['end_ms'], '.1f')}  p95 {_told(p['end_p95_ms'], '.1f')}"
    tokens = f"{_known(p['prompt_tokens'])} in, {_known(p['output_tokens'])} out"
    slo = "" if p["p_slo"] is None else f"   SLO: {p['p_slo']:.0%} likely"
    return f"ms: {ends}   tokens: {tokens}   USD: {p['cost_usd'] or '-'}{slo}"


def _told(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _known(count: int | None) -> str:
    return "?" if count is None else str(count)
