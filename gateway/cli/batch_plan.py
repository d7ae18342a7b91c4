"""`turnout batch plan`: where a file of requests would run, what each way would cost, and when it would end. Nothing is sent."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.ledger_file import DatabaseOption, JsonOption, ledger_at, open_ledger
from gateway.cli.tables import plain, print_table

if TYPE_CHECKING:
    from gateway.batches.ways import Sized
    from policy.batch_plan import Outlook, Plan, Way

ConfigOption = Annotated[Path | None, typer.Option("--config", "-c", help="the YAML file; without one: what `turnout serve` would serve")]
HOW = {"provider_batch": "batch API", "engine": "idle engine", "realtime": "live calls"}
HEAD = ("target", "how", "USD", "ends in", "in time", "why not")
LIMIT_FIELDS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
CONCURRENCY = 8


def plan_command(  # noqa: PLR0913 - a command's options are its parameters
    file: Annotated[Path, typer.Argument(help="requests, one a line, as OpenAI's batches take them")],
    deadline: Annotated[str, typer.Option(help="by when it must have ended: 1h to 7d")] = "24h",
    team: Annotated[str | None, typer.Option(help="whose it is: its policy, models and limits count")] = None,
    model: Annotated[str | None, typer.Option(help="the model that is asked for [default: the file's own]")] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="how many rows at once, where it is not a provider's batch API")] = CONCURRENCY,
    database: DatabaseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show where a batch would run, what each way costs and when it ends. Exit 1: nothing ends it in time, or the file cannot be read."""
    from config.load import suggestion
    from contract.errors import InvalidRequest, ModelNotFound
    from gateway.batches.rendering import window_s
    from gateway.batches.ways import ways_of
    from gateway.cli.settings import load_or_exit
    from ledger.database import shown
    from policy.batch_plan import outlooks, plan

    try:
        deadline_s = window_s(deadline)
    except InvalidRequest as error:
        raise typer.BadParameter("it must be hours or days up to 7d, such as 24h", param_hint="--deadline") from error
    sized = _sized_or_exit(file, model)
    settings = load_or_exit(config).settings
    if team is not None and team not in settings.teams:
        raise typer.BadParameter(f"there is no team {team!r}{suggestion(team, settings.teams)}", param_hint="--team")
    ledger = open_ledger(database, None) if database else ledger_at(settings.state.database)
    if ledger is None:
        typer.echo(f"note: there is no ledger at {shown(settings.state.database)} yet, so nothing is known of the targets' speed", err=True)
    try:
        ways = ways_of(settings, team, sized, concurrency, ledger)
    except ModelNotFound as error:
        raise typer.BadParameter(f"{error}{suggestion(sized.model, settings.models)}", param_hint="--model") from error
    except InvalidRequest as error:
        raise typer.BadParameter(error.message, param_hint="FILE") from error
    chosen = plan(sized.rows, deadline_s, ways)
    each = outlooks(sized.rows, deadline_s, ways)
    if as_json:
        typer.echo(json.dumps(_told(sized, deadline_s, chosen, each)))
    else:
        _show(sized, deadline, chosen, each)
    raise typer.Exit(0 if chosen.in_time else 1)


def _sized_or_exit(file: Path, model: str | None) -> "Sized":
    """The file in numbers, read a line at a time; a finding with its line and exit code 1 for what cannot be planned."""
    try:
        with file.open("rb") as lines:
            return sized_of(lines, model)
    except OSError as error:
        typer.echo(f"{file} cannot be read: {error.strerror or error}", err=True)
    except ValueError as error:
        typer.echo(f"{file}{error}", err=True)
    raise typer.Exit(1)


def sized_of(lines: Iterable[bytes], model: str | None) -> "Sized":
    """Raises ValueError, whose text begins with the line at fault."""
    from batch.checking import OPENAI
    from contract.usage import BYTES_PER_TOKEN
    from gateway.batches.ways import Sized

    rows = size = longest = 0
    endpoint = ""
    limited = True
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        url, body = _row(line, number)
        found = body.get("model")
        if model is None and isinstance(found, str):
            model = found
        if rows and url != endpoint:
            raise ValueError(f":{number}: it asks {url}, and the rows before it {endpoint}; a batch has one endpoint")
        endpoint = url
        rows += 1
        if rows > OPENAI.rows:
            raise ValueError(f":{number}: a batch has {OPENAI.rows} rows at most")
        size += len(line)
        limit = next((value for field in LIMIT_FIELDS if isinstance(value := body.get(field), int)), None)
        limited = limited and limit is not None
        longest = max(longest, limit or 0)
    if not rows or model is None:
        raise ValueError(": it holds no request" if not rows else ": no row names a model; name it by --model")
    return Sized(
        model=model,
        endpoint=endpoint,
        rows=rows,
        prompt_tokens=max(1, size // rows // BYTES_PER_TOKEN),
        max_tokens=longest if limited else None,
    )


def _row(line: bytes, number: int) -> tuple[str, dict[str, Any]]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as exc:
        raise ValueError(f":{number}: it is not JSON") from exc
    url, body = (row.get("url"), row.get("body")) if isinstance(row, dict) else (None, None)
    if not isinstance(url, str) or not isinstance(body, dict):
        raise ValueError(f":{number}: it has no `url` and `body`")
    return url, body


def _told(sized: "Sized", deadline_s: int, chosen: "Plan", each: "list[Outlook]") -> dict[str, Any]:
    from ledger.units import usd

    def way(given: "Way") -> dict[str, Any]:
        return {"target": given.target, "how": given.kind, "assumed_speed": given.assumed}

    return {
        "model": sized.model,
        "rows": sized.rows,
        "prompt_tokens": sized.prompt_tokens,
        "max_tokens": sized.max_tokens,
        "deadline_s": deadline_s,
        "in_time": chosen.in_time,
        "ends_s": chosen.ends_s,
        "cost_usd": usd(chosen.cost_nusd),
        "unplaced": chosen.unplaced,
        "shares": [{**way(share.way), "rows": share.rows, "cost_usd": usd(share.cost_nusd), "ends_s": share.ends_s} for share in chosen.shares],
        "ways": [{**way(one.way), "cost_usd": usd(one.cost_nusd), "ends_s": one.ends_s, "why_not": one.why_not or None} for one in each],
    }


def _show(sized: "Sized", deadline: str, chosen: "Plan", each: "list[Outlook]") -> None:
    from gateway.batches.ways import ASSUMED_S

    limit = "" if sized.max_tokens is None else f", {sized.max_tokens} at most in an answer"
    typer.echo(plain(f"model {sized.model}: {sized.rows} rows of about {sized.prompt_tokens} tokens{limit}, to end within {deadline}"))
    for share in chosen.shares:
        typer.echo(plain(f"  {share.rows} rows: {share.way.target}, {HOW[share.way.kind]}, {_usd(share.cost_nusd)}, ends in {span(share.ends_s)}"))
    if any(share.way.assumed for share in chosen.shares):
        typer.echo(
            f"note: nothing was measured there yet; {ASSUMED_S:g} s a row are assumed, and the plan is made anew where its rows fall behind", err=True
        )
    verdict = "in time" if chosen.in_time else "NOT in time"
    ends = f"{chosen.unplaced} rows have nowhere to run" if chosen.ends_s is None else f"ends in {span(chosen.ends_s)}"
    typer.echo(f"in all {_usd(chosen.cost_nusd)}, {ends}: {verdict}")
    rows = [
        (
            one.way.target,
            HOW[one.way.kind],
            None if one.cost_nusd is None else _usd(one.cost_nusd),
            None if one.ends_s is None else span(one.ends_s),
            "no" if one.why_not else "yes",
            one.why_not or ("its speed is assumed" if one.way.assumed else ""),
        )
        for one in each
    ]
    print_table(HEAD, rows, "the model has no targets")


def _usd(cost_nusd: int | None) -> str:
    return "at a price that is not known" if cost_nusd is None else f"${cost_nusd / 1e9:.4f}"


def span(seconds: float) -> str:
    """A time as people say it: 40 s, 12 min, 3.5 h, and from two days on 2.0 d."""
    for unit, name, form in ((86400, "d", ".1f"), (3600, "h", ".1f"), (60, "min", ".0f")):
        if seconds >= (unit if unit < 86400 else 2 * unit):
            return f"{seconds / unit:{form}} {name}"
    return f"{seconds:.0f} s"
