"""`turnout check`, `init`, `config schema`, `providers` and `doctor`: the configuration and the machine, looked at without serving."""

import json
import os
import sys
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="print JSON")]


def register(app: typer.Typer) -> None:
    app.command()(check)
    app.command()(init)
    app.command()(providers)
    app.command()(doctor)
    config = typer.Typer(help="About the configuration file's format.", no_args_is_help=True)
    config.command("schema")(schema)
    app.add_typer(config, name="config")


def check(file: Annotated[Path, typer.Argument(help="the YAML file")], as_json: JsonOption = False) -> None:
    """Check a configuration: exit 0 when it is good, whatever is noted; 1 with findings."""
    from config.load import ConfigError, load, shown
    from gateway.cli.settings import known_kinds

    try:
        loaded = load(file, os.environ, known_kinds())
        findings, notes = loaded.advice, loaded.notes
    except ConfigError as error:
        findings, notes = error.findings, []
    if as_json:
        rows = [
            {
                "file": str(file),
                "line": f.place.line if f.place else None,
                "column": f.place.column if f.place else None,
                "message": f.message,
                "advice": f.advice,
                "note": f.note,
            }
            for f in (*findings, *notes)
        ]
        typer.echo(json.dumps(rows))
    else:
        for finding in (*findings, *notes):
            typer.echo(shown(str(file), finding), err=True)
        typer.echo(f"{file}: {len(findings)} finding{'' if len(findings) == 1 else 's'}" if findings else f"{file}: ok", err=bool(findings))
    raise typer.Exit(1 if findings else 0)


def init(
    file: Annotated[Path, typer.Argument(help="where to write it")] = Path("turnout.yaml"),
    force: Annotated[bool, typer.Option(help="overwrite what is there")] = False,
) -> None:
    """Write an example configuration that serves the embedded engine as it stands."""
    try:
        with file.open("w" if force else "x", encoding="utf-8") as out:
            out.write(files("config").joinpath("example.yaml").read_text(encoding="utf-8"))
    except FileExistsError as exc:
        typer.echo(f"{file} exists already; --force overwrites it", err=True)
        raise typer.Exit(1) from exc
    except OSError as exc:
        typer.echo(f"{file} cannot be written: {exc.strerror}", err=True)
        raise typer.Exit(1) from exc
    typer.echo(f"wrote {file}; next: turnout check {file} && turnout serve --config {file}")


def schema() -> None:
    """Print the configuration's JSON schema."""
    from config.schema import schema_text

    typer.echo(schema_text(), nl=False)


def providers(kind: Annotated[str | None, typer.Argument(help="one kind, with all that is known of it")] = None, as_json: JsonOption = False) -> None:
    """List the kinds of provider: wire, URL, the variable that holds the key, and with a kind's name all its facts."""
    from config.load import suggestion
    from gateway.cli.provider_rows import describe, listed, row_line
    from providers.registry import PROVIDER_KINDS

    if kind is not None and kind not in PROVIDER_KINDS:
        raise typer.BadParameter(f"there is no kind {kind!r}{suggestion(kind, PROVIDER_KINDS)}")
    rows = [describe(name, row, os.environ) for name, row in PROVIDER_KINDS.items() if kind in (None, name)]
    if as_json:
        typer.echo(json.dumps(rows))
        return
    for line in listed(rows[0]) if kind is not None else map(row_line, rows):
        typer.echo(line)


def doctor(
    config: Annotated[Path | None, typer.Option("--config", "-c", help="the YAML file; without one: what `turnout serve` would serve")] = None,
    as_json: JsonOption = False,
) -> None:
    """Look for what would keep the gateway from working on this machine: exit 0 when nothing would."""
    from gateway.doctor import examine

    results = examine(config)
    if as_json:
        typer.echo(json.dumps([{"check": r.check, "ok": r.ok, "detail": r.detail} for r in results]))
    else:
        for result in results:
            typer.echo(f"{'ok  ' if result.ok else 'FAIL'}  {result.check:<16} {result.detail}", file=sys.stdout)
    raise typer.Exit(0 if all(result.ok for result in results) else 1)
