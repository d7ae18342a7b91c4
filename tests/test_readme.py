"""Every command and snippet of the README is run, against one gateway that was started as the README says."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command import on_one_cpu

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
KEY = "readme-key"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.M | re.S)
BLOCKS = [(language, text) for language, text in BLOCK.findall(README)]
# what a block may need that only a reader has; a block that no rule below runs fails the test
RUN_ELSEWHERE = {"make serve\n": "the fixture below runs what it runs", "make test\n": "is what runs this test"}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """`make serve`'s own command on a free port, in an empty folder; gives the port and the folder."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / ".venv").symlink_to(Path(sys.prefix))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    dry_run = ["make", "--no-print-directory", "-n", "-o", "install", "serve", f"PORT={port}"]
    dry = subprocess.run(dry_run, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    command = dry.strip().splitlines()[-1]
    assert command.startswith("exec .venv/bin/turnout serve"), dry
    env = {k: v for k, v in os.environ.items() if not k.endswith("_API_KEY")} | {"TURNOUT_BOOTSTRAP_KEY": KEY}
    with on_one_cpu():
        process = subprocess.Popen(["bash", "-c", command], cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stderr is not None
    printed = ""
    while "curl" not in printed:
        line = process.stdout.readline()
        assert line, printed + process.stderr.read()
        printed += line
    yield port, folder
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    process.stdout.close()
    process.stderr.close()


def run(command: list[str], gateway: tuple[str, Path], **env: str) -> subprocess.CompletedProcess[str]:
    base = {**os.environ, "TURNOUT_KEY": KEY, "OPENAI_API_KEY": "sk-none", "ANTHROPIC_API_KEY": "sk-none", "SEARCH_KEY": "sk-search", **env}
    return subprocess.run(command, cwd=gateway[1], env=base, capture_output=True, text=True, timeout=100)


def blocks(language: str, containing: str) -> list[str]:
    return [text for lang, text in BLOCKS if lang == language and containing in text]


def test_the_curl_line_answers_and_its_request_can_be_traced(gateway: tuple[str, Path]) -> None:
    (curl,) = blocks("sh", "curl")
    done = run(["bash", "-c", curl.replace(":8080", f":{gateway[0]}").replace("curl -s", "curl -si")], gateway)
    assert '"content"' in done.stdout, done.stdout + done.stderr
    request_id = re.search(r"x-request-id: (\S+)", done.stdout)
    assert request_id
    (trace,) = blocks("sh", "turnout trace")
    traced = run(["bash", "-ec", trace], gateway, REQUEST_ID=request_id[1])
    assert traced.returncode == 0 and request_id[1] in traced.stdout, traced.stderr


SNIPPETS = blocks("python", "")


@pytest.mark.parametrize("snippet", SNIPPETS, ids=["chat", "responses", "messages"])
def test_a_python_snippet_prints_an_answer(gateway: tuple[str, Path], snippet: str) -> None:
    done = run([sys.executable, "-c", snippet.replace(":8080", f":{gateway[0]}")], gateway)
    assert done.returncode == 0 and done.stdout.strip(), done.stderr


def test_the_chat_command_answers(gateway: tuple[str, Path]) -> None:
    (chat,) = blocks("sh", "turnout chat")
    done = run(["bash", "-ec", chat], gateway)
    assert done.returncode == 0 and done.stdout.strip(), done.stderr


def test_the_configuration_is_valid_and_its_commands_work(gateway: tuple[str, Path]) -> None:
    (commands,) = blocks("sh", "turnout init")
    init, check, serve = commands.strip().splitlines()
    assert run(["bash", "-ec", init], gateway).returncode == 0
    started = run(["bash", "-ec", check], gateway)
    assert started.returncode == 0, started.stdout + started.stderr
    (yaml,) = blocks("yaml", "providers:")
    (gateway[1] / "turnout.yaml").write_text(yaml)
    checked = run(["bash", "-ec", check], gateway)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    listed = run([".venv/bin/turnout", "models", "--config", "turnout.yaml"], gateway)
    assert "chat" in listed.stdout and "my-model" in listed.stdout
    (create,) = blocks("sh", "turnout keys create")
    made = run(["bash", "-ec", create], gateway)
    assert made.returncode == 0 and made.stdout.startswith("sk-turnout-"), made.stderr
    # its port is the other gateway's, so it must refuse, and say why
    served = run(["bash", "-ec", serve.replace("8080", gateway[0])], gateway)
    assert served.returncode == 1 and "cannot listen" in served.stderr


def test_every_block_is_run_by_a_test_above() -> None:
    run_here = [*blocks("sh", "curl"), *blocks("sh", "turnout"), *SNIPPETS, *blocks("yaml", "providers:")]
    assert [text for _, text in BLOCKS if text not in run_here and text not in RUN_ELSEWHERE] == []


def test_every_link_leads_somewhere() -> None:
    for document in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
            assert "://" in target or (document.parent / target).exists(), f"{document}: {target}"
