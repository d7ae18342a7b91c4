"""kill -9 of the engine under a load, again and again: what its streams were told, how soon, and how long until it serves again.

    python bench/gpu/loss.py OUT [--times 3] [--streams 32]

Needs what bench/gpu/setup.sh started; streams beyond its SLOTS are in the queue when the engine is lost. A line of JSON for each time.
"""

import argparse
import asyncio
import json
import os
import re
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

HOST, PORT, KEY = "127.0.0.1", 8080, "sk-live-bench-gpu"


def core() -> int:
    """The process that computes: of the children of vLLM's server the one with the most memory."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            told = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
            parent = Path(f"/proc/{told['PPid'].strip()}/cmdline").read_bytes()
        except (OSError, KeyError):
            continue
        if b"vllm_serve.py" in parent:
            found.append((int(told.get("VmRSS", "0 kB").split()[0]), int(status.parent.name)))
    return max(found)[1]


async def ask(tokens: int, stream: bool) -> tuple[int, float, bytes]:
    """The status, when the last byte came, and the last of the bytes."""
    body = json.dumps(
        {
            "model": "llm",
            "messages": [{"role": "user", "content": f"Go on {time.time()}"}],
            "max_tokens": tokens,
            "stream": stream,
            "ignore_eos": True,
        }
    )
    reader, writer = await asyncio.open_connection(HOST, PORT)
    writer.write(
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n{body}".encode()
    )
    whole = b""
    at = 0.0
    while data := await reader.read(1 << 16):
        whole, at = (whole + data)[-4000:] if whole else data, time.monotonic()
        if not at:
            break
    writer.close()
    return int(whole.split(b" ", 2)[1]) if whole.startswith(b"HTTP") else 200, at, whole[-400:]


def end(status: int, tail: bytes) -> str:
    """`whole`, or the code of the error that it was told."""
    code = re.search(rb'"code": ?"(\w+)"', tail)
    return code[1].decode() if code else "whole" if status == 200 and b"data: [DONE]" in tail else f"{status}, cut"


async def once(streams: int) -> dict[str, Any]:
    running = [asyncio.create_task(ask(2000, True)) for _ in range(streams)]
    await asyncio.sleep(3)
    killed = time.monotonic()
    os.kill(core(), signal.SIGKILL)
    late: list[int] = []
    while True:
        status, _, _ = await ask(4, False)
        late.append(status)
        if status == 200:
            break
        await asyncio.sleep(1)
    again = time.monotonic()
    ends = await asyncio.gather(*running)
    told = [(at - killed, how) for status, at, tail in ends if (how := end(status, tail)) != "whole"]
    took = sorted(after for after, _ in told)
    return {
        "streams": streams,
        "ends": dict(Counter(end(status, tail) for status, _, tail in ends)),
        "told_after_s": {"p50": round(took[len(took) // 2], 3), "max": round(took[-1], 3)},
        "serves_again_after_s": round(again - killed, 1),
        "meanwhile": {str(status): late.count(status) for status in set(late)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--streams", type=int, default=32)
    options = parser.parse_args()
    with options.out.open("a") as out:
        for _ in range(options.times):
            line = json.dumps(asyncio.run(once(options.streams)))
            print(line, flush=True)
            out.write(line + "\n")
            out.flush()


if __name__ == "__main__":
    main()
