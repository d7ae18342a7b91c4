"""What an acceptance run starts: the scripted provider, the recorded providers, and a gateway before them. Each is ended by its own process id."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
KEY = "sk-acceptance"
KEYS = [KEY, "My API Key", "my-anthropic-api-key"]  # the SDKs' own tests send the last two
START_S = 60
END_S = 10


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def child(command: list[str], log: Path, ready: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that answers at the URL `ready` (with any status) before the block begins, and is gone when it ends."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, cwd=ROOT, env=environment) as process:
        try:
            _wait(process, ready, log)
            yield process
        finally:
            process.terminate()
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"{process.args} did not start:\n{log.read_text()[-3000:]}")


@contextlib.contextmanager
def standin(acceptance: Path, folder: Path) -> Iterator[str]:
    """The scripted provider; its base URL, without /v1."""
    port = free_port()
    with child([sys.executable, str(acceptance / "standin.py"), "--port", str(port)], folder / "standin.log", f"http://127.0.0.1:{port}/v1/models"):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def replay(acceptance: Path, folder: Path) -> Iterator[str]:
    """The recorded providers; their base URL, without a path."""
    port, corpus = free_port(), acceptance / "visible.jsonl.gz"
    command = [sys.executable, str(acceptance / "cassette_replay.py"), "serve", str(corpus), "--port", str(port)]
    with child(command, folder / "replay.log", f"http://127.0.0.1:{port}/__seen/none"):
        yield f"http://127.0.0.1:{port}"


def configuration(folder: Path, providers: dict[str, dict[str, Any]], models: dict[str, str]) -> dict[str, Any]:
    """Providers as they stand in a configuration, and which of them answers each pattern of names: what `*` matched goes upstream."""
    price = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1}
    return {
        "state": {"database": f"sqlite:///{folder}/turnout.db"},
        "providers": providers,
        "models": {
            name: {"policy": "lenient", "targets": [{"provider": provider, "model": "*", "price": price}]} for name, provider in models.items()
        },
        "policies": {"lenient": {"fallback": "none", "retry": {"max_attempts": 1}, "drop_unsupported": True}},
        "teams": {"acceptance": {"keys": KEYS}},
    }


@contextlib.contextmanager
def gateway(folder: Path, providers: dict[str, dict[str, Any]], models: dict[str, str]) -> Iterator[str]:
    """`turnout serve` on a free port with its own ledger; its base URL. YAML reads JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    path, port = folder / "turnout.yaml", free_port()
    path.write_text(json.dumps(configuration(folder, providers, models), indent=1))
    command = [str(ROOT / ".venv" / "bin" / "turnout"), "serve", "--config", str(path), "--host", "127.0.0.1", "--port", str(port)]
    with child(command, folder / "gateway.log", f"http://127.0.0.1:{port}/health"):
        yield f"http://127.0.0.1:{port}"
