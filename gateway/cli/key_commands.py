"""`turnout keys` and `turnout teams`: keys made at run time, in the configured database; no gateway needs to run, and one that does hears of it."""

import getpass
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from gateway.cli.ledger_file import DatabaseOption, JsonOption, ledger_at, open_ledger
from gateway.cli.tables import plain, print_table

if TYPE_CHECKING:
    from config.settings import Settings
    from gateway.made_keys import NewKey
    from ledger.keys import Keys, MadeKey

ConfigOption = Annotated[Path | None, typer.Option("--config", "-c", help="the YAML file with teams and state.database")]
IdArgument = Annotated[str, typer.Argument(help="the key's id, as `turnout keys list` shows it")]


def register(app: typer.Typer) -> None:
    keys = typer.Typer(help="Keys of teams, made at run time.", no_args_is_help=True)
    for command in (create, rotate, revoke):
        keys.command()(command)
    keys.command("list")(list_keys)
    app.add_typer(keys, name="keys")
    teams = typer.Typer(help="The teams of the configuration.", no_args_is_help=True)
    teams.callback()(lambda: None)  # a sub-command must be named, however few there are
    teams.command("list")(list_teams)
    app.add_typer(teams, name="teams")


def create(  # noqa: PLR0913 - a command's options are its parameters
    team: Annotated[str, typer.Option(help="whose key it is")],
    name: Annotated[str, typer.Option(help="what it is for")] = "",
    expires: Annotated[str | None, typer.Option(help="how long it holds: 12h, 90d … [default: until it is revoked]")] = None,
    models: Annotated[str | None, typer.Option(help="entries of `models` that it may ask for, with commas [default: all of its team's]")] = None,
    rpm: Annotated[int | None, typer.Option(help="its own limit of requests a minute")] = None,
    tpm: Annotated[int | None, typer.Option(help="its own limit of tokens a minute")] = None,
    concurrency: Annotated[int | None, typer.Option(help="its own limit of requests at once")] = None,
    budget_usd: Annotated[float | None, typer.Option(help="its own budget, for --window")] = None,
    window: Annotated[str | None, typer.Option(help="of the budget: day, week, month or total [default: month]")] = None,
    max_usd_per_request: Annotated[float | None, typer.Option(help="what one request may cost at most")] = None,
    max_tokens_per_request: Annotated[int | None, typer.Option(help="tokens of an answer at most")] = None,
    database: DatabaseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key. Its secret is shown this once."""
    from contract.errors import InvalidRequest
    from gateway.cli.settings import load_or_exit
    from gateway.made_keys import create as create_key

    settings = load_or_exit(config).settings
    _known_team(settings, team)
    if window is not None and budget_usd is None:
        raise typer.BadParameter("--window is of a --budget-usd", param_hint="--window")
    limits = {"rpm": rpm, "tpm": tpm, "concurrency": concurrency}
    new = _new_key(
        team=team,
        name=name,
        expires_in_s=None if expires is None else _seconds(expires, "--expires"),
        models=None if models is None else [model.strip() for model in models.split(",")],
        limits=limits if any(limit is not None for limit in limits.values()) else None,
        budget=None if budget_usd is None else {"usd": budget_usd, "window": window or "month"},
        max_usd_per_request=max_usd_per_request,
        max_tokens_per_request=max_tokens_per_request,
    )
    try:
        key, secret = create_key(_store(database, config, settings), settings, new, _user())
    except InvalidRequest as error:
        raise typer.BadParameter(error.message) from error
    _show_secret(key, secret, as_json)


def list_keys(
    team: Annotated[str | None, typer.Option(help="only this team's")] = None,
    database: DatabaseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the keys that were made, those that are over too. No secret is kept that could be shown."""
    from gateway.made_keys import described

    store = _store(database, config)
    rows = [described(key, store.now_us()) for key in store.of(team)]
    if as_json:
        typer.echo(json.dumps(rows))
        return
    head = ["id", "name", "team", "ends in", "status", "made", "by", "expires", "models", "limits", "budget"]
    columns = ("id", "name", "team", "last4", "status", "made_at", "made_by", "expires_at")
    print_table(head, [[*(row[name] for name in columns), *_own(row)] for row in rows], "no key was made yet: `turnout keys create` makes one")


def rotate(
    key_id: IdArgument,
    grace: Annotated[str, typer.Option(help="how long the old secret holds on: 1h … 7d")] = "0s",
    database: DatabaseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a key a new secret, shown this once. Its id, limits and spend go on."""
    from ledger.keys import MAX_GRACE_S

    grace_s = _seconds(grace, "--grace")
    if grace_s > MAX_GRACE_S:
        raise typer.BadParameter("7d at most", param_hint="--grace")
    done = _store(database, config).rotate(key_id, grace_s)
    if done is None:
        _fail(f"there is no valid key {key_id!r}; `turnout keys list` shows what there is")
    _show_secret(*done, as_json)


def revoke(key_id: IdArgument, database: DatabaseOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """End a key: within a second no gateway over the database takes it any more."""
    from gateway.made_keys import described

    store = _store(database, config)
    key = store.revoke(key_id)
    if key is None:
        _fail(f"there is no key {key_id!r}; `turnout keys list` shows what there is")
    typer.echo(json.dumps(described(key, store.now_us())) if as_json else plain(f"{key.id} of team {key.team} is revoked"))


def list_teams(database: DatabaseOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List organisations and teams: models, limits, budgets, and how many keys each team has."""
    from gateway.cli.settings import load_or_exit
    from gateway.made_keys import counted, teams_of
    from ledger.keys import Keys

    settings = load_or_exit(config).settings
    made: dict[str, int] = {}
    if (ledger := ledger_at(database or settings.state.database)) is not None:
        store = Keys(ledger)
        made = counted(store.of(), store.now_us())
    teams = list(teams_of(settings, made))
    if as_json:
        typer.echo(json.dumps(teams))
        return
    head = ["organisation", "team", "models", "limits", "budget", "USD a request", "tokens an answer", "keys of the file", "keys made"]
    rows: list[list[Any]] = []
    for organisation in {each["organisation"]["name"]: each["organisation"] for each in teams if each["organisation"]}.values():
        rows.append([organisation["name"], None, *_tenant(organisation), None, None])
        rows += [_team(each) for each in teams if each["organisation"] and each["organisation"]["name"] == organisation["name"]]
    print_table(head, rows + [_team(each) for each in teams if not each["organisation"]], "the configuration has no teams")


# --- what the options say ---------------------------------------------------------------------------------------------
def _new_key(**told: Any) -> "NewKey":
    """Exit code 2 for what a key cannot have."""
    from pydantic import ValidationError

    from config.values import SHAPES
    from gateway.made_keys import NewKey

    try:
        return NewKey.model_validate({name: value for name, value in told.items() if value is not None})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        steps = [str(step) for step in first["loc"] if step not in SHAPES]
        raise typer.BadParameter(f"{'.'.join(steps)}: {first['msg']}") from error


def _user() -> str:
    """Who made it, as far as the machine knows."""
    try:
        return f"{getpass.getuser()} by the command line"
    except (KeyError, OSError):  # a user without a name
        return "the command line"


def _known_team(settings: "Settings", team: str) -> None:
    from config.load import suggestion

    if team not in settings.teams:
        raise typer.BadParameter(f"there is no team {team!r}{suggestion(team, settings.teams)}", param_hint="--team")


def _seconds(span: str, option: str) -> int:
    from ledger.units import seconds

    try:
        return seconds(span)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


def _store(database: str | None, config: Path | None, settings: "Settings | None" = None) -> "Keys":
    """The keys of the database; with `settings` it is made if there is none yet, for keys may come before the first request."""
    from ledger.database import LedgerError, open_engine
    from ledger.keys import Keys

    if settings is None:
        return Keys(open_ledger(database, config))
    try:
        return Keys(open_engine(database or settings.state.database))
    except LedgerError as error:
        _fail(str(error))


def _fail(words: str) -> NoReturn:
    typer.echo(words, err=True)
    raise typer.Exit(1)


# --- what is shown ----------------------------------------------------------------------------------------------------
def _show_secret(key: "MadeKey", secret: str, as_json: bool) -> None:
    from gateway.made_keys import described

    if as_json:
        typer.echo(json.dumps({**described(key, key.made_at_us), "key": secret}))
        return
    typer.echo(plain(f"{key.id} of team {key.team}: this secret is shown once, and kept nowhere"), err=True)
    typer.echo(secret)


def _own(row: dict[str, Any]) -> list[str | None]:
    """Models, limits and budget, each as one cell; None: none of its own."""
    budgets = row.get("budgets", row.get("budget")) or []
    budgets = [budgets] if isinstance(budgets, dict) else budgets
    limits = {name: limit for name, limit in (row.get("limits") or {}).items() if limit and name != "max_wait_s"}
    return [
        ", ".join(row.get("models") or ()) or None,
        ", ".join(f"{limit} {name}" for name, limit in limits.items()) or None,
        ", ".join(f"{budget['usd']:g} USD a {budget['window']}" for budget in budgets) or None,
    ]


def _tenant(row: dict[str, Any]) -> list[Any]:
    return [*_own(row), row["max_usd_per_request"], row["max_tokens_per_request"]]


def _team(row: dict[str, Any]) -> list[Any]:
    organisation = row["organisation"]["name"] if row["organisation"] else None
    return [organisation, row["team"], *_tenant(row), row["keys"]["of_the_file"], row["keys"]["made"]]
