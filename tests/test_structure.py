"""The limits that the project sets itself: module and function length, what a wheel may hold, what a tree may name."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("contract", "providers", "policy", "cache", "ledger", "batch", "config", "gateway")
MODULE_LINES = 400
FUNCTION_LINES = 60


def modules() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_module_and_its_functions_stay_small(path: Path) -> None:
    source = path.read_text()
    assert len(source.splitlines()) <= MODULE_LINES, f"{path} is longer than {MODULE_LINES} lines: a design question"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= FUNCTION_LINES, f"{path}:{node.lineno} {node.name} has {length} lines; the limit is {FUNCTION_LINES}"


@pytest.mark.parametrize("path", [p for p in modules() if p.name != "__init__.py"], ids=lambda p: str(p.relative_to(ROOT)))
def test_a_module_says_its_job_in_its_first_line(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring and docstring.splitlines()[0].strip()


def test_there_is_one_package_for_each_folder_of_the_architecture() -> None:
    for package in PACKAGES:
        assert (ROOT / package / "__init__.py").exists()


def test_lock_files_carry_hashes_and_no_addresses() -> None:
    for lock in (*ROOT.glob("requirements*.lock"), *ROOT.glob("providers/local/environments/*.lock")):
        text = lock.read_text()
        assert "--hash=sha256:" in text
        assert "://" not in text, f"{lock.name} names an address"
    for folder in ("dashboard", "bench/node"):
        text = (ROOT / folder / "package-lock.json").read_text()
        assert '"integrity": "sha512-' in text and "://" not in text


def test_the_wheel_holds_only_our_packages_and_no_start_up_hook(tmp_path: Path) -> None:
    """A `.pth` or sitecustomize in a wheel runs at every interpreter start: the way a peer was compromised twice."""
    import sys
    import zipfile

    build = "from setuptools import build_meta; import sys; build_meta.build_wheel(sys.argv[1])"
    tree = tmp_path / "tree"
    files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    for name in filter(None, files):
        if (ROOT / name).is_file():
            target = tree / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=tree, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert not [n for n in names if n.endswith(".pth") or "sitecustomize" in n or "usercustomize" in n]
    tops = {n.split("/")[0] for n in names}
    assert all(top in (*PACKAGES, "dashboard") or top.startswith("turnout-") for top in tops), tops
    assert {"providers/local/environments/vllm.lock", "providers/local/environments/vllm-cpu.lock"} <= set(names)
    assert {"dashboard/pages/index.html", "dashboard/pages/app.mjs"} <= set(names)


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda page: page.name)
def test_what_is_written_into_a_page_by_a_command_has_a_begin_and_an_end(page: Path) -> None:
    found = re.findall(r"^<!-- (\w+):(begin|end) -->$", page.read_text(), re.MULTILINE)
    assert found == [(name, which) for name in dict.fromkeys(name for name, _ in found) for which in ("begin", "end")]
