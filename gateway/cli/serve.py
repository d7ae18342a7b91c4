"""`turnout serve`: the gateway in the foreground, and the few lines it prints when it listens."""

from importlib.metadata import version
from pathlib import Path
from typing import Annotated

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
        from config.document import shown
        from config.settings import Environment
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
        except OSError as exc:
            typer.echo(f"cannot listen on {at_host}:{at_port}: {exc.strerror}; choose another with --port", err=True)
            raise typer.Exit(1) from exc
        bootstrap = Environment().bootstrap_key
        try:
            runtime = build_runtime(loaded.settings, bootstrap.get_secret_value() if bootstrap else None)
        except (LedgerError, WeightsNotFound, OSError) as exc:
            typer.echo(f"the gateway cannot start: {exc}", err=True)
            raise typer.Exit(1) from exc
        app = create_app(runtime, version("turnout"))
        url = f"http://{at_host}:{listener.getsockname()[1]}"
        serve(
            FastPath(app, runtime),
            listener,
            lambda: typer.echo(banner(url, runtime.bootstrap_key, runtime.example_model, loaded.key_report)),
        )


def banner(url: str, key: str | None, model: str, key_report: list[str]) -> str:
    """What the terminal shows once: where, with which key, a line to paste, and which providers are on."""
    shown = key or "YOUR_KEY"
    model = model.replace("*", "NAME")
    body = f'{{"model": "{model}", "messages": [{{"role": "user", "content": "Say hello in one sentence."}}]}}'
    lines = [
        f"Turnout {version('turnout')} listens.",
        "",
        f"  base URL   {url}/v1",
        f"  key        {key or 'one of those in the configuration file'}",
        f"  docs       {url}/docs",
        "",
        *(f"  {line}" for line in key_report),
        "",
        f"  curl -s {url}/v1/chat/completions -H 'authorization: Bearer {shown}' -H 'content-type: application/json' -d '{body}'",
    ]
    return "\n".join(lines) + "\n"
