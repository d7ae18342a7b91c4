"""Folders that were left behind are removed, and no other."""

import os
import tempfile
from pathlib import Path

import pytest

from providers.local.folders import LOCK_NAME, SocketFolder, remove_left_folders


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def left(name: str) -> Path:
    """As a gateway that was killed leaves one."""
    folder = Path(tempfile.gettempdir()) / f"turnout-{name}"
    folder.mkdir()
    (folder / LOCK_NAME).touch()
    (folder / "engine.sock").touch()
    return folder


def test_one_whose_gateway_is_gone_is_removed_and_a_living_one_s_is_not() -> None:
    gone, ours = left("gone"), SocketFolder()
    assert remove_left_folders() == [gone]
    assert not gone.exists() and ours.path.exists()
    ours.remove()
    ours.remove()
    assert not ours.path.exists() and remove_left_folders() == []


def test_what_is_no_engine_s_folder_stays() -> None:
    place = Path(tempfile.gettempdir())
    (place / "turnout-notes").mkdir()
    (place / "turnout-file").touch()
    target = left("target").rename(place / "elsewhere")
    (place / "turnout-link").symlink_to(target)
    assert remove_left_folders() == []
    assert sorted(each.name for each in place.iterdir()) == ["elsewhere", "turnout-file", "turnout-link", "turnout-notes"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a folder away")
def test_another_user_s_stays() -> None:
    folder = left("theirs")
    os.chown(folder, 65534, 65534)
    assert remove_left_folders() == [] and folder.exists()
