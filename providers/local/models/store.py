"""The models that were fetched for this user: a folder for each, with a note of what belongs to it."""

import hashlib
import shutil
from pathlib import Path

import msgspec

from providers.http.download import PART
from providers.local.models import hub
from providers.local.weights import BUILTIN_PREFIX

NOTE = ".turnout-model.json"


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """`path`: what an engine is given as its `model`. `own`: whether it lies in the store, or somewhere else that is only remembered.

    `files`: bytes by name, for one that lies in the store.
    """

    name: str
    path: str
    own: bool = True
    revision: str | None = None
    files: dict[str, int] = {}

    @property
    def size(self) -> int:
        return sum(self.files.values())

    @property
    def whole(self) -> bool:
        """False while it is fetched, after that was cut, and when something was taken away since."""
        place = Path(self.path)
        folder = place if place.is_dir() else place.parent
        return place.exists() and all((folder / name).is_file() and (folder / name).stat().st_size == size for name, size in self.files.items())


class ModelStore:
    """`root` need not exist."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, name: str) -> Path:
        """Where a model of that name lies, or would; of one that lies elsewhere, the note of it. Raises NoSuchModel."""
        if name.startswith(BUILTIN_PREFIX):
            return self.root / "builtin" / name.removeprefix(BUILTIN_PREFIX)
        if name.startswith(hub.PREFIX):
            return self.root / hub.parse(name).folder
        return self.root / "elsewhere" / hashlib.sha256(name.encode()).hexdigest()[:16]

    def find(self, name: str) -> Stored | None:
        """Raises NoSuchModel."""
        return _read(self.folder(name) / NOTE)

    def all(self) -> list[Stored]:
        return [stored for note in sorted(self.root.glob(f"**/{NOTE}")) if (stored := _read(note)) is not None]

    def note(self, stored: Stored) -> Stored:
        folder = self.folder(stored.name)
        folder.mkdir(parents=True, exist_ok=True)
        written = folder / (NOTE + PART)
        written.write_bytes(msgspec.json.encode(stored))
        written.replace(folder / NOTE)
        return stored

    def remove(self, name: str) -> bool:
        """Its files, whole or not, and the note; of a model that lies elsewhere the note alone. False: there is none. Raises NoSuchModel."""
        folder = self.folder(name)
        if not folder.is_dir():
            return False
        shutil.rmtree(folder)
        for parent in folder.parents:
            if parent == self.root or any(parent.iterdir()):
                break
            parent.rmdir()
        return True


def _read(note: Path) -> Stored | None:
    try:
        return msgspec.json.decode(note.read_bytes(), type=Stored)
    except (OSError, msgspec.DecodeError):  # another version's: the model is fetched anew
        return None
