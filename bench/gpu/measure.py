"""The gateway with vLLM as its engine against that engine's own HTTP server, asked directly: the same load, one after the other, several times.

    python bench/gpu/measure.py OUT [--streams 1 8 64 256] [--passes 2] [--pause 0.5] [--rounds 3]

Needs what bench/gpu/setup.sh started. Prints a line of JSON a run, and at the end the table that docs/gpu.md has.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).parent
GATEWAY = ("127.0.0.1:8080", "sk-live-bench-gpu")


def engine() -> tuple[str, str]:
    """The socket and the key of the engine's own server, as its process has them."""
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            variables = dict(pair.partition("=")[::2] for pair in environ.read_bytes().decode(errors="replace").split("\0") if "=" in pair)
            command = (environ.parent / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if "VLLM_API_KEY" in variables and "--uds" in command:
            return f"unix:{command[command.index('--uds') + 1]}", variables["VLLM_API_KEY"]
    raise SystemExit("no engine runs here")


def load(to: str, key: str, *more: str) -> dict[str, Any]:
    command = [sys.executable, str(HERE / "load.py"), "--to", to, "--key", key, "--model", "llm", *more]
    return dict(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8, 64, 256])
    parser.add_argument("--passes", type=int, default=2)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--rounds", type=int, default=3, help="requests of a stream")
    options = parser.parse_args()
    ways = {"gateway": GATEWAY, "direct": engine()}
    for way in ways.values():
        load(*way, "--streams", "8", "--requests", "16", "--seed", "1")  # warm
    seed, runs = 1_000, []
    with options.out.open("a") as out:
        for streams in options.streams:
            requests = max(6, streams * options.rounds)
            for number in range(options.passes):
                for name in ("direct", "gateway") if number % 2 == 0 else ("gateway", "direct"):
                    more = ("--streams", str(streams), "--requests", str(requests), "--pause", str(options.pause))
                    run = load(*ways[name], *more, "--seed", str(seed), "--label", name)
                    seed += requests
                    runs.append(run)
                    line = json.dumps(run)
                    print(line, flush=True)
                    out.write(line + "\n")
                    out.flush()
    print(table(runs))


def table(runs: list[dict[str, Any]]) -> str:
    """Medians of the passes, and the gateway's as a share of the engine's own."""
    lines = [
        "| streams | tokens/s direct | gateway | ratio | TTFT p50 direct | gateway | more | ITL p99 direct | gateway | ratio |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for streams in sorted({run["streams"] for run in runs}):

        def of(label: str, figure: str, streams: int = streams) -> float:
            return median(run[figure] for run in runs if run["label"] == label and run["streams"] == streams)

        rate, first, gap = ([of(label, figure) for label in ("direct", "gateway")] for figure in ("output_tokens_per_s", "ttft_ms_p50", "itl_ms_p99"))
        lines.append(
            f"| {streams} | {rate[0]:,.0f} | {rate[1]:,.0f} | {rate[1] / rate[0]:.3f} | {first[0]:,.1f} ms | {first[1]:,.1f} ms "
            f"| {first[1] - first[0]:+.1f} ms | {gap[0]:.1f} ms | {gap[1]:.1f} ms | {gap[1] / gap[0]:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
