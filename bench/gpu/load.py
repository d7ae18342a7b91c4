"""Streams of chat to one server, and how fast their tokens come. Standard library alone, so that it runs beside a gateway and beside an engine.

    python bench/gpu/load.py --to 127.0.0.1:8080 --key KEY --model m --streams 64 --requests 256
    python bench/gpu/load.py --to unix:/run/engine.sock …

Every prompt is its own (no prefix is shared), every answer has its whole length (`ignore_eos`). One line of JSON: output tokens a second, and
quantiles of the time to the first token and of the time between two pieces of an answer, in milliseconds.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

WORDS = [f"{a}{b}" for a in ("ba", "de", "ki", "lo", "mu", "na", "po", "ri", "su", "ta") for b in ("la", "ne", "ro", "ti", "vu", "ka", "mi", "so")]
TOKENS_A_WORD = 2.2  # of SmolLM2's tokenizer, about; the server tells what it was


class Stream:
    """What came of one request. Times are seconds of one clock; `status` 0: no answer at all."""

    def __init__(self) -> None:
        self.sent = self.first = self.last = 0.0
        self.status = 0
        self.gaps: list[float] = []
        self.tokens = self.prompt_tokens = 0
        self.whole = False
        self.code = ""


async def ask(options: argparse.Namespace, seed: int, words: int) -> Stream:
    stream = Stream()
    rng = random.Random(seed)
    body: dict[str, Any] = {
        "model": options.model,
        "messages": [{"role": "user", "content": " ".join(rng.choices(WORDS, k=words))}],
        "max_tokens": options.out,
        "stream": True,
        "stream_options": {"include_usage": True},
        "ignore_eos": True,
        "temperature": 0.7,
        "seed": seed,
    }
    data = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nauthorization: Bearer {options.key}\r\n"
    stream.sent = time.monotonic()
    try:
        if options.to.startswith("unix:"):
            reader, writer = await asyncio.open_unix_connection(options.to[5:])
        else:
            host, _, port = options.to.rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
    except OSError:
        return stream
    try:
        writer.write(f"{head}content-length: {len(data)}\r\nconnection: close\r\n\r\n".encode() + data)
        await _read(reader, stream)
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()
    return stream


async def _read(reader: asyncio.StreamReader, stream: Stream) -> None:
    answer_head = await reader.readuntil(b"\r\n\r\n")
    stream.status = int(answer_head.split(b" ", 2)[1])
    rest = b""
    while data := await reader.read(1 << 16):
        now = time.monotonic()
        rest += data
        if stream.status != 200:
            continue
        *lines, rest = rest.split(b"\n")
        for line in lines:
            if not line.startswith(b"data: {"):
                stream.whole |= line.startswith(b"data: [DONE]")
                continue
            if b'"usage":{' in line or b'"usage": {' in line:
                usage = json.loads(line[6:])["usage"]
                stream.tokens, stream.prompt_tokens = usage["completion_tokens"], usage["prompt_tokens"]
            elif b'"content":"' in line and b'"content":""' not in line:
                if not stream.first:
                    stream.first = now
                else:
                    stream.gaps.append(now - stream.last)
                stream.last = now
    if stream.status != 200 and b'"code"' in rest:
        stream.code = rest.partition(b'"code":')[2].split(b",")[0].strip(b' "}').decode(errors="replace")[:60]


async def closed_loop(options: argparse.Namespace, words: int) -> list[Stream]:
    """So many streams at once, each followed by the next."""
    seeds = iter(range(options.seed, options.seed + options.requests))
    until = time.monotonic() + (options.seconds or float("inf"))
    done: list[Stream] = []

    async def one(rng: random.Random) -> None:
        for seed in seeds:
            if time.monotonic() > until:
                return
            await asyncio.sleep(rng.uniform(0, options.pause))  # streams that end in one step of the engine do not begin again in one
            done.append(await ask(options, seed, words))

    await asyncio.gather(*(one(random.Random(options.seed + number)) for number in range(options.streams)))
    return done


async def open_loop(options: argparse.Namespace, words: int) -> list[Stream]:
    """So many requests a second, whatever becomes of them."""
    rng, tasks, due = random.Random(options.seed), [], time.monotonic()
    for seed in range(options.seed, options.seed + options.requests):
        tasks.append(asyncio.create_task(ask(options, seed, words)))
        due += rng.expovariate(options.rate)
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    return list(await asyncio.gather(*tasks))


def quantile(values: list[float], share: float) -> float | None:
    return round(sorted(values)[min(len(values) - 1, int(share * len(values)))] * 1e3, 2) if values else None


def told(streams: list[Stream], took_s: float) -> dict[str, Any]:
    whole = [each for each in streams if each.whole]
    first = [each.first - each.sent for each in whole if each.first]
    gaps = [gap for each in whole for gap in each.gaps]
    refused = [each for each in streams if each.status != 200]
    return {
        "requests": len(streams),
        "whole": len(whole),
        "refused": len(refused),
        "cut": len(streams) - len(whole) - len(refused),
        "refusals": {code: sum(each.code == code for each in refused) for code in {each.code for each in refused}},
        "refused_ms_p95": quantile([each.last - each.sent for each in refused if each.last], 0.95),
        "prompt_tokens": round(sum(each.prompt_tokens for each in whole) / max(1, len(whole))),
        "output_tokens": sum(each.tokens for each in whole),
        "seconds": round(took_s, 2),
        "output_tokens_per_s": round(sum(each.tokens for each in whole) / took_s, 1),
        "ttft_ms_mean": round(1000 * sum(first) / len(first), 2) if first else None,
        "ttft_ms_p50": quantile(first, 0.5),
        "ttft_ms_p90": quantile(first, 0.9),
        "ttft_ms_p95": quantile(first, 0.95),
        "ttft_ms_p99": quantile(first, 0.99),
        "itl_ms_p50": quantile(gaps, 0.5),
        "itl_ms_p99": quantile(gaps, 0.99),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", required=True)
    parser.add_argument("--key", default="")
    parser.add_argument("--key-file", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--rate", type=float, help="requests a second; else so many streams at once")
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--seconds", type=float, help="after which no stream begins another request; `--requests` is then the most that it asks")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds at most, drawn anew before each request of a stream")
    parser.add_argument("--prompt", type=int, default=512, help="tokens, about")
    parser.add_argument("--out", type=int, default=128)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--label", default="")
    options = parser.parse_args()
    if options.key_file is not None:
        options.key = options.key_file.read_text().strip()
    words = max(1, int(options.prompt / TOKENS_A_WORD))
    run: Callable[[argparse.Namespace, int], Awaitable[list[Stream]]] = open_loop if options.rate else closed_loop
    began = time.monotonic()
    streams = asyncio.run(run(options, words))  # type: ignore[arg-type]
    sys.stdout.write(json.dumps({"label": options.label, "streams": options.streams, **told(streams, time.monotonic() - began)}) + "\n")


if __name__ == "__main__":
    main()
