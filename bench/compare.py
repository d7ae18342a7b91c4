"""Gateways side by side on one core: CPU per request, requests/s, added latency, stream events/s, all in one run.

    python bench/compare.py [--passes N] [--scale S] [NAME ...]

Names: direct nginx litellm turnout turnout-limits turnout-route turnout-granian

The gateway is pinned to core 0, the mock provider and the load generator to core 1. Machines are noisy: read the ratios, which come
from one run. CPU is the kernel's scheduler accounting of the gateway's whole process tree. Peers that are not installed are left out and
named; `bench/venvs/litellm` is expected to hold `litellm[proxy]` with opentelemetry-api, prometheus-client and prisma.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
BIN = Path(sys.executable).parent
MOCK_PORT = 9001
KEY = "sk-bench-key"
PATH = "/v1/chat/completions"
STARTUP_LIMIT_S = 120


@dataclass(frozen=True)
class Gateway:
    """`light_rate`: requests/s of the light load; LiteLLM cannot do more than a few dozen on a core."""

    name: str
    command: tuple[str, ...] | None
    port: int
    env: dict[str, str] = field(default_factory=dict)
    light_rate: int = 50
    stream_rate: int = 10


def turnout(name: str, port: int, front: str) -> Gateway:
    return Gateway(name, (str(BIN / "python"), "-I", str(HERE / "front.py"), front, str(port)), port)


LITELLM = HERE / "venvs/litellm/bin/litellm"
GATEWAYS = {
    g.name: g
    for g in (
        Gateway("direct", None, MOCK_PORT),
        Gateway("nginx", ("nginx", "-p", str(HERE), "-c", str(HERE / "conf/nginx.conf")), 8100),
        Gateway(
            "litellm",
            (str(LITELLM), "--config", str(HERE / "conf/litellm.yaml"), "--host", "127.0.0.1", "--port", "8121", "--num_workers", "1"),
            8121,
            {"LITELLM_LOCAL_MODEL_COST_MAP": "True"},
            light_rate=10,
            stream_rate=2,
        ),
        turnout("turnout", 8301, "uvicorn"),
        turnout("turnout-limits", 8304, "limits"),
        turnout("turnout-route", 8302, "route"),
        turnout("turnout-granian", 8303, "granian"),
    )
}


def available(gateway: Gateway) -> bool:
    return gateway.command is None or shutil.which(gateway.command[0]) is not None


def build() -> None:
    """Compiles the mock provider and the load generator."""
    for folder in ("bin", "logs", "results"):
        (HERE / folder).mkdir(exist_ok=True)
    for name in ("mockup", "loadgen"):
        subprocess.run(["gcc", "-O2", "-w", "-o", str(HERE / "bin" / name), str(HERE / "src" / f"{name}.c"), "-lm"], check=True)


def spawn(command: tuple[str, ...], core: int, env: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as out:
        return subprocess.Popen(
            ["taskset", "-c", str(core), *command],
            cwd=HERE,
            env={**os.environ, **env},
            stdout=out,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )


def stop(process: subprocess.Popen[bytes]) -> None:
    for sig in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sig)
            process.wait(8)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
        return


def tree(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        found.append(todo.pop())
        todo += children.get(found[-1], [])
    return found


def cpu_s(pid: int) -> float:
    """Seconds on a CPU of every live thread of the process tree."""
    total = 0
    for process in tree(pid):
        for thread in Path(f"/proc/{process}/task").glob("*/schedstat"):
            try:
                total += int(thread.read_text().split()[0])
            except OSError:
                continue
    return total / 1e9


def rss_mb(pid: int) -> float:
    kb = 0
    for process in tree(pid):
        try:
            kb += next(int(line.split()[1]) for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("VmRSS"))
        except (OSError, StopIteration):
            continue
    return round(kb / 1024, 1)


def ask(gateway: Gateway, body: bytes, timeout_s: float = 20) -> bytes:
    headers = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}
    request = urllib.request.Request(f"http://127.0.0.1:{gateway.port}{PATH}", data=body, headers=headers)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=timeout_s) as response:
        answer: bytes = response.read()
        return answer


def load(gateway: Gateway, body: str, **options: float) -> dict[str, float]:
    command = [
        str(HERE / "bin/loadgen"),
        "-p",
        str(gateway.port),
        "-u",
        PATH,
        "-b",
        str(HERE / "bodies" / body),
        "-H",
        f"Authorization: Bearer {KEY}",
    ]
    for name, value in options.items():
        command += [f"-{name}", str(value)]
    done = subprocess.run(["taskset", "-c", "1", *command], capture_output=True, text=True, timeout=180, check=True)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def wait_for_answer(gateway: Gateway, process: subprocess.Popen[bytes] | None) -> float:
    began = time.monotonic()
    body = (HERE / "bodies/chat_d0.json").read_bytes()
    while True:
        try:
            if b"MOCKOK" in ask(gateway, body, 5):
                return round(time.monotonic() - began, 2)
        except (OSError, urllib.error.URLError) as exc:
            if time.monotonic() - began > STARTUP_LIMIT_S or (process and process.poll() is not None):
                raise RuntimeError(f"{gateway.name} gave no answer: {exc}; see bench/logs") from exc
        time.sleep(0.02)


def measure(gateway: Gateway, scale: float) -> dict[str, float]:
    """One gateway, freshly started, through every phase."""
    if gateway.command and socket.socket().connect_ex(("127.0.0.1", gateway.port)) == 0:
        raise RuntimeError(f"something listens on port {gateway.port} already: it would be measured instead of {gateway.name}")
    mock = spawn((str(HERE / "bin/mockup"), str(MOCK_PORT)), 1, {}, HERE / "logs/mock.log")
    time.sleep(0.2)
    process = spawn(gateway.command, 0, gateway.env, HERE / f"logs/{gateway.name}.log") if gateway.command else None
    try:
        out = {"start_s": wait_for_answer(gateway, process)}
        stream = ask(gateway, (HERE / "bodies/chat_stream_d0.json").read_bytes())
        if stream.count(b"data:") < 50 or b"[DONE]" not in stream:
            raise RuntimeError(f"{gateway.name} did not stream the whole answer")
        load(gateway, "chat_d0.json", c=16, s=1.0)
        load(gateway, "chat_stream_d0.json", c=8, s=0.5)

        def phase(body: str, **options: float) -> dict[str, float]:
            time.sleep(0.4)
            options["s"] = round(options["s"] * scale, 2)
            before, wall = (cpu_s(process.pid) if process else 0.0), time.monotonic()
            result = load(gateway, body, **options)
            if process:
                result["cpu_us"] = (cpu_s(process.pid) - before) * 1e6
            result["wall"] = time.monotonic() - wall
            if result["errors"] or result["non2xx"]:
                raise RuntimeError(f"{gateway.name}: {result['errors']} errors, {result['non2xx']} refusals in {body}")
            return result

        light = phase("chat_d0.json", c=64, s=5, r=gateway.light_rate)
        full = phase("chat_d0.json", c=32, s=4)
        big = phase("chat_100k.json", c=4, s=2)
        ttft = phase("chat_stream_d10.json", c=64, s=4, r=gateway.stream_rate)
        burst = phase("chat_stream_d0.json", c=16, s=2)
        paced = phase("chat_stream_d5.json", c=200, s=3, w=1)
        out |= {"rps": full["rps"], "p50_ms": light["p50_ms"], "p99_ms": light["p99_ms"], "ttft_ms": ttft["ttft_p50_ms"]}
        out |= {"big_rps": big["rps"], "burst_eps": burst["events_per_s"], "paced_eps": paced["events_per_s"]}
        if process:
            out |= {
                "cpu_us": full["cpu_us"] / full["requests"],
                "event_us": ttft["cpu_us"] / max(1, ttft["events"]),
                "rss_mb": rss_mb(process.pid),
            }
        return out
    finally:
        if process:
            stop(process)
        stop(mock)


COLUMNS = (
    ("req/s", "rps", 0),
    ("CPU µs/req", "cpu_us", 0),
    ("+p50 ms", "+p50_ms", 2),
    ("+TTFT ms", "+ttft_ms", 2),
    ("paced events/s", "paced_eps", 0),
    ("burst events/s", "burst_eps", 0),
    ("100 KB req/s", "big_rps", 0),
    ("RSS MB", "rss_mb", 0),
    ("start s", "start_s", 1),
)


def table(passes: list[dict[str, dict[str, float]]]) -> str:
    """Markdown: medians over the passes, [min-max] where there are several; CPU also as multiples of nginx's and of LiteLLM's."""

    def values(name: str, key: str) -> list[float]:
        got = [p[name] for p in passes if name in p]
        if key.startswith("+"):
            base = [p["direct"] for p in passes if "direct" in p]
            return [] if name == "direct" else [g[key[1:]] - b[key[1:]] for g, b in zip(got, base, strict=False)]
        return [g[key] for g in got if key in g]

    def cell(name: str, key: str, digits: int) -> str:
        got = values(name, key)
        if not got:
            return ""
        text = f"{statistics.median(got):,.{digits}f}"
        return f"{text} [{min(got):,.{digits}f}–{max(got):,.{digits}f}]" if len(got) > 1 else text

    def ratio(name: str, peer: str) -> str:
        mine, theirs = values(name, "cpu_us"), values(peer, "cpu_us")
        return f"{statistics.median(mine) / statistics.median(theirs):,.3g}" if mine and theirs else ""

    names = [name for name in GATEWAYS if any(name in p for p in passes)]
    rows = [
        "| gateway | " + " | ".join(title for title, _, _ in COLUMNS) + " | CPU ÷ nginx | CPU ÷ LiteLLM |",
        "|---" * (len(COLUMNS) + 3) + "|",
    ]
    rows += ["| " + " | ".join([n, *(cell(n, key, d) for _, key, d in COLUMNS), ratio(n, "nginx"), ratio(n, "litellm")]) + " |" for n in names]
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(GATEWAYS))
    parser.add_argument("--passes", type=int, default=1)
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies every phase's seconds")
    options = parser.parse_args()
    build()
    passes: list[dict[str, dict[str, float]]] = []
    for number in range(options.passes):
        passes.append({})
        for name in options.names:
            gateway = GATEWAYS[name]
            if not available(gateway):
                print(f"{name}: not installed, left out", file=sys.stderr)
                continue
            passes[-1][name] = result = measure(gateway, options.scale)
            print(f"pass {number + 1} {name}: " + json.dumps({k: round(v, 2) for k, v in result.items()}), file=sys.stderr, flush=True)
    (HERE / "results/compare.json").write_text(json.dumps(passes, indent=1))
    print(table(passes))


if __name__ == "__main__":
    main()
