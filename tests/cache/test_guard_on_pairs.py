"""The guard on the labelled pairs that bench/semantic_cache.py measures with, and that script on a real server."""

import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from cache.guard import difference

ROOT = Path(__file__).parents[2]
PAIRS: list[dict[str, Any]] = [json.loads(line) for line in (ROOT / "bench" / "semantic" / "pairs.jsonl").read_text().splitlines()]
SEEN = ("negation", "number", "entity", "time", "question", "opposite", "direction")  # what an embedding hardly sees, and the guard is for


def test_there_are_enough_pairs_of_every_kind() -> None:
    kinds = Counter(pair["kind"] for pair in PAIRS)
    assert len(PAIRS) >= 120 and len({(pair["one"], pair["other"]) for pair in PAIRS}) == len(PAIRS)
    assert kinds["paraphrase"] >= 50 and all(kinds[kind] >= 5 for kind in (*SEEN, "language", "topic"))
    assert all(pair["same"] == (pair["kind"] == "paraphrase") for pair in PAIRS)


@pytest.mark.parametrize("kind", SEEN)
def test_what_the_guard_is_for_it_sees(kind: str) -> None:
    through = [pair for pair in PAIRS if pair["kind"] == kind and difference(pair["one"], pair["other"]) is None]
    assert len(through) <= (1 if kind == "opposite" else 0), through


def test_four_of_five_that_mean_the_same_are_let_through() -> None:
    same = [pair for pair in PAIRS if pair["same"]]
    assert sum(difference(pair["one"], pair["other"]) is None for pair in same) >= 0.8 * len(same)


def test_it_is_the_same_from_either_side() -> None:
    assert all((difference(pair["one"], pair["other"]) is None) == (difference(pair["other"], pair["one"]) is None) for pair in PAIRS)


class Letters(BaseHTTPRequestHandler):
    """An embeddings target that counts letters."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        data = [{"index": at, "embedding": [1.0, *(float(text.count(chr(97 + n))) for n in range(26))]} for at, text in enumerate(asked["input"])]
        body = json.dumps({"object": "list", "data": data}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def letters() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Letters)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_benchmark_prints_a_row_for_each_threshold(letters: str) -> None:
    command = [sys.executable, "bench/semantic_cache.py", "--base-url", letters, "--model", "letters", "--wrong"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert f"{len(PAIRS)} pairs" in done.stdout and sum(line.count("|") == 2 and line.strip()[:2] == "0." for line in done.stdout.splitlines()) == 9
