"""Canaries: secrets planted wherever a gateway meets any, and looked for wherever it writes: logs, errors, headers, reports, files, argv."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.gateway.test_command import clean_env
from tests.gateway.upstream import Exchange, Upstream, chunk, completion, status

COMMAND = str(Path(sys.executable).with_name("turnout"))
LOST = "127.0.0.1:9"


class Nest:
    """Gives out canaries: texts like secrets of many kinds, each of them nowhere else."""

    FORMS = ("sk-{}", "canary {} in prose", "{}", "Basic {}", "AKIA{}", "xoxb-{}", "ghp_{}", "-----BEGIN {}-----")

    def __init__(self) -> None:
        self.marks: dict[str, str] = {}

    def __call__(self, where: str) -> str:
        """A secret to plant. Only its middle is looked for, so that a piece of it counts too."""
        assert where not in self.marks, where
        mark = f"c4n4ry{len(self.marks):03d}{os.urandom(6).hex()}"
        self.marks[where] = mark
        return self.FORMS[len(self.marks) % len(self.FORMS)].format(mark)

    def plain(self, where: str) -> str:
        return re.sub(r"[^A-Za-z0-9_-]", "-", self(where))

    def leaks(self, sink: str, text: bytes) -> list[str]:
        return [f"{where} in {sink}" for where, mark in self.marks.items() if mark.encode() in text]


CONFIG = """
state: {{database: "sqlite:///{folder}/var/turnout.db", redis: "redis://:{redis}@{lost}/0"}}
providers:
  one: {{kind: openai-compatible, base_url: "{url}", api_keys: ["${{KEY_A}}", "${{KEY_B}}"], headers: {{x-tenant: "${{HEADER}}"}}}}
  claude: {{kind: anthropic, base_url: "{url}", api_key: "${{KEY_C}}"}}
  aws: {{kind: bedrock, region: eu-west-1, base_url: "{url}", credentials: {{access_key_id: "${{AWS_ID}}", secret_access_key: "${{AWS_SECRET}}"}}}}
  dead: {{kind: openai-compatible, base_url: "http://{lost}/v1", api_key: "${{KEY_D}}"}}
models:
  "one/*": {{policy: once, targets: [{{provider: one, model: "*"}}]}}
  "claude/*": {{policy: once, targets: [{{provider: claude, model: "*"}}]}}
  "aws/*": {{policy: once, targets: [{{provider: aws, model: "*"}}]}}
  dead: {{policy: once, targets: [{{provider: dead, model: m}}]}}
  both: {{targets: [{{provider: one, model: fails}}, {{provider: one, model: good}}]}}
policies:
  once: {{retry: {{max_attempts: 1}}}}
teams:
  search: {{keys: ["${{TEAM}}", "${{TEAM_OLD}}"], overrides: [deadline_ms]}}
  writers: {{keys: ["${{WRITERS}}"]}}
metrics: {{key: "${{METRICS}}"}}
telemetry: {{endpoint: "{collector}", headers: {{authorization: "${{OTLP}}"}}}}
admin:
  port: 0
  key: "${{ADMIN}}"
  oidc: {{issuer: "http://{lost}", client_id: turnout, client_secret: "${{OIDC_SECRET}}", admins: [a]}}
"""


def plays(nest: Nest) -> dict[str, Any]:
    """What the upstream does for each model: mostly it fails, and its words hold what nobody may see."""

    def error(status: int, where: str, **more: Any) -> Any:
        told = nest(where)

        async def play(x: Exchange) -> None:
            key = x.seen.head.get("authorization", "") + x.seen.head.get("x-api-key", "")
            body = {"type": "error", "error": {"message": f"{told} {key} {json.dumps(x.seen.body)}", "type": "t", **more}}
            await x.respond(status, json.dumps(body).encode(), set_cookie=nest.marks[where], location=f"http://{LOST}/{nest.marks[where]}")

        return play

    html, event, in_band, broken, told = (nest(f"upstream {kind}") for kind in ("html", "event", "in-band error", "JSON", "answer"))

    async def page(x: Exchange) -> None:
        await x.respond(200, f"<html>{html}</html>".encode(), "text/html")

    async def malformed(x: Exchange) -> None:
        await x.start_stream()
        await x.event(chunk({"content": "Hello"}))
        await x.raw_chunk(f'data: {{"choices": [{event}\n\n'.encode())
        await x.end_stream()

    async def in_stream(x: Exchange) -> None:
        await x.start_stream()
        await x.event(chunk({"content": "Hello"}))
        await x.event({"error": {"message": in_band, "code": nest.marks["upstream in-band error"]}})
        await x.end_stream()

    async def cut(x: Exchange) -> None:
        await x.respond(200, f'{{"choices": [{{"message": "{broken}'.encode())

    async def good(x: Exchange) -> None:
        await x.respond(200, json.dumps(completion(told)).encode(), set_cookie=told)

    return {
        "fails": error(500, "upstream 500"),
        "rejects": error(400, "upstream 400", param=nest("upstream param"), code=nest("upstream code")),
        "forbids": error(401, "upstream 401"),
        "filters": error(400, "upstream content filter", code="content_filter"),
        "too-long": error(400, "upstream context", code="context_length_exceeded"),
        "limits": error(429, "upstream 429"),
        "redirects": error(307, "upstream redirect"),
        "overloads": error(529, "upstream 529"),
        "html": page,
        "malformed": malformed,
        "in-stream": in_stream,
        "cut": cut,
        "good": good,
    }


@dataclass
class Run:
    """A gateway's process among canaries, and all that came out of it."""

    url: str
    nest: Nest
    key: str
    folder: Path
    process: subprocess.Popen[bytes]
    env: dict[str, str]
    admin_url: str
    admin_key: str
    metrics_key: str
    core_limit: str = ""
    requests: list[str] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)

    def look(self, sink: str, text: bytes) -> None:
        self.leaks += self.nest.leaks(sink, text)

    async def ask(self, http: httpx2.AsyncClient, path: str, body: Any, *, key: str | None = None, **headers: str) -> None:
        """Asks, and looks through the answer unless it is a whole one: the caller's own text may come back in it."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"authorization": f"Bearer {key or self.key}", "content-type": "application/json", **headers}
        answer = await http.post(self.url + path, content=content, headers=sent)
        self.requests.append(answer.headers["x-request-id"])
        self.look(f"the headers of {path}", str(answer.headers.multi_items()).encode())
        if answer.status_code != 200:
            self.look(f"the error of {path} {body['model'] if isinstance(body, dict) else ''}", answer.content)
        elif isinstance(body, dict) and body.get("stream"):
            self.look(f"the stream of {body['model']}", answer.content)


def begin(folder: Path, nest: Nest, upstream_url: str, collector: str) -> Run:
    """Starts the gateway with its secrets in the environment, and waits until it listens."""
    names = (
        "KEY_A",
        "KEY_B",
        "KEY_C",
        "KEY_D",
        "HEADER",
        "AWS_ID",
        "AWS_SECRET",
        "TEAM",
        "TEAM_OLD",
        "WRITERS",
        "ADMIN",
        "OIDC_SECRET",
        "METRICS",
        "OTLP",
    )
    secrets = {name: nest.plain(f"key {name}") for name in names}
    (folder / "turnout.yaml").write_text(
        CONFIG.format(folder=folder, url=upstream_url, collector=collector, lost=LOST, redis=nest.plain("redis password"))
    )
    env = clean_env(**secrets, TURNOUT_BOOTSTRAP_KEY=nest.plain("bootstrap key"))
    with (folder / "stderr.txt").open("wb") as log, (folder / "stdout.txt").open("wb") as out:
        process = subprocess.Popen([COMMAND, "serve", "--port", "0", "--config", "turnout.yaml"], cwd=folder, env=env, stdout=out, stderr=log)
    while (found := re.search(rb"base URL\s+(\S+)/v1", (folder / "stdout.txt").read_bytes())) is None:
        assert process.poll() is None, (folder / "stderr.txt").read_text()
        time.sleep(0.05)
    admin = re.search(rb"admin API\s+(\S+)", (folder / "stdout.txt").read_bytes())
    assert admin is not None
    return Run(found[1].decode(), nest, secrets["TEAM"], folder, process, env, admin[1].decode(), secrets["ADMIN"], secrets["METRICS"])


async def story(folder: Path, nest: Nest) -> Run:
    upstream, collector = await Upstream().start(), await Upstream().start()
    upstream.plays |= plays(nest)
    collector.default = status(200, b"")
    run = begin(folder, nest, upstream.base_url, f"http://127.0.0.1:{collector.port}")
    try:
        async with httpx2.AsyncClient(timeout=60, trust_env=False) as http:
            await everything(run, http)
            await made_keys(run, http)
            await telemetry(run, http, collector)
    except BaseException:
        run.process.kill()
        raise
    finally:
        await upstream.stop()
        await collector.stop()
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Ended by a signal that would leave a core: what is in memory must not end up in a file, nor on the terminal."""
    run = asyncio.run(story(tmp_path_factory.mktemp("canaries"), Nest()))
    try:
        look_at_the_commands(run)
        proc = Path(f"/proc/{run.process.pid}")
        run.look("argv", (proc / "cmdline").read_bytes())
        run.core_limit = (proc / "limits").read_text()
    finally:
        run.process.send_signal(signal.SIGABRT)
        run.process.wait(30)
    yield run


async def everything(run: Run, http: httpx2.AsyncClient) -> None:
    """Every endpoint and every failure, with secrets in the request."""
    nest = run.nest
    tool = {"type": "function", "function": {"name": "f", "description": nest("tool description"), "parameters": {"const": nest("tool schema")}}}
    called = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": json.dumps({"a": nest("tool arguments")})}}
    messages = [
        {"role": "system", "content": nest("system prompt")},
        {"role": "user", "content": nest("user's text")},
        {"role": "assistant", "content": None, "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "call_1", "content": nest("tool result")},
    ]
    chat = {"messages": messages, "tools": [tool], "metadata": {"secret": nest("metadata")}, "user": nest("user id")}
    headers = {"cookie": nest.plain("cookie"), "x-internal-token": nest.plain("custom header"), "idempotency-key": nest.plain("idempotency key")}
    headers |= {"tracestate": f"v={nest.plain('trace state')}", "traceparent": f"00-{os.urandom(16).hex()}-{os.urandom(8).hex()}-01"}
    headers |= {"openai-organization": nest.plain("organisation header"), "user-agent": nest.plain("user agent"), "referer": nest.plain("referer")}
    for model in plays(Nest()):
        for stream in (False, True):
            await run.ask(http, "/v1/chat/completions", {"model": f"one/{model}", "stream": stream, **chat}, **headers)
    for model in ("fails", "rejects", "forbids", "html"):
        body = {"model": f"claude/{model}", "max_tokens": 9, "messages": [{"role": "user", "content": chat["user"]}]}
        await run.ask(http, "/v1/messages", body, **headers)
        await run.ask(http, "/v1/chat/completions", {**chat, "model": f"aws/{model}"})
        await run.ask(http, "/v1/embeddings", {"model": f"one/{model}", "input": chat["user"]})
        await run.ask(http, "/v1/responses", {"model": f"one/{model}", "input": chat["user"], "store": False})
    await run.ask(http, "/v1/chat/completions", {"model": "dead", **chat}, **headers)
    await run.ask(http, "/v1/chat/completions", {"model": "both", **chat}, **headers)
    await wrong_requests(run, http, chat)
    for path in ("/v1/targets", "/v1/reports/calibration", "/health/ready", "/openapi.json", "/metrics", "/v1/models"):
        answer = await http.get(run.url + path, headers={"authorization": f"Bearer {run.key}"})
        run.look(path, answer.content + str(answer.headers).encode())
    for request_id in run.requests:
        answer = await http.get(f"{run.url}/v1/decisions/{request_id}", headers={"authorization": f"Bearer {run.key}"})
        run.look("a decision", answer.content)


async def telemetry(run: Run, http: httpx2.AsyncClient, collector: Upstream) -> None:
    """Metrics in both formats, and all that a collector was sent of it all: as many requests as there were."""
    for accept in ("text/plain", "application/openmetrics-text"):
        answer = await http.get(f"{run.url}/metrics", headers={"authorization": f"Bearer {run.metrics_key}", "accept": accept})
        assert answer.status_code == 200 and "turnout_attempts_total" in answer.text
        run.look(f"the metrics as {accept}", answer.content + str(answer.headers).encode())
    async with asyncio.timeout(20):
        while not any(run.requests[-3].encode() in seen.raw for seen in collector.journal):
            await asyncio.sleep(0.05)
    for seen in collector.journal:
        run.look("the traces", seen.raw)
    assert sum(b"turnout.request.id" in seen.raw for seen in collector.journal) > 0


def hatched(run: Run, where: str, secret: str) -> str:
    """A secret that the gateway itself made: from now on a canary too."""
    run.nest.marks[where] = secret.removeprefix("sk-turnout-")
    return secret


async def made_keys(run: Run, http: httpx2.AsyncClient) -> None:
    """Keys made, used, rotated and revoked by the admin API, and what it says of those who get it wrong."""
    nest = run.nest

    async def admin(method: str, path: str, body: Any = None, key: str = run.admin_key, secret: str = "") -> Any:
        content = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = await http.request(method, run.admin_url + path, content=content, headers={"authorization": f"Bearer {key}"})
        told = answer.content.replace(answer.json()["key"].encode(), b"") if secret else answer.content
        run.look(f"the admin API's {method} {path.partition('/key_')[0]}", told + str(answer.headers.multi_items()).encode())
        if secret:
            hatched(run, secret, answer.json()["key"])
        return answer.json()

    made = await admin("POST", "/admin/keys", {"team": "writers", "name": "ci"}, secret="made key")
    path = f"/admin/keys/{made['id']}"
    chat = {"messages": [{"role": "user", "content": "Hi"}]}
    for model in ("fails", "forbids", "rejects", "good"):
        await run.ask(http, "/v1/chat/completions", {"model": f"one/{model}", **chat}, key=made["key"])
    rotated = await admin("POST", f"{path}/rotate", {"grace_s": 60}, secret="rotated key")
    await run.ask(http, "/v1/chat/completions", {"model": "one/good", **chat}, key=rotated["key"])
    for wrong in ({"team": "writers", "expires_in_s": nest("wrong expiry")}, {"team": "writers", "limits": nest("wrong limits")}):
        await admin("POST", "/admin/keys", wrong)
    await admin("POST", "/admin/keys", {"team": "writers", "key": nest("unknown field's value")})
    await admin("POST", "/admin/keys", nest("admin body that is no JSON").encode())
    await admin("POST", f"{path}/rotate", {"grace_s": nest("wrong grace")})
    await admin("GET", "/admin/keys", key=nest.plain("wrong admin key"))
    await admin("GET", "/admin/keys", key=f"e.{nest.plain('wrong token')}.s")
    await admin("GET", "/auth/login")
    for read in ("/admin/keys", path, "/admin/teams", "/admin/config", "/auth/session"):
        await admin("GET", read)
    await admin("DELETE", path)
    for secret in (made["key"], rotated["key"]):
        await run.ask(http, "/v1/chat/completions", {"model": "one/good", **chat}, key=secret)


async def wrong_requests(run: Run, http: httpx2.AsyncClient, chat: dict[str, Any]) -> None:
    """What a caller gets wrong must be told without repeating it."""
    nest, path, model = run.nest, "/v1/chat/completions", "one/good"
    good = {"model": model, "messages": [{"role": "user", "content": "Hello"}]}
    await run.ask(http, path, good, key=nest.plain("unknown key"))
    await run.ask(http, path, good, authorization=nest.plain("not a bearer"))
    await run.ask(http, path, good, **{"x-turnout-deadline-ms": nest.plain("override's value")})
    await run.ask(http, path, good, **{"x-turnout-max-cost": nest.plain("forbidden override")})
    await run.ask(http, path, good, **{"content-type": f"text/{nest.plain('content type')}"})
    await run.ask(http, path, good, **{"content-encoding": nest.plain("content encoding")})
    await run.ask(http, path, f'{{"model": "{model}", "messages": [{nest("malformed body")}'.encode())
    await run.ask(http, path, {**good, "temperature": nest("wrong type")})
    await run.ask(http, path, {**good, "turnout": {"deadline_ms": nest("override in the body")}})
    await run.ask(http, path, {**good, "messages": nest("messages that are text")})
    await run.ask(http, "/v1/messages", {"model": "claude/good", "messages": [], "max_tokens": nest("max_tokens that is text")})
    raw = f"POST {path} HTTP/1.1\r\nhost: {nest.plain('host header')}\r\nx: {nest.plain('bad header')}\r\ncontent-length: no\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", int(run.url.rpartition(":")[2]))
    writer.write(raw.encode())
    run.look("an answer to what is not HTTP", await reader.read())
    writer.close()


def look_at_the_commands(run: Run) -> None:
    """What the command line prints with the same secrets in its environment."""
    for command in (
        ["check"],
        ["doctor"],
        ["spend"],
        ["models"],
        ["providers"],
        ["explain", "--model", "both", "--team", "search"],
        ["trace", run.requests[0]],
        ["keys", "list"],
        ["keys", "list", "--json"],
        ["teams", "list"],
        ["keys", "create", "--team", "writers"],
    ):
        with_config = ["--config", "turnout.yaml"] if command[0] not in ("check", "providers") else ["turnout.yaml"] if command[0] == "check" else []
        done = subprocess.run([COMMAND, *command, *with_config], cwd=run.folder, env=run.env, capture_output=True, timeout=60)
        if "create" in command:
            hatched(run, "key of the command line", done.stdout.decode().strip())
            done.stdout = b""
        run.look(f"turnout {command[0]}", done.stdout + done.stderr)


def files(folder: Path) -> Iterator[Path]:
    return (each for each in folder.rglob("*") if each.is_file() and each.name != "turnout.yaml")


def test_enough_was_planted(run: Run) -> None:
    assert len(run.nest.marks) >= 40
    assert len(run.requests) >= 40


def test_no_secret_is_in_an_answer_a_header_a_report_a_command_or_argv(run: Run) -> None:
    assert run.leaks == []


def test_no_secret_is_in_the_log_the_terminal_or_the_database(run: Run) -> None:
    found = [leak for file in files(run.folder) for leak in run.nest.leaks(file.name, file.read_bytes())]
    assert [each.name for each in files(run.folder) if each.name == "turnout.db"]
    assert (run.folder / "stderr.txt").stat().st_size > 0
    assert found == []


def test_a_crash_leaves_no_core(run: Run) -> None:
    assert run.process.returncode == -signal.SIGABRT
    assert re.search(r"Max core file size\s+0\s+0\s", run.core_limit)
