"""`turnout serve`: the gateway in the foreground, and the few lines it prints when it listens."""

import json
import shlex
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="the YAML file; without one: the embedded engine and the providers whose keys are set")
]


def register(app: typer.Typer) -> None:
    @app.command()
    def serve(
        config: ConfigOption = None,
        host: Annotated[str | None, typer.Option(help="address to listen on [default: the file's, else 127.0.0.1]")] = None,
        port: Annotated[
            int | None, typer.Option(min=0, max=65535, help="port to listen on, 0 for a free one [default: the file's, else 8080]")
        ] = None,
    ) -> None:
        """Serve the gateway."""
        # imported here: the other verbs should not wait for the web framework
        from pydantic import ValidationError

        from config.document import shown
        from config.settings import Environment
        from contract.errors import LedgerUnavailable
        from gateway import logs
        from gateway.app import create_app
        from gateway.cli.settings import load_or_exit
        from gateway.fastpath import FastPath
        from gateway.runtime import build_runtime
        from gateway.server import bind, serve
        from ledger.store import LedgerError
        from providers.local.weights import WeightsNotFound

        logs.configure()
        loaded = load_or_exit(config)
        for finding in loaded.advice:
            typer.echo(f"note: {shown(loaded.file, finding)}", err=True)
        at_host, at_port = host or loaded.settings.server.host, loaded.settings.server.port if port is None else port
        try:
            listener = bind(at_host, at_port)
        except (OSError, UnicodeError, TypeError) as exc:
            why = getattr(exc, "strerror", None) or "not an address"
            typer.echo(f"cannot listen on {at_host}:{at_port}: {why}; choose another with --port", err=True)
            raise typer.Exit(1) from exc
        try:
            bootstrap = Environment().bootstrap_key
        except ValidationError as exc:
            typer.echo(f"TURNOUT_BOOTSTRAP_KEY {exc.errors()[0]['msg']}", err=True)
            raise typer.Exit(1) from None
        try:
            runtime = build_runtime(loaded.settings, bootstrap.get_secret_value() if bootstrap else None)
        except (LedgerError, LedgerUnavailable, WeightsNotFound, OSError) as exc:
            typer.echo(f"the gateway cannot start: {exc}", err=True)
            raise typer.Exit(1) from exc
        app = create_app(runtime, version("turnout"))
        url = f"http://{f'[{at_host}]' if ':' in at_host else at_host}:{listener.getsockname()[1]}"
        key = Key(None, "TURNOUT_BOOTSTRAP_KEY") if bootstrap else Key(runtime.bootstrap_key, "TURNOUT_KEY")
        admin_url = None if runtime.admin is None else runtime.admin.url
        serve(FastPath(app, runtime), listener, lambda: typer.echo(banner(url, key, runtime.example_model, loaded.key_report, admin_url)))


class Key(NamedTuple):
    """The key to show in full, if it is ours to show; else the variable that the reader keeps it in."""

    shown: str | None
    variable: str


def banner(url: str, key: Key, model: str, key_report: list[str], admin_url: str | None = None) -> str:
    """What the terminal shows once: where, with which key, which providers are on, and a line to paste."""
    elsewhere = {"TURNOUT_BOOTSTRAP_KEY": "the one in TURNOUT_BOOTSTRAP_KEY"}.get(
        key.variable, "one of the configuration file's; the line below reads TURNOUT_KEY"
    )
    authorization = shlex.quote(f"authorization: Bearer {key.shown}") if key.shown else f'"authorization: Bearer ${key.variable}"'
    question = {"role": "user", "content": "Say hello in one sentence."}
    body = shlex.quote(json.dumps({"model": model.replace("*", "NAME"), "messages": [question]}, ensure_ascii=False))
    lines = [
        f"Turnout {version('turnout')} listens.",
        "",
        f"  base URL   {url}/v1",
        f"  key        {key.shown or elsewhere}",
        f"  docs       {url}/docs",
        *([] if admin_url is None else [f"  admin API  {admin_url}"]),
        "",
        *(f"  {line}" for line in key_report),
        "",
        f"  curl -s {url}/v1/chat/completions -H {authorization} -H 'content-type: application/json' -d {body}",
        "",
    ]
    return "\n".join(lines) + "\n"
