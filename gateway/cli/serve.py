"""`turnout serve`: the gateway in the foreground, and the few lines it prints when it listens."""

import json
import shlex
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

if TYPE_CHECKING:
    from config.settings import Settings
    from gateway.server import Sockets

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
        from gateway.cli.settings import load_or_exit
        from gateway.server import Sockets, bind, bind_admin, url_of
        from ledger.database import LedgerError
        from providers.local.weights import WeightsNotFound

        logs.configure()
        loaded = load_or_exit(config)
        for finding in loaded.advice:
            typer.echo(f"note: {shown(loaded.file, finding)}", err=True)
        settings = loaded.settings
        at_host, at_port = host or settings.server.host, settings.server.port if port is None else port
        try:
            listener = bind(at_host, at_port)
        except (OSError, UnicodeError, TypeError) as exc:
            why = getattr(exc, "strerror", None) or "not an address"
            typer.echo(f"cannot listen on {at_host}:{at_port}: {why}; choose another with --port", err=True)
            raise typer.Exit(1) from exc
        try:
            given = Environment().bootstrap_key
        except ValidationError as exc:
            typer.echo(f"TURNOUT_BOOTSTRAP_KEY {exc.errors()[0]['msg']}", err=True)
            raise typer.Exit(1) from None

        def tell(key: str | None, example_model: str, admin_url: str | None) -> None:
            told = Key(None, "TURNOUT_BOOTSTRAP_KEY") if given else Key(key, "TURNOUT_KEY")
            typer.echo(banner(url_of(listener), told, example_model, loaded.key_report, admin_url))

        try:
            key = given.get_secret_value() if given else None
            admin = None if settings.admin is None else bind_admin(settings.admin)
            sockets = Sockets(listener, admin)
            code = (_alone if settings.server.workers == 1 else _with_workers)(settings, key, sockets, tell)
        except (LedgerError, LedgerUnavailable, WeightsNotFound, OSError) as exc:
            typer.echo(f"the gateway cannot start: {exc}", err=True)
            raise typer.Exit(1) from exc
        raise typer.Exit(code)


Tell = Callable[[str | None, str, str | None], None]


def _alone(settings: "Settings", key: str | None, sockets: "Sockets", tell: Tell) -> int:
    """The gateway in this process."""
    from gateway.app import create_app
    from gateway.fastpath import FastPath
    from gateway.runtime import build_runtime
    from gateway.server import serve

    runtime = build_runtime(settings, key, admin=sockets.admin)
    app = FastPath(create_app(runtime, version("turnout")), runtime)
    serve(app, sockets.listener, lambda: tell(runtime.bootstrap_key, runtime.example_model, sockets.admin_url))
    return 0


def _with_workers(settings: "Settings", key: str | None, sockets: "Sockets", tell: Tell) -> int:
    """The gateway in several processes, of which this one serves nothing itself."""
    from gateway.bootstrap import bootstrap_for
    from gateway.engine_spec import engine_spec
    from gateway.workers.parent import Plan, serve_with_workers
    from ledger.continuity import tidy
    from ledger.database import open_engine

    database = open_engine(settings.state.database)  # made, or brought up to date, before the workers meet in it
    tidy(database, settings.state.responses_days)
    bootstrap = bootstrap_for(settings, database) if key is None else key
    database.dispose()
    engines = tuple(engine_spec(name, engine) for name, engine in settings.engine_replicas.items())
    return serve_with_workers(Plan(settings, bootstrap, engines), sockets, lambda model: tell(bootstrap, model, sockets.admin_url))


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
