"""`turnout replay`: recorded requests planned again under another configuration, and what that would have cost and taken."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.ledger_file import ConfigOption, DatabaseOption, JsonOption, SinceOption, known_or_exit, open_ledger, since_or_exit, tell_deleted
from gateway.cli.tables import plain, print_table

if TYPE_CHECKING:
    from gateway.replay.conditions import Condition


def register(app: typer.Typer) -> None:
    app.command()(replay)


def replay(  # noqa: PLR0913 - a command's options are its parameters
    policy: Annotated[Path, typer.Argument(help="a whole configuration, with the policies, models and targets to plan by")],
    since: SinceOption = "7d",
    team: Annotated[str | None, typer.Option(help="plan only this team's requests again; all others stay as they were")] = None,
    fail_if: Annotated[
        list[str] | None, typer.Option("--fail-if", help="exit 1 where this is so: 'cost>+10%', 'p95_ttft>800ms', 'slo<95%'; may be given again")
    ] = None,
    evidence: Annotated[str, typer.Option(help="how long before and after a request an attempt may stand for one that was not made")] = "1h",
    database: DatabaseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Plan the ledger's requests again under another configuration: cost, times, SLO, targets and budgets, and for how much there is no evidence."""
    from gateway.cli.settings import load_or_exit
    from gateway.replay.replaying import Span
    from gateway.replay.run import replay as replayed
    from providers.local.weights import WeightsNotFound

    conditions = [_condition(text) for text in fail_if or ()]
    evidence_s, since_us = _evidence_s(evidence), since_or_exit(since)
    settings = load_or_exit(policy).settings
    ledger = open_ledger(database or (settings.state.database if config is None else None), config)
    if team not in settings.teams:
        known_or_exit(team, "team", ledger, config)
    try:
        told = replayed(settings, ledger, Span(since_us, int(time.time() * 1e6) + 1, team), evidence_s)
    except WeightsNotFound as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    tell_deleted(told["whole"], "they are not in it")
    failures = [why for each in conditions if (why := each.fails(told)) is not None]
    if as_json:
        typer.echo(json.dumps(told | {"failures": failures}))
    else:
        _show(told, since)
    for why in failures:
        typer.echo(f"failed: {why}", err=True)
    raise typer.Exit(1 if failures else 0)


def _condition(text: str) -> "Condition":
    from gateway.replay.conditions import condition

    try:
        return condition(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--fail-if") from error


def _evidence_s(text: str) -> int:
    from ledger.units import seconds

    try:
        return seconds(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--evidence") from error


# --- as text ---------------------------------------------------------------------------------------------------------------
def _show(told: dict[str, Any], since: str) -> None:
    requests, without = told["requests"], told["no_evidence"]
    if not requests["planned"]:
        typer.echo(f"no request of the last {since} can be planned again")
        return
    typer.echo(f"{requests['planned']} requests of the last {since}; {told['same_target']:.1%} would have gone to the same target first")
    left = {"kept_answers": "answered from the cache", "refused": "refused before a plan", "not_served": "for models that the configuration has not"}
    if aside := [f"{requests[name]} {words}" for name, words in left.items() if requests[name]]:
        typer.echo(f"not planned again: {', '.join(aside)}")
    typer.echo(f"no evidence: {without['requests']} requests, {without['share']:.1%}; of the figures, they are in the first choices alone")
    print_table(["", "recorded", "replayed", "change", "requests"], list(_figures(told)), "")
    typer.echo("prices: the ledger's of attempts that were made; this configuration's of others alone (turnout reprice changes the ledger's)")
    typer.echo("")
    head = ["first choice", "recorded", "share", "replayed", "share", "no evidence", "little known"]
    print_table(head, [_target(each) for each in told["targets"]], "")
    if told["budgets"]:
        typer.echo("")
        print_table(["beyond its budget", "window", "from", "budget USD", "recorded USD", "replayed USD", "recorded", "replayed"], _budgets(told), "")
    else:
        typer.echo(plain("no budget is exceeded"))


def _figures(told: dict[str, Any]) -> Iterator[list[Any]]:
    cost, change = told["cost"], told["cost"]["change"]
    yield ["cost USD", cost["recorded_usd"], cost["replayed_usd"], _percent(change), _of(cost["requests"], cost["unpriced"])]
    for part, words in (("ttft", "first token ms"), ("end", "whole answer ms")):
        times = told[part]
        for name in ("p50", "p95"):
            then, now = (times[f"{side}_{name}_ms"] for side in ("recorded", "replayed"))
            yield [f"{words} {name}", _whole(then), _whole(now), _percent(times[f"{name}_change"]), times["replayed"]]
    for part, words in (("slo", "SLO kept"), ("failed", "failed")):
        shares = told[part]
        then, now = shares["recorded"], shares["replayed"]
        points = None if then is None or now is None else f"{(now - then) * 100:+.2f} points"
        yield [words, _share(then), _share(now), points, shares["requests"]]


def _target(each: dict[str, Any]) -> list[Any]:
    name = f"{each['target']} (own)" if each["owned"] else each["target"]
    shares = (_share(each["recorded_share"], 1), _share(each["replayed_share"], 1))
    return [name, each["recorded"], shares[0], each["replayed"], shares[1], each["no_evidence"], each["not_known"]]


def _budgets(told: dict[str, Any]) -> list[list[Any]]:
    keys = ("scope", "window", "from", "budget_usd", "recorded_usd", "replayed_usd", "recorded_beyond", "replayed_beyond")
    return [[each[key] for key in keys] for each in told["budgets"]]


def _of(count: int, unpriced: int) -> str:
    return f"{count} ({unpriced} of unknown cost left out)" if unpriced else str(count)


def _percent(change: float | None) -> str | None:
    return None if change is None else f"{change:+.1%}"


def _share(share: float | None, digits: int = 2) -> str | None:
    return None if share is None else f"{share:.{digits}%}"


def _whole(milliseconds: float | None) -> str | None:
    return None if milliseconds is None else f"{milliseconds:.0f}"
