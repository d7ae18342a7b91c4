"""`turnout models`: the names that a configuration offers; `models pull | list | remove`: the models on this machine that engines can load."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from providers.local.models.pull import Shown
    from providers.local.models.store import ModelStore, Stored

JsonOption = Annotated[bool, typer.Option("--json", help="print JSON")]
NameArgument = Annotated[str, typer.Argument(help="builtin:NAME, hf:OWNER/REPO, hf:OWNER/REPO/FILE.gguf (each with @REVISION), or a path")]


def register(app: typer.Typer) -> None:
    models = typer.Typer(help="The models that clients may ask for, and those on this machine that engines can load.")
    models.callback(invoke_without_command=True)(offered)
    models.command("pull")(pull)
    models.command("list")(list_models)
    models.command("remove")(remove)
    app.add_typer(models, name="models")


def offered(
    context: typer.Context,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="the YAML file; without one: what `turnout serve` would serve")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the models that clients may ask for, with their targets in order; or see to those that engines load, by a command."""
    if context.invoked_subcommand is not None:
        return
    from gateway.cli.settings import load_or_exit

    settings = load_or_exit(config).settings
    rows = [
        {
            "model": name,
            "policy": entry.policy,
            "targets": [f"{t.provider or t.engine}:{t.model}" if t.model else t.provider or t.engine for t in entry.targets],
        }
        for name, entry in settings.models.items()
    ]
    if as_json:
        typer.echo(json.dumps(rows))
        return
    for row in rows:
        typer.echo(f"{row['model']}  ->  {', then '.join(map(str, row['targets'] or []))}")


def pull(name: NameArgument, as_json: JsonOption = False) -> None:
    """Fetch a model, going on where it was cut, and check it; a path is looked at and remembered. No request ever fetches one."""
    from providers.http.download import CannotFetch
    from providers.local.fit.shape import UnknownShape
    from providers.local.models.hub import NoSuchModel
    from providers.local.models.pull import CannotPull
    from providers.local.models.pull import pull as bring
    from providers.local.weights import WeightsNotFound

    try:
        with _progress() as shown:
            stored = bring(name, _store(), shown, os.environ)
    except (CannotFetch, CannotPull, NoSuchModel, WeightsNotFound, UnknownShape) as exc:
        typer.echo(f"{name} was not pulled: {exc}", err=True)
        if isinstance(exc, CannotFetch):
            typer.echo(
                "a mirror can be named by HF_ENDPOINT; a checkpoint's folder or a GGUF file that lies here needs no hub: pull its path", err=True
            )
        raise typer.Exit(1) from exc
    except OSError as exc:
        typer.echo(f"{name} was not pulled: {exc.filename or 'the disk'}: {exc.strerror}", err=True)
        raise typer.Exit(1) from exc
    typer.echo(json.dumps(_row(stored)) if as_json else f"{stored.name} is here; in a configuration: model: {_model(stored)}")


def list_models(as_json: JsonOption = False) -> None:
    """List the models on this machine: built-in, fetched and remembered ones; `not whole`: another `pull` goes on."""
    from gateway.cli.tables import print_table

    rows = list(_rows(_store()))
    if as_json:
        typer.echo(json.dumps(rows))
        return
    cells = [[row["name"], row["state"], f"{row['bytes'] / 1e6:,.1f} MB" if row["bytes"] else None, row["path"]] for row in rows]
    print_table(["name", "state", "size", "path"], cells, "no models")


def remove(name: NameArgument) -> None:
    """Remove a model that was pulled, or what came of it; of one that lies elsewhere its name alone is forgotten."""
    from providers.local.models.hub import PREFIX, NoSuchModel
    from providers.local.weights import BUILTIN_PREFIX

    known = name if name.startswith((PREFIX, BUILTIN_PREFIX)) else str(Path(name).expanduser().absolute())
    try:
        found = _store().find(known)
        removed = _store().remove(known)
    except NoSuchModel as exc:
        raise typer.BadParameter(str(exc)) from exc
    if not removed:
        typer.echo(f"{name} was not pulled; `turnout models list` shows what was", err=True)
        raise typer.Exit(1)
    if found is not None and not found.own:
        typer.echo(f"{name} is off the list; its files stay where they are, in {found.path}")
        return
    typer.echo(f"{name} is removed")


def _store() -> "ModelStore":
    from config.home import home
    from providers.local.models.store import ModelStore

    return ModelStore(home(os.environ) / "models")


def _rows(store: "ModelStore") -> Iterator[dict[str, Any]]:
    from providers.local.weights import BUILTIN, BUILTIN_PREFIX, packaged_file

    for name, weights in BUILTIN.items():
        if (path := packaged_file(weights.distribution)) is not None:
            yield {"name": BUILTIN_PREFIX + name, "state": "installed", "bytes": path.stat().st_size, "path": str(path), "revision": weights.version}
    yield from map(_row, store.all())


def _row(stored: "Stored") -> dict[str, Any]:
    state = "not whole" if not stored.whole else "here" if stored.own else "elsewhere"
    return {"name": stored.name, "state": state, "bytes": stored.size or None, "path": stored.path, "revision": stored.revision}


def _model(stored: "Stored") -> str:
    from providers.local.weights import BUILTIN_PREFIX

    return json.dumps(stored.name if stored.name.startswith(BUILTIN_PREFIX) else stored.path)


@contextmanager
def _progress() -> "Iterator[Shown]":
    """A bar on a terminal's stderr; a line where there is none."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    console = Console(file=sys.stderr)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:

        class Bar:
            def begin(self, what: str, size: int) -> Callable[[int], None]:
                if not console.is_terminal:
                    typer.echo(f"fetching {what}, {size / 1e6:,.1f} MB", err=True)
                task = progress.add_task(what, total=size)
                return lambda came: progress.advance(task, came)

        yield Bar()
