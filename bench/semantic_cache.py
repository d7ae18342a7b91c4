"""The semantic cache on labelled pairs of questions: precision and recall by threshold, of the cosine alone and with the guard.

    python bench/semantic_cache.py --base-url http://127.0.0.1:8080/v1 --model NAME [--key KEY] [--pairs FILE] [--wrong]

Any target with OpenAI's `/embeddings` will do, this gateway with an embeddings entry too. `bench/semantic/pairs.jsonl`: pairs that mean the same
(`same`: an answer to the one answers the other), and pairs that only look like it, by what tells them apart.
"""

import argparse
import json
import sys
import urllib.request
from collections import Counter
from math import sqrt
from operator import mul
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cache.guard import difference  # noqa: E402

PAIRS = ROOT / "bench" / "semantic" / "pairs.jsonl"
THRESHOLDS = (0.70, 0.75, 0.80, 0.85, 0.90, 0.92, 0.95, 0.97, 0.99)
AT_ONCE = 32


def pairs(path: Path = PAIRS) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def embedded(base_url: str, model: str, key: str, texts: list[str]) -> dict[str, list[float]]:
    """Text -> its unit vector."""
    found: dict[str, list[float]] = {}
    for start in range(0, len(texts), AT_ONCE):
        part = texts[start : start + AT_ONCE]
        request = urllib.request.Request(
            f"{base_url.rstrip('/')}/embeddings",
            json.dumps({"model": model, "input": part}).encode(),
            {"content-type": "application/json", "authorization": f"Bearer {key}"},
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            data = json.load(answer)["data"]
        for text, each in zip(part, sorted(data, key=lambda each: each["index"]), strict=True):
            vector = each["embedding"]
            length = sqrt(sum(map(mul, vector, vector)))
            found[text] = [value / length for value in vector]
    return found


def figures(told: list[tuple[bool, bool]]) -> str:
    """Of (said to be the same, is the same): precision, recall, and how many of those that are not were let through."""
    right, said, same = sum(a and b for a, b in told), sum(a for a, _ in told), sum(b for _, b in told)
    precision = f"{right / said:9.3f}" if said else "        –"
    return f"{precision}  {right / same:6.3f}  {said - right:5d}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--key", default="none")
    parser.add_argument("--pairs", type=Path, default=PAIRS)
    parser.add_argument(
        "--wrong", action="store_true", help="print what is wrongly let through at the lowest threshold, and what the guard wrongly refuses"
    )
    chosen = parser.parse_args()
    labelled = pairs(chosen.pairs)
    vectors = embedded(chosen.base_url, chosen.model, chosen.key, sorted({text for pair in labelled for text in (pair["one"], pair["other"])}))
    likeness = [sum(map(mul, vectors[pair["one"]], vectors[pair["other"]])) for pair in labelled]
    told_apart = [difference(pair["one"], pair["other"]) for pair in labelled]
    kinds = Counter(pair["kind"] for pair in labelled)
    print(f"{len(labelled)} pairs: " + ", ".join(f"{count} {kind}" for kind, count in kinds.items()))
    print("threshold |  cosine alone: precision  recall  wrong |  with the guard: precision  recall  wrong")
    for threshold in THRESHOLDS:
        alone = [(value >= threshold, pair["same"]) for value, pair in zip(likeness, labelled, strict=True)]
        guarded = [(said and apart is None, same) for (said, same), apart in zip(alone, told_apart, strict=True)]
        print(f"{threshold:9.2f} | {figures(alone):>39} | {figures(guarded):>42}")
    if chosen.wrong:
        for value, apart, pair in sorted(zip(likeness, told_apart, labelled, strict=True), key=lambda each: -each[0]):
            if (apart is None) != pair["same"]:
                print(f"{value:.3f} {apart or 'let through':14} {pair['kind']:10} {pair['one']} | {pair['other']}")


if __name__ == "__main__":
    main()
