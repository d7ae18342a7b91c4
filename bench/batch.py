"""What a batch costs the gateway: how long a large file takes until it is accepted and planned, how much memory, then the worker's CPU for each row.

    .venv/bin/python -m bench.batch [--rows 50000] [--bytes 200000000] [--asked 5000]

A gateway in a process of its own, SQLite, an upstream in this process that answers at once. The CPU of a row is the whole process's while rows are
asked, its HTTP client, ledger and database among it; that of the pipeline alone stands in docs/performance.md.
"""

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from gateway.cli.batch_client import GatewayClient, Progress
from tests.gateway.batching import CONFIG
from tests.gateway.test_command import serving

KEY = "sk-bench"
CLOCK = os.sysconf("SC_CLK_TCK")
ANSWER = json.dumps(
    {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello there"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25},
    }
).encode()
RESPONSE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(ANSWER), ANSWER)


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            at = head.lower().index(b"content-length:") + 15
            await reader.readexactly(int(head[at : head.index(b"\r\n", at)]))
            writer.write(RESPONSE)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


def _rows(count: int, size: int) -> Iterator[bytes]:
    """Of `size` bytes in all, or the least that they have."""
    for number in range(count):
        body = {"model": "solo", "messages": [{"role": "user", "content": ""}]}
        line = {"custom_id": f"row-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
        bare = len(json.dumps(line)) + 1
        body["messages"][0]["content"] = "x" * max(1, size // count - bare)  # type: ignore[index]
        yield json.dumps(line).encode() + b"\n"


def _rss_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK


def _watched(gateway: GatewayClient, id: str, pid: int, until: Callable[[Progress], bool]) -> float:
    """The most memory until that holds of the batch, in MB."""
    most = 0.0
    while not until(gateway.progress(id)):
        most = max(most, _rss_mb(pid))
        time.sleep(0.02)
    return most


def _accepted(folder: Path, gateway: GatewayClient, pid: int, rows: int, size: int) -> None:
    file = folder / "large.jsonl"
    with file.open("wb") as out:
        out.writelines(_rows(rows, size))
    idle, began, cpu = _rss_mb(pid), time.monotonic(), _cpu_s(pid)
    id = gateway.submit(file, "/v1/chat/completions", "24h")
    uploaded = time.monotonic() - began
    most = max(_rss_mb(pid), _watched(gateway, id, pid, lambda each: each.status in ("in_progress", "failed")))
    print(
        f"{rows} rows, {file.stat().st_size / 1e6:.0f} MB: uploaded after {uploaded:.2f} s, accepted after {time.monotonic() - began:.2f} s, "
        f"{_cpu_s(pid) - cpu:.2f} s of CPU, at most {most - idle:.0f} MB above the {idle:.0f} MB at idle"
    )
    most = max(most, _watched(gateway, id, pid, lambda each: each.plan is not None or each.ended), _rss_mb(pid))
    print(f"planned after {time.monotonic() - began:.2f} s, {_cpu_s(pid) - cpu:.2f} s of CPU in all, at most {most - idle:.0f} MB above idle")


def _asked(folder: Path, gateway: GatewayClient, pid: int, rows: int) -> None:
    file = folder / "small.jsonl"
    with file.open("wb") as out:
        out.writelines(_rows(rows, 0))
    cpu, began = _cpu_s(pid), time.monotonic()
    id = gateway.submit(file, "/v1/chat/completions", "24h")
    while not (progress := gateway.progress(id)).ended:
        time.sleep(0.5)
    passed = time.monotonic() - began
    assert progress.rows["succeeded"] == rows, progress
    print(f"{rows} rows asked in {passed:.1f} s, {rows / passed:.0f} rows/s, {(_cpu_s(pid) - cpu) / rows * 1e3:.3f} ms of CPU a row, all in all")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--bytes", type=int, default=199_000_000)
    parser.add_argument("--asked", type=int, default=5_000)
    given = parser.parse_args()
    asyncio.run(_main(given.rows, given.bytes, given.asked))


async def _main(rows: int, size: int, asked: int) -> None:
    server = await asyncio.start_server(_answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with tempfile.TemporaryDirectory() as name:
        await asyncio.to_thread(_measure, Path(name), port, rows, size, asked)
    server.close()


def _measure(folder: Path, port: int, rows: int, size: int, asked: int) -> None:
    """The large file where its rows become a provider's jobs, so that each row is read for the plan; the small one where they are asked live."""
    for name, kind in (("jobs", "openai"), ("live", "openai-compatible")):
        place = folder / name
        place.mkdir()
        one, database = f"http://127.0.0.1:{port}/v1", f"sqlite:///{place}/turnout.db"
        text = CONFIG.format(database=database, one=one, two=one, key=KEY, concurrency=32, more="", team="")
        (place / "turnout.yaml").write_text(text.replace("one: {kind: openai-compatible", f"one: {{kind: {kind}"))
        with serving(place, "--config", "turnout.yaml") as (url, _):
            gateway = GatewayClient(url, KEY)
            pid = next(int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit() and str(place) == _cwd(path))
            if name == "jobs":
                _accepted(place, gateway, pid, rows, size)
            else:
                _asked(place, gateway, pid, asked)


def _cwd(process: Path) -> str:
    try:
        return str((process / "cwd").readlink())
    except OSError:
        return ""


if __name__ == "__main__":
    main()
