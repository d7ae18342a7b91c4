"""The parts of `make acceptance`: what each runs, against which gateway, and how its outcome is read."""

import contextlib
import gzip
import json
import os
import re
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import acceptance_others as others
from acceptance_results import Gap, Result, from_junit
from acceptance_servers import KEY, ROOT, gateway, replay, standin

TESTS = ROOT / "tests" / "acceptance"
VENV = ROOT / ".venv-acceptance"
PROGRAM_S = 900
FUZZ_S = 60
CHECKS_AT_ONCE = 2
TARGETS = ("oai", "chat", "rsp", "ant")
SDK_TESTS = {
    "openai": ("chat/test_completions", "test_completions", "test_responses", "test_embeddings", "test_models"),
    "anthropic": ("test_messages", "test_models"),
}
# Which kind of provider plays each recorded host of OpenAI's chat dialect; for any other host the plain one.
CHAT_KINDS = {
    "api.openai.com": "openai",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral",
    "api.deepseek.com": "deepseek",
    "api.cerebras.ai": "cerebras",
    "openrouter.ai": "openrouter",
    "router.huggingface.co": "huggingface",
}
CROSSED = {
    "openai.responses": "responses",
    "anthropic.messages": "anthropic",
    "gemini.generate": "gemini",
    "gemini.stream": "gemini",
    "bedrock.converse": "bedrock",
    "bedrock.converse_stream": "bedrock",
    "cohere.chat": "cohere",
}


@dataclass(frozen=True, slots=True)
class Run:
    """One acceptance run. `control`: against the stand-in itself, which shows what fails for no fault of the gateway."""

    acceptance: Path
    folder: Path
    gaps: list[Gap]
    control: bool


def run_program(command: list[str], log: Path, cwd: Path = ROOT, **environment: str) -> str:
    """What a program printed; its exit status is not looked at, for its report says more."""
    merged = {**os.environ, "NO_PROXY": "*", **environment}
    try:
        done = subprocess.run(command, cwd=cwd, env=merged, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PROGRAM_S, check=False)
        printed = done.stdout + done.stderr
    except subprocess.TimeoutExpired as exc:
        printed = f"{exc.stdout or ''}\nran past {PROGRAM_S} s"
    log.write_text(printed)
    return printed


def pytest(run: Run, part: str, arguments: list[str], cwd: Path = ROOT, **environment: str) -> Result:
    """A pytest run in the acceptance environment, read from its JUnit report."""
    name = part.replace("/", "-")
    report = run.folder / f"{name}.xml"
    started = time.monotonic()
    command = [str(VENV / "bin" / "python"), "-m", "pytest", "-q", f"--junitxml={report}", *arguments]
    run_program(command, run.folder / f"{name}.log", cwd, **environment)
    result = from_junit(part, report, run.gaps)
    result.seconds = time.monotonic() - started
    return result


@contextlib.contextmanager
def before_standin(run: Run, name: str, any_name: bool = False) -> Iterator[str]:
    """The base URL of a gateway before the scripted provider; in a control run, of the provider itself.

    `oai/…` is answered by a provider that speaks all of OpenAI's dialects, `chat/…` by one that speaks only chat, `rsp/…` only responses, `ant/…`
    Anthropic's. With `any_name` every other name is answered too.
    """
    with standin(run.acceptance, run.folder) as url:
        if run.control:
            yield url
            return
        openai: dict[str, Any] = {"kind": "openai", "base_url": f"{url}/v1", "api_key": "sk-upstream"}
        providers = {
            "oai": openai,
            "chat": {**openai, "dialects": ["openai_chat"]},
            "rsp": {**openai, "dialects": ["openai_responses"], "wire": "openai_responses"},
            "ant": {**openai, "kind": "anthropic"},
        }
        models = {f"{target}/*": target for target in TARGETS} | ({"claude-*": "ant", "*": "oai"} if any_name else {})
        with gateway(run.folder / name, providers, models) as base:
            yield base


def names(run: Run, *targets: str) -> str:
    return "standin" if run.control else " ".join(f"{target}/standin" for target in targets)


def sdk(run: Run) -> Iterator[Result]:
    """What the SDKs' own tests create, list or count."""
    with before_standin(run, "sdk", any_name=True) as base:
        for package, files in SDK_TESTS.items():
            folder = source_of(package)
            paths = [f"tests/api_resources/{file}.py" for file in files]
            url = f"{base}/v1" if package == "openai" else base
            yield pytest(run, f"sdk/{package}", ["-n", "4", "-k", "_create or _list or _count", *paths], folder, TEST_API_BASE_URL=url)


def source_of(package: str) -> Path:
    """The unpacked source archive of the installed version, fetched once."""
    python = str(VENV / "bin" / "python")
    version = subprocess.run(
        [python, "-c", f"import {package}; print({package}.__version__)"], capture_output=True, text=True, check=True
    ).stdout.strip()
    folder = VENV / "sdists" / f"{package}-{version}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        pip = [python, "-m", "pip", "--disable-pip-version-check", "-qq", "download", "--no-deps", "--no-binary", package, "-d", str(folder.parent)]
        subprocess.run([*pip, f"{package}=={version}"], check=True)
        with tarfile.open(folder.with_name(f"{folder.name}.tar.gz")) as archive:
            archive.extractall(folder.parent, filter="data")
    return folder


def langchain(run: Run) -> Iterator[Result]:
    """LangChain's standard integration tests, in each dialect at a target of its own and at another."""
    loop = ["-o", "asyncio_mode=auto", "-o", "asyncio_default_test_loop_scope=session", "-o", "asyncio_default_fixture_loop_scope=session"]
    arguments = ["-c", os.devnull, "--rootdir", str(run.folder), "-p", "no:cacheprovider", *loop, str(run.acceptance / "test_langchain_standard.py")]
    pairs = [("chat", "oai"), ("responses", "oai"), ("anthropic", "ant"), ("chat", "ant"), ("responses", "chat"), ("anthropic", "oai")]
    with before_standin(run, "langchain") as base:
        for dialect, target in pairs[:3] if run.control else pairs:
            model = names(run, target)
            yield pytest(run, f"langchain/{dialect}@{target}", arguments, LC=dialect, MODEL=model, BASE_URL=base, API_KEY=KEY)


def clients(run: Run) -> Iterator[Result]:
    """The SDKs and the frameworks over them, each dialect at each target."""
    with before_standin(run, "clients") as base:
        for name in ("openai", "anthropic", "frameworks"):
            environment = {"BASE_URL": base, "API_KEY": KEY, "MODELS": names(run, *TARGETS), "OPENAI_MODELS": names(run, "oai")}
            yield pytest(run, f"clients/{name}", [f"tests/acceptance/client_{name}.py"], **environment)


def node(run: Run) -> Iterator[Result]:
    """The Node SDKs and the Vercel AI SDK, each dialect at each target."""
    install_node("node")
    report, started = run.folder / "node.xml", time.monotonic()
    with before_standin(run, "node") as base:
        command = ["node", "--test", "--test-reporter=junit", f"--test-reporter-destination={report}", "test.mjs"]
        run_program(command, run.folder / "node.log", TESTS / "node", BASE_URL=base, API_KEY=KEY, MODELS=names(run, *TARGETS))
    result = from_junit("node", report, run.gaps)
    result.seconds = time.monotonic() - started
    yield result


def agents(run: Run) -> Iterator[Result]:
    """Codex CLI and Claude Code, each at targets of every dialect."""
    install_node("agents")
    with before_standin(run, "agents") as base:
        yield pytest(run, "agents", ["tests/acceptance/client_agents.py"], BASE_URL=base, API_KEY=KEY, MODELS=names(run, *TARGETS))


def install_node(folder: str) -> None:
    """`npm ci` from the lock, when the lock is newer than what is installed."""
    lock, installed = TESTS / folder / "package-lock.json", TESTS / folder / "node_modules" / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"], cwd=TESTS / folder, check=True, stdout=subprocess.DEVNULL)
        installed.touch()


def fuzz(run: Run) -> Iterator[Result]:
    """Generated requests, right and wrong, to the operations of OpenAI's specification: none may be answered with a 5xx."""
    result, started, report = Result("fuzz"), time.monotonic(), run.folder / "fuzz.xml"
    with before_standin(run, "fuzz", any_name=True) as base:
        command = [str(VENV / "bin" / "schemathesis"), "run", str(run.acceptance / "openai_subset.json"), "--url", f"{base}/v1", "--no-color"]
        command += ["--checks", "not_a_server_error", "--max-time", str(FUZZ_S), "--workers", "4", "--continue-on-failure", "--header"]
        command += [f"authorization: Bearer {KEY}", "--generation-database", "none", "--report", "junit", "--report-junit-path", str(report)]
        printed = run_program(command, run.folder / "fuzz.log", run.folder)
    counted = re.search(r"(\d+) generated", printed)
    result.passed = int(counted[1]) if counted else 0
    found = from_junit("fuzz", report, run.gaps)
    result.failures, result.gaps, result.seconds = found.failures, found.gaps, time.monotonic() - started
    yield result


def cassettes(run: Run) -> Iterator[Result]:
    """Recorded exchanges: in the provider's own dialect, with the request that reached it; then asked as chat completions whatever it speaks."""
    with gzip.open(run.acceptance / "visible.jsonl.gz", "rt") as lines:
        rows = [json.loads(line) for line in lines]
    hosts = {op: sorted({row["host"] for row in rows if row["op"] == op}) for op in ("openai.chat", *CROSSED)}
    with replay(run.acceptance, run.folder) as provider, before_replay(run, provider) as base:
        own = [
            (f"cassettes/{op}", [(op, host, kind_of(op, host)) for host in hosts[op]], "--requests")
            for op in ("openai.chat", "openai.responses", "anthropic.messages")
        ]
        crossed = [
            (f"cassettes/{op} as chat", [(op, host, CROSSED.get(op) or kind_of(op, host)) for host in hosts[op]], "--cross")
            for op in ("openai.chat", *CROSSED)
        ]
        for rounds in (own,) if run.control else (own, crossed):  # one after the other: both look at the last request of an exchange
            with ThreadPoolExecutor(CHECKS_AT_ONCE) as pool:
                yield from pool.map(lambda check: checked(run, check[0], base, provider, check[1], check[2]), rounds)
        if not run.control:
            yield others.endpoints(rows, base, provider, run.gaps)
            yield others.errors(rows, {"openai.chat": "openai", **CROSSED}, base, run.gaps)


def kind_of(op: str, host: str) -> str:
    if op == "openai.chat":
        return CHAT_KINDS.get(host, "openai-compatible")
    return "openai" if op == "openai.responses" else "anthropic"


@contextlib.contextmanager
def before_replay(run: Run, url: str) -> Iterator[str]:
    """The base URL of a gateway with one provider for each kind, all of them the recorded one; in a control run, of that provider itself."""
    if run.control:
        yield url
        return
    bases = {"gemini": f"{url}/v1beta", "bedrock": url, "cohere": url}
    kinds = {*CHAT_KINDS.values(), *CROSSED.values(), "openai-compatible"}
    providers: dict[str, dict[str, Any]] = {k: {"kind": k, "base_url": bases.get(k, f"{url}/v1"), "api_key": "sk-upstream"} for k in sorted(kinds)}
    providers["responses"] |= {"kind": "openai", "dialects": ["openai_responses"], "wire": "openai_responses"}
    with gateway(run.folder / "cassettes", providers, {f"{kind}/*": kind for kind in providers}) as base:
        yield base


def checked(run: Run, part: str, base: str, provider: str, rows: list[tuple[str, str, str]], mode: str) -> Result:
    """One operation at each of its hosts, as cassette_replay.py tells it."""
    result, started = Result(part), time.monotonic()
    tool, corpus = str(run.acceptance / "cassette_replay.py"), str(run.acceptance / "visible.jsonl.gz")
    for op, host, kind in rows:
        prefix = "" if run.control else f"{kind}/"
        command = [sys.executable, tool, "check", corpus, "--replay", provider, "--op", op, "--host", host, "--prefix", prefix, mode, "-v"]
        log = run.folder / f"{part.replace('/', '-').replace(' ', '-')}-{host.replace(':', '-')}.log"
        printed = run_program(command, log, BASE_URL=base, API_KEY=KEY)
        counts = re.search(r"^(\d+) passed, (\d+) failed, (\d+) skipped$", printed, re.M)
        if counts is None:
            result.add(f"{host} the run itself", printed[-300:], run.gaps)
            continue
        result.passed += int(counts[1])
        result.skipped += int(counts[3])
        bad = re.findall(r"^BAD  (.*)$", printed, re.M)
        for line in [*bad, *["no answer"] * (int(counts[2]) - len(bad))]:
            result.add(host, line, run.gaps)
    result.seconds = time.monotonic() - started
    return result


PARTS: dict[str, Callable[[Run], Iterator[Result]]] = {
    "cassettes": cassettes,
    "sdk": sdk,
    "langchain": langchain,
    "clients": clients,
    "node": node,
    "agents": agents,
    "fuzz": fuzz,
}
