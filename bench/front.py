"""The gateway behind one of the servers and fronts that the benchmark compares.

    python front.py uvicorn|limits|route|granian PORT
    python front.py CONFIG.yaml PORT

`uvicorn`: what `turnout serve` runs. `limits`: the same for a team with limits and budgets. `route`: the inference route as a Starlette
route inside the FastAPI app. `granian`: granian as the server. A file: what `turnout serve` runs with it. BENCH_SPIN: turns of an empty loop
that each request is slowed by, to show that `bench/check.py` finds it.
"""

import os
import sys
from itertools import repeat
from pathlib import Path

from starlette.routing import Route

from gateway.app import create_app
from gateway.cli.settings import known_kinds
from gateway.fastpath import FastPath
from gateway.runtime import build_runtime
from gateway.server import bind, serve

os.chdir(Path(__file__).parent)


def make(config: str = "turnout") -> tuple[object, object]:
    from config.load import load

    runtime = build_runtime(load(Path(config if config.endswith(".yaml") else f"conf/{config}.yaml"), os.environ, known_kinds()).settings)
    return create_app(runtime, "bench"), runtime


def slowed(app: object, turns: int) -> object:
    async def slow(scope: object, receive: object, send: object) -> None:
        for _ in repeat(None, turns):
            pass
        await app(scope, receive, send)

    return slow


def __getattr__(name: str) -> object:
    """`front:app`, as granian imports it."""
    if name != "app":
        raise AttributeError(name)
    return FastPath(*make())


if __name__ == "__main__":
    front, port = sys.argv[1], int(sys.argv[2])
    if front == "granian":
        from granian import Granian
        from granian.constants import Interfaces, Loops

        sys.path.insert(0, str(Path(__file__).parent))
        Granian("front:app", address="127.0.0.1", port=port, interface=Interfaces.ASGI, loop=Loops.uvloop, workers=1, log_enabled=False).serve()
    else:
        app, runtime = make("turnout" if front in ("uvicorn", "route") else front)
        path = FastPath(app, runtime)
        if turns := int(os.environ.get("BENCH_SPIN", "0")):
            path = slowed(path, turns)
        if front == "route":
            app.router.routes.insert(0, Route("/v1/chat/completions", path, methods=["POST"]))
            serve(app, bind("127.0.0.1", port), lambda: None)
        else:
            serve(path, bind("127.0.0.1", port), lambda: None)
