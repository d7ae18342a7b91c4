"""A model hub in the manner of Hugging Face: names of models, which of a repository's files a model needs, and where they are. Pure."""

import re
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import msgspec

PREFIX = "hf:"
ENDPOINT = "https://huggingface.co"
_NAME = re.compile(r"hf:(?P<repo>[\w.-]+/[\w.-]+)(?:/(?P<file>[\w./-]+?))?(?:@(?P<revision>[\w./-]+))?")
_SHARD = re.compile(r"(.*)-\d{5}-of-(\d{5})\.gguf")
TEXTS = (".json", ".txt", ".model", ".jinja", ".tiktoken")  # configuration and tokenizers; weights are safetensors alone: a pickle runs code


class NoSuchModel(ValueError):
    """The name or the repository holds no model that can be run; the message says why."""


class HubName(msgspec.Struct, frozen=True):
    """`file`: one file of the repository, a GGUF one; None: the checkpoint that it is."""

    repo: str
    file: str | None
    revision: str

    @property
    def folder(self) -> str:
        file = "" if self.file is None else f"--{self.file.removesuffix('.gguf').replace('/', '--')}"
        return f"hf/{self.repo}{file}" + ("" if self.revision == "main" else f"@{self.revision.replace('/', '--')}")


class HubFile(msgspec.Struct, frozen=True):
    path: str
    size: int
    sha256: str | None
    blob: str | None


class Listing(msgspec.Struct, frozen=True):
    """`commit`: what the revision stood for, so that all files are of one state."""

    commit: str
    files: tuple[HubFile, ...]


def parse(name: str) -> HubName:
    """`hf:OWNER/REPO`, `hf:OWNER/REPO/FILE.gguf`, each with `@REVISION`. Raises NoSuchModel."""
    found = _NAME.fullmatch(name)
    if found is None or ".." in name:
        raise NoSuchModel(f"{name!r} is no model's name: hf:OWNER/REPO or hf:OWNER/REPO/FILE.gguf, with @REVISION for another than `main`")
    file = found["file"]
    if file is not None and not file.endswith(".gguf"):
        raise NoSuchModel(f"{file!r} is no GGUF file: leave it out for the whole checkpoint")
    return HubName(found["repo"], file, found["revision"] or "main")


def pulled_path(name: str, models: Path) -> Path | None:
    """Where a model of that name lies once it was pulled; None: the name is none of a hub's. Raises NoSuchModel."""
    if not name.startswith(PREFIX):
        return None
    parsed = parse(name)
    folder = models / parsed.folder
    return folder if parsed.file is None else folder / parsed.file


def listing_url(endpoint: str, name: HubName) -> str:
    return f"{endpoint.rstrip('/')}/api/models/{name.repo}/revision/{quote(name.revision, safe='')}"


def file_url(endpoint: str, name: HubName, commit: str, path: str) -> str:
    return f"{endpoint.rstrip('/')}/{name.repo}/resolve/{commit}/{quote(path)}"


def read_listing(body: bytes) -> Listing:
    """The hub's answer with `blobs=true`. Raises NoSuchModel."""
    try:
        told: Any = msgspec.json.decode(body)
        return Listing(str(told["sha"]), tuple(_file(each) for each in told["siblings"]))
    except (msgspec.DecodeError, KeyError, TypeError) as exc:
        raise NoSuchModel("the hub's answer lists no files") from exc


def _file(told: Any) -> HubFile:
    path, large = str(told["rfilename"]), told.get("lfs")
    if path.startswith("/") or "\\" in path or ".." in PurePosixPath(path).parts:
        raise NoSuchModel(f"the repository holds {path!r}, which is no file inside it")
    return HubFile(path, int(told["size"]), str(large["sha256"]) if large else None, None if large else told.get("blobId"))


def needed(name: HubName, files: tuple[HubFile, ...]) -> list[HubFile]:
    """What is to be fetched of a repository. Raises NoSuchModel."""
    ggufs = sorted(file.path for file in files if file.path.endswith(".gguf"))
    if name.file is not None:
        split = _SHARD.fullmatch(name.file)
        parts = [f"{split[1]}-{n:05}-of-{split[2]}.gguf" for n in range(1, int(split[2]) + 1)] if split else [name.file]
        found = [file for file in files if file.path in parts]
        if len(found) < len(parts):
            raise NoSuchModel(f"{name.repo} has no {name.file}; it has {', '.join(ggufs) or 'no GGUF file'}")
        return found
    top = [file for file in files if "/" not in file.path]
    weights = [file for file in top if file.path.endswith(".safetensors")]
    if any(file.path.startswith("model") for file in weights):  # others are the same weights in another's format
        weights = [file for file in weights if not file.path.startswith("consolidated")]
    if not weights or all(file.path != "config.json" for file in top):
        hint = f"; name one of its GGUF files: {', '.join(f'{PREFIX}{name.repo}/{path}' for path in ggufs)}" if ggufs else ""
        raise NoSuchModel(f"{name.repo} is no checkpoint: it needs a config.json and *.safetensors{hint}")
    return [*(file for file in top if file.path.endswith(TEXTS)), *weights]
