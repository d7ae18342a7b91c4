"""The command as a stranger runs it: a real process, the real engine, a key that survives a restart, and no file that shadows a package."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.command import on_one_cpu

COMMAND = str(Path(sys.executable).with_name("turnout"))
PROVIDER_KEYS = re.compile(r".*_API_KEY$|^TURNOUT_.*|^HF_TOKEN$|^PYTHONPATH$")


def clean_env(**extra: str) -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not PROVIDER_KEYS.match(k)} | extra


def turnout(*args: str, cwd: Path, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    with on_one_cpu():
        return subprocess.run([COMMAND, *args], cwd=cwd, env=clean_env(**env), input=stdin, capture_output=True, text=True, timeout=100)


@contextmanager
def serving(cwd: Path, *args: str, **env: str) -> Iterator[tuple[str, str]]:
    """The base URL and all that the process printed until it listened."""
    with on_one_cpu():
        process = subprocess.Popen(
            [COMMAND, "serve", "--port", "0", *args], cwd=cwd, env=clean_env(**env), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    try:
        assert process.stdout is not None
        printed = ""
        while "curl" not in printed:
            line = process.stdout.readline()
            assert line or process.poll() is None, printed + (process.stderr.read() if process.stderr else "")
            printed += line
        url = re.search(r"base URL\s+(\S+)/v1", printed)
        assert url
        yield url[1], printed
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        process.stdout.close()
        process.stderr.close()


def chat(url: str, key: str, model: str = "local") -> httpx2.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 16}
    return httpx2.post(f"{url}/v1/chat/completions", json=body, headers={"authorization": f"Bearer {key}"}, timeout=100, trust_env=False)


def test_with_no_file_at_all_it_answers_with_real_tokens_and_its_key_survives_a_restart(tmp_path: Path) -> None:
    with serving(tmp_path) as (url, printed):
        key = re.search(r"sk-turnout-\S+", printed)
        assert key and "OPENAI_API_KEY" in printed
        curl = next(line for line in printed.splitlines() if line.strip().startswith("curl"))
        pasted = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, timeout=100)
        assert json.loads(pasted.stdout)["choices"][0]["message"]["content"].strip(), pasted.stderr
        request_id = chat(url, key[0]).headers["x-request-id"]
    traced = turnout("trace", request_id, "--json", cwd=tmp_path)
    assert json.loads(traced.stdout)["attempts"][0]["status"] == "ok", traced.stderr
    assert (tmp_path / "var").stat().st_mode & 0o077 == 0
    began = time.monotonic()
    with serving(tmp_path) as (url, again):
        listening = time.monotonic() - began
        assert key[0] in again
        assert chat(url, key[0]).status_code == 200
        answered = time.monotonic() - began
    print(f"second start: listening after {listening:.2f} s, answered after {answered:.2f} s")
    assert listening < 30 and answered < 100  # the bars are 3 s and 10 s on a quiet machine


def test_the_bootstrap_key_can_be_set(tmp_path: Path) -> None:
    with serving(tmp_path, TURNOUT_BOOTSTRAP_KEY="my own key") as (url, _):
        assert httpx2.get(f"{url}/v1/models", headers={"authorization": "Bearer my own key"}, trust_env=False).status_code == 200
    assert not (tmp_path / "var" / "bootstrap.key").exists()


def test_a_bootstrap_key_that_nobody_could_send_is_refused_and_not_shown(tmp_path: Path) -> None:
    done = turnout("serve", "--port", "0", cwd=tmp_path, TURNOUT_BOOTSTRAP_KEY="canary\r")
    assert done.returncode == 1 and "TURNOUT_BOOTSTRAP_KEY is no key" in done.stderr and "canary" not in done.stdout + done.stderr


def test_found_provider_keys_are_named_and_never_shown(tmp_path: Path) -> None:
    with serving(tmp_path, GROQ_API_KEY="gsk_secret_value_1234567890", TURNOUT_BOOTSTRAP_KEY="k") as (url, printed):
        assert "GROQ_API_KEY" in printed and "gsk_secret" not in printed
        listed = httpx2.get(f"{url}/v1/models", headers={"authorization": "Bearer k"}, trust_env=False).json()
        assert {"local", "groq/*"} <= {m["id"] for m in listed["data"]}


def test_a_dead_provider_s_request_is_answered_by_the_engine_and_both_attempts_are_traced(tmp_path: Path) -> None:
    (tmp_path / "turnout.yaml").write_text(
        "providers: {dead: {kind: openai-compatible, base_url: 'http://127.0.0.1:9/v1', api_key: none}}\n"
        "engines: {cpu: {kind: llamacpp, model: 'builtin:smollm2-135m-instruct', slots: 2, threads: 1}}\n"
        "models: {chat: {targets: [{provider: dead, model: x}, {engine: cpu}]}}\n"
    )
    with serving(tmp_path, "--config", "turnout.yaml", TURNOUT_BOOTSTRAP_KEY="k") as (url, _):
        answer = chat(url, "k", "chat")
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-turnout-target"] == "cpu" and answer.headers["x-turnout-attempts"] == "2"
        assert answer.json()["usage"]["completion_tokens"] > 0
    shown = turnout("trace", answer.headers["x-request-id"], cwd=tmp_path)
    assert "dead" in shown.stdout and "cpu" in shown.stdout and "upstream_connect_failed" in shown.stdout
    assert "cpu" in turnout("spend", "--by", "target", cwd=tmp_path).stdout


def test_no_file_of_the_working_folder_shadows_a_package_of_ours(tmp_path: Path) -> None:
    for name in ("config", "gateway", "policy", "cache", "ledger", "batch", "contract", "providers", "fastapi", "uvicorn", "typer"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('shadowed by {name}')\n")
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise SystemExit('shadowed by {name}')\n")
    for env in ({}, {"PYTHONPATH": str(tmp_path)}, {"PYTHONPATH": ":"}):
        done = turnout("--version", cwd=tmp_path, **env)
        assert (done.returncode, done.stdout) == (0, "turnout 0.1.0\n"), done.stderr
    with serving(tmp_path, TURNOUT_BOOTSTRAP_KEY="k", PYTHONPATH=str(tmp_path)) as (url, _):
        assert chat(url, "k").status_code == 200, "the engine's own process is not shadowed either"


def test_what_is_not_http_is_told_so_in_the_shape_of_every_error(tmp_path: Path) -> None:
    with serving(tmp_path, TURNOUT_BOOTSTRAP_KEY="k") as (url, _), socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1]))) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n")
        with connection.makefile("rb") as answer:
            head, _, text = answer.read().partition(b"\r\n\r\n")
    error = json.loads(text)["error"]
    assert head.startswith(b"HTTP/1.1 400") and error["code"] == "invalid_http" and error["request_id"].encode() in head


def _wait_until_deaf(url: str) -> None:
    """Until it takes no connection any more."""
    port = int(url.rsplit(":", 1)[1])
    until = time.monotonic() + 20
    while time.monotonic() < until:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(0.02)
    raise AssertionError("it still listens")


def test_the_first_signal_lets_an_answer_finish_and_the_second_does_not_wait(tmp_path: Path) -> None:
    with on_one_cpu():
        process = subprocess.Popen(
            [COMMAND, "serve", "--port", "0"],
            cwd=tmp_path,
            env=clean_env(TURNOUT_BOOTSTRAP_KEY="k"),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
    assert process.stdout is not None
    url = next(match[1] for line in process.stdout if (match := re.search(r"base URL\s+(\S+)/v1", line)))
    body = {"model": "local", "messages": [{"role": "user", "content": "Count."}], "stream": True, "ignore_eos": True}
    with httpx2.stream("POST", f"{url}/v1/chat/completions", json=body, headers={"authorization": "Bearer k"}, timeout=60, trust_env=False) as answer:
        pieces = answer.iter_raw()
        next(pieces)
        process.send_signal(signal.SIGTERM)
        _wait_until_deaf(url)  # two signals that both wait are one
        next(pieces)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    process.stdout.close()


def test_a_taken_port_is_a_clear_error(tmp_path: Path) -> None:
    with serving(tmp_path, TURNOUT_BOOTSTRAP_KEY="k") as (url, _):
        done = turnout("serve", "--port", url.rsplit(":", 1)[1], cwd=tmp_path, TURNOUT_BOOTSTRAP_KEY="k")
    assert done.returncode == 1 and "cannot listen" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("args", [("serve", "--port", "99999"), ("nonsense",), ("trace",)])
def test_a_wrong_command_line_exits_2(tmp_path: Path, args: tuple[str, ...]) -> None:
    assert turnout(*args, cwd=tmp_path).returncode == 2


def test_chat_talks_to_the_engine(tmp_path: Path) -> None:
    done = turnout("chat", "What is the capital of France?", "--max-tokens", "24", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.strip(), done.stderr
    piped = turnout("chat", "--json", "--max-tokens", "8", cwd=tmp_path, stdin="Hi\nAnd again\n")
    assert [json.loads(line)["question"] for line in piped.stdout.splitlines()] == ["Hi", "And again"]
