"""What `turnout doctor` looks at: the interpreter, the engine's library and weights, the configuration, the state folder, the ledger, the port."""

import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import msgspec

from config.home import home
from config.load import ConfigError, Loaded, load
from gateway.cli.settings import known_kinds
from gateway.engine_spec import weights_of
from gateway.server import bind
from ledger.database import LedgerError, is_there, shown, state_folder
from providers.local.environment import installed_python
from providers.local.spec import usable_cpus
from providers.local.weights import WeightsNotFound


class Result(msgspec.Struct, frozen=True):
    """One thing looked at; `detail` says what was found, and what to do when it is not `ok`."""

    check: str
    ok: bool
    detail: str


def examine(config: Path | None) -> list[Result]:
    """Every check in order. Writes nothing."""
    results = [_python(), _cpus(), _library()]
    try:
        loaded = load(config, os.environ, known_kinds())
    except ConfigError as error:
        return [*results, Result("configuration", False, str(error))]
    results.append(Result("configuration", not loaded.advice, _count(loaded)))
    return [*results, *_weights(loaded), _state(loaded), _ledger(loaded), _port(loaded)]


def _count(loaded: Loaded) -> str:
    if not loaded.advice:
        return f"{loaded.file}: ok"
    return f"{loaded.file}: {len(loaded.advice)} finding{'' if len(loaded.advice) == 1 else 's'}; `turnout check` shows them"


def _python() -> Result:
    version = sys.version_info
    return Result("python", (3, 11) <= version[:2] < (3, 14), f"{version.major}.{version.minor}.{version.micro}; 3.11 to 3.13 are supported")


def _cpus() -> Result:
    return Result("cpus", True, f"{usable_cpus()} usable; the embedded engine computes on all of them")


def _library() -> Result:
    found = find_spec("xllamacpp") is not None
    return Result("engine library", found, "xllamacpp is installed" if found else "xllamacpp is not installed: run `make install`")


def _weights(loaded: Loaded) -> Iterator[Result]:
    for name, engine in loaded.settings.engines.items():
        try:
            path = weights_of(engine)
        except WeightsNotFound as exc:
            yield Result(f"engine {name}", False, str(exc))
            continue
        if engine.kind == "vllm" and engine.python is None and not _has_vllm():
            yield Result(f"engine {name}", False, "no environment here has vLLM: run `turnout engines install vllm`, or name one's `python`")
            continue
        yield Result(f"engine {name}", True, f"{engine.model}: {_size(path) / 1e6:.0f} MB")


def _has_vllm() -> bool:
    """Where an engine looks that names no interpreter: what was installed for it, else the gateway's own environment."""
    return installed_python(home(os.environ) / "engines") is not None or find_spec("vllm") is not None


def _size(path: Path) -> int:
    return sum(each.stat().st_size for each in ([path] if path.is_file() else path.iterdir()))


def _state(loaded: Loaded) -> Result:
    try:
        folder = state_folder(loaded.settings.state.database)
    except LedgerError as error:
        return Result("state folder", False, str(error))
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return Result("state folder", True, f"{folder} can be written")
    return Result("state folder", False, f"{folder} cannot be written: name another in state.database")


def _ledger(loaded: Loaded) -> Result:
    url = loaded.settings.state.database
    try:
        found = is_there(url)
    except LedgerError as error:
        return Result("ledger", False, str(error))
    return Result("ledger", True, f"{shown(url)} {'is there' if found else 'is made at the first start'}")


def _port(loaded: Loaded) -> Result:
    server = loaded.settings.server
    try:
        bind(server.host, server.port).close()
    except OSError as exc:
        return Result("address", False, f"{server.host}:{server.port}: {exc.strerror}; choose another with --port")
    return Result("address", True, f"{server.host}:{server.port} is free")
