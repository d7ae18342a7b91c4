"""`turnout batch`: a file of rows to a running gateway, its progress watched, its results fetched."""

import json
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.batch_plan import plan_command
from gateway.cli.ledger_file import JsonOption

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.cli.batch_client import GatewayClient, Pace, Progress, Watching

batch_app = typer.Typer(help="Batches of a running gateway.", no_args_is_help=True)

UrlOption = Annotated[str, typer.Option(envvar="TURNOUT_URL", help="the gateway")]
KeyOption = Annotated[str, typer.Option(envvar="TURNOUT_KEY", help="a team's key; better in the variable than on the line", show_default=False)]
EveryOption = Annotated[float, typer.Option(min=0.1, help="seconds between two looks")]
URL = "http://127.0.0.1:8080"


def register(app: typer.Typer) -> None:
    batch_app.command("plan")(plan_command)
    app.add_typer(batch_app, name="batch")


@contextmanager
def _asking(url: str, key: str) -> "Iterator[GatewayClient]":
    from gateway.cli.batch_client import CannotAsk, GatewayClient

    if not key:
        typer.echo("no key: set TURNOUT_KEY", err=True)
        raise typer.Exit(2)
    try:
        yield GatewayClient(url, key)
    except (CannotAsk, OSError) as exc:
        typer.echo(str(exc), err=True)
        raise typer.Exit(1) from exc


@batch_app.command()
def submit(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="JSONL, a request a line, as OpenAI's batch files")],
    window: Annotated[str, typer.Option(help="the time it may take, such as 24h or 2d")] = "24h",
    watched: Annotated[bool, typer.Option("--watch", help="watch it until it ends")] = False,
    url: UrlOption = URL,
    key: KeyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Submit a file of rows; prints the batch's id."""
    try:
        with file.open() as rows:
            endpoint = json.loads(rows.readline())["url"]
    except (ValueError, KeyError, TypeError):
        typer.echo(f"{file}:1: the first line is no row of a batch: it needs custom_id, method, url and body", err=True)
        raise typer.Exit(2) from None
    with _asking(url, key) as gateway:
        id = gateway.submit(file, str(endpoint), window)
        typer.echo(json.dumps({"id": id}) if as_json else id)
        if watched:
            _watch(gateway, id, 1.0, as_json)


@batch_app.command()
def watch(id: str, every: EveryOption = 1.0, url: UrlOption = URL, key: KeyOption = "", as_json: JsonOption = False) -> None:
    """Show a batch's progress until it ends: a bar on a terminal, else a line for each change."""
    with _asking(url, key) as gateway:
        _watch(gateway, id, every, as_json)


@batch_app.command()
def status(
    id: Annotated[str | None, typer.Argument(help="default: the newest batches")] = None,
    url: UrlOption = URL,
    key: KeyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show how far a batch is."""
    with _asking(url, key) as gateway:
        found = gateway.batches(20) if id is None else [gateway.progress(id)]
    if as_json:
        typer.echo(json.dumps([_told(each) for each in found] if id is None else _told(found[0])))
        return
    for each in found:
        typer.echo(_line(each, None))
        if id is not None:
            _plan(each)
            _faults(each)
        elif each.errors:
            typer.echo(f"  {len(each.errors)} faults in its file: turnout batch status {each.id}", err=True)


@batch_app.command()
def download(
    id: str,
    folder: Annotated[Path, typer.Option(file_okay=False, help="where the files go")] = Path(),
    url: UrlOption = URL,
    key: KeyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Fetch the files of a batch that has ended: ID.output.jsonl and ID.error.jsonl, or ID.results.jsonl."""
    with _asking(url, key) as gateway:
        progress = gateway.progress(id)
        if not progress.ended:
            typer.echo(f"the batch is {progress.status}; its files are there when it has ended", err=True)
            raise typer.Exit(1)
        folder.mkdir(parents=True, exist_ok=True)
        fetched = {kind: folder / f"{progress.id}.{kind}.jsonl" for kind in progress.files}
        sizes = {kind: gateway.download(progress.files[kind], path) for kind, path in fetched.items()}
    if as_json:
        typer.echo(json.dumps({kind: str(path) for kind, path in fetched.items()}))
        return
    for kind, path in fetched.items():
        typer.echo(f"{path} ({sizes[kind]} bytes)")


@batch_app.command()
def cancel(id: str, url: UrlOption = URL, key: KeyOption = "", as_json: JsonOption = False) -> None:
    """Stop a batch; what was answered is kept."""
    with _asking(url, key) as gateway:
        progress = gateway.cancel(id)
    typer.echo(json.dumps(_told(progress)) if as_json else _line(progress, None))


# --- watching ----------------------------------------------------------------------------------------------------------
def _watch(gateway: "GatewayClient", id: str, every_s: float, as_json: bool) -> None:
    from rich.console import Console

    from gateway.cli.batch_client import Looks, Watching

    looks, console = Looks(), Console()
    watching = Watching(gateway, id, lambda said: typer.echo(said, err=True))
    if console.is_terminal and not as_json:
        progress = _on_terminal(watching, id, every_s, looks, console)
    else:
        seen = ""
        while True:
            progress = watching.look()
            pace = looks.add(time.monotonic(), progress)
            state = f"{progress.status} {progress.done}"
            if state != seen:
                typer.echo(json.dumps(_told(progress)) if as_json else _line(progress, pace))
                seen = state
            if progress.ended:
                break
            time.sleep(every_s)
    if not as_json:
        _faults(progress)
    if progress.status not in ("completed", "ended"):
        raise typer.Exit(1)


def _on_terminal(watching: "Watching", id: str, every_s: float, looks: Any, console: Any) -> "Progress":
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[said]}"))
    with Bar(*columns, console=console) as bar:
        task = bar.add_task(id, total=None, said="")
        while True:
            progress = watching.look()
            pace = looks.add(time.monotonic(), progress)
            bar.update(task, description=progress.status, total=progress.total or None, completed=progress.done, said=_said(progress, pace))
            if progress.ended:
                return progress
            time.sleep(every_s)


def _said(progress: "Progress", pace: "Pace | None") -> str:
    """All but the rows."""
    words = []
    if pace is not None and not progress.ended:
        if pace.rows_per_s is not None:
            words.append(f"{pace.rows_per_s:.1f} rows/s")
        if pace.tokens_per_s is not None:
            words.append(f"{pace.tokens_per_s:.0f} tok/s")
        if pace.eta_s is not None:
            words.append(f"ETA {_duration(pace.eta_s)}")
    cost = f"${progress.cost_usd:.4f}" + (f" and {progress.unpriced} rows of unknown cost" if progress.unpriced else "")
    if pace is not None and pace.projected_usd is not None and not progress.ended:
        cost += f" of about ${pace.projected_usd:.4f}"
    words.append(cost)
    if progress.targets:
        answered = sum(progress.targets.values())
        words.append(", ".join(f"{target} {count / answered:.0%}" for target, count in sorted(progress.targets.items())))
    return " · ".join(words)


def _line(progress: "Progress", pace: "Pace | None") -> str:
    failed = progress.done - progress.rows["succeeded"]
    rows = f"{progress.done}/{progress.total} rows" + (f", {failed} without an answer" if failed else "")
    return f"{progress.id} {progress.status} {rows} · {_said(progress, pace)}"


def _plan(progress: "Progress") -> None:
    from gateway.cli.batch_plan import HOW

    for share in () if progress.plan is None else progress.plan["shares"]:
        cost = "" if share["cost_usd"] is None else f", about ${share['cost_usd']:.4f}"
        typer.echo(f"  planned: {share['rows']} rows of {share['model']}, {share['target'] or 'by policy'}, {HOW[share['how']]}{cost}")


def _faults(progress: "Progress") -> None:
    for fault in progress.errors:
        where = "" if fault["line"] is None else f"line {fault['line']}: "
        typer.echo(f"{where}{fault['message']} ({fault['code']})", err=True)


def _told(progress: "Progress") -> dict[str, Any]:
    import msgspec

    told: dict[str, Any] = msgspec.to_builtins(progress)
    return told


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
