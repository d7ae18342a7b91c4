"""`turnout models`: the names that a configuration offers, and what stands behind each."""

import json
from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    @app.command()
    def models(
        config: Annotated[Path | None, typer.Option("--config", "-c", help="the YAML file; without one: what `turnout serve` would serve")] = None,
        as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    ) -> None:
        """List the models that clients may ask for, with their targets in order."""
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
