"""`turnout explain`: what would be decided about a request now, or what was decided about one: candidates, predictions, and why."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.ledger_file import DatabaseOption, JsonOption, ledger_at, open_ledger, rows_or_exit
from gateway.cli.tables import plain, print_table

if TYPE_CHECKING:
    from config.settings import Settings
    from policy.ask import Ask

ConfigOption = Annotated[Path | None, typer.Option("--config", "-c", help="the YAML file; without one: what `turnout serve` would serve")]
PROMPT_TOKENS = 1_000
MOST_TOKENS = 100_000_000  # as GET /v1/explain takes
HEAD = ("target", "verdict", "why", "first token ms", "p95", "end s", "p95", "tokens/s", "output", "USD", "list USD", "SLO odds", "measured")


def register(app: typer.Typer) -> None:
    app.command()(explain)


def explain(  # noqa: PLR0913 - a command's options are its parameters
    request_id: Annotated[str | None, typer.Argument(help="the x-request-id of an answer; without one: what would be decided now")] = None,
    team: Annotated[str | None, typer.Option(help="who would ask [default: a team without a policy of its own]")] = None,
    model: Annotated[str | None, typer.Option(help="what would be asked for")] = None,
    prompt_tokens: Annotated[int, typer.Option(min=0, max=MOST_TOKENS, help="how long the prompt would be")] = PROMPT_TOKENS,
    max_tokens: Annotated[int | None, typer.Option(min=1, max=MOST_TOKENS, help="the request's own limit on the answer")] = None,
    unary: Annotated[bool, typer.Option("--unary", help="not streamed")] = False,
    database: DatabaseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Explain a decision: every candidate, what is predicted of it, the rule that removed it, and why the winner won. Exit 1: nobody is left."""
    from gateway.cli.settings import load_or_exit
    from policy.ask import Ask

    if (request_id is None) == (model is None):
        raise typer.BadParameter("name either a request's id or a --model")
    if request_id is not None:
        _show_stored(request_id, database, config, as_json)
        return
    settings = load_or_exit(config).settings
    ask = Ask(request_id="", streamed=not unary, prompt_tokens=prompt_tokens, max_tokens=max_tokens)
    decided = _foreseen(settings, team, model or "", ask, database)
    if as_json:
        typer.echo(json.dumps(decided))
    else:
        _show(decided, team)
    raise typer.Exit(0 if decided["chosen"] else 1)


def _foreseen(settings: "Settings", team: str | None, model: str, ask: "Ask", database: str | None) -> dict[str, Any]:
    """The decision as plain values; a message and exit code 2 for a name that is not known."""
    from msgspec import to_builtins

    from config.load import suggestion
    from contract.errors import InvalidRequest, ModelNotFound
    from gateway.foresight import foresee
    from ledger.database import shown
    from providers.local.weights import WeightsNotFound

    if team is not None and team not in settings.teams:
        hint = suggestion(team, settings.teams) if settings.teams else "; the configuration has none: name another with --config"
        raise typer.BadParameter(f"there is no team {team!r}{hint}", param_hint="--team")
    ledger = open_ledger(database, None) if database else ledger_at(settings.state.database)
    if ledger is None:
        typer.echo(f"note: there is no ledger at {shown(settings.state.database)} yet, so nothing is known of the targets", err=True)
    try:
        decided: dict[str, Any] = to_builtins(foresee(settings, team, model, ask, ledger))
    except ModelNotFound as error:
        may_use = None if team is None else settings.teams[team].models
        names = settings.models if may_use is None else may_use
        raise typer.BadParameter(f"{error}{suggestion(model, names)}", param_hint="--model") from error
    except InvalidRequest as error:
        raise typer.BadParameter(error.message, param_hint="--max-tokens") from error
    except WeightsNotFound as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    return decided


def _show_stored(request_id: str, database: str | None, config: Path | None, as_json: bool) -> None:
    from gateway.cli.ledger_commands import attempt_lines
    from ledger.described import describe_decision

    rows = rows_or_exit(open_ledger(database, config), request_id)
    told = describe_decision(rows)
    if as_json:
        typer.echo(json.dumps(told))
        return
    typer.echo(plain(f"{told['request_id']}  {told['status']}  {told['time']}  {told['endpoint']}"))
    if told["decision"] is None:
        typer.echo("no decision is kept of it")
    else:
        _show(told["decision"], told["team"])
    typer.echo("what then happened:")
    for row, attempt in zip(rows, told["attempts"], strict=True):
        for line in attempt_lines(row, attempt):
            typer.echo(plain(line))


def _show(decided: dict[str, Any], team: str | None) -> None:
    asker = "" if team is None else f", team {team}"
    limit = "" if decided["max_tokens"] is None else f", {decided['max_tokens']} at most in the answer"
    streamed = "streamed" if decided["streamed"] else "unary"
    typer.echo(plain(f"model {decided['model']}{asker}: about {decided['prompt_tokens']} tokens in the prompt{limit}, {streamed}"))
    typer.echo(plain(f"policy {decided['policy']}: {', '.join([decided['objective'], *_promises(decided['slo'] or {})])}"))
    odds = {None: "", True: ", predicted to meet the SLO", False: ", predicted to miss the SLO"}[decided["slo_met"]]
    typer.echo(plain(f"chosen: {decided['chosen']} ({decided['why']}{odds})" if decided["chosen"] else f"chosen: nobody ({decided['why']})"))
    print_table(HEAD, [list(_cells(each)) for each in decided["candidates"]], "the model has no targets")
    for each in decided.get("left_out", ()):
        typer.echo(plain(f"left out: {each['targets']} ({each['rule']})"))


def _promises(slo: dict[str, Any]) -> Iterator[str]:
    forms = {"ttft_p95_ms": "first token within {:g} ms", "tokens_per_s": "{:g} tokens/s", "deadline_ms": "whole within {:g} ms"}
    for name, form in forms.items():
        if slo.get(name) is not None:
            yield form.format(slo[name])


def _cells(each: dict[str, Any]) -> Iterator[str | None]:
    yield from (f"{each['target']} (own)" if each["owned"] else each["target"], each["verdict"], each["rule"])
    forms = {
        "ttft_ms": "{:.0f}",
        "ttft_p95_ms": "{:.0f}",
        "finish_s": "{:.2f}",
        "finish_p95_s": "{:.2f}",
        "tokens_per_s": "{:.1f}",
        "output_tokens": "{:.0f}",
        "cost_usd": "{:.6f}",
        "list_cost_usd": "{:.6f}",
        "p_slo": "{:.0%}",
        "samples": "{:.1f}",
    }
    for name, form in forms.items():
        yield None if each[name] is None else form.format(each[name])
