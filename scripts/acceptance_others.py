"""Recorded exchanges that the check of the acceptance folder does not read: endpoints besides chat, and errors asked for in another dialect."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from typing import Any

from acceptance_results import Gap, Result
from acceptance_servers import KEY

# Operation -> where a client asks for it, and which kind of provider plays it.
PASSED = {
    "embeddings": ("/v1/embeddings", "openai"),
    "openai.responses.compact": ("/v1/responses/compact", "openai"),
    "openai.responses.input_tokens": ("/v1/responses/input_tokens", "openai"),
    "anthropic.count_tokens": ("/v1/messages/count_tokens", "anthropic"),
}
ASK_S = 30


def ask(url: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
    """Status and JSON of an answer; of a stream, its text."""
    headers = {"content-type": "application/json", "authorization": f"Bearer {KEY}", "anthropic-version": "2023-06-01"}
    request = urllib.request.Request(url, json.dumps(body).encode() if body is not None else None, headers)
    try:
        with urllib.request.urlopen(request, timeout=ASK_S) as answer:
            status, raw = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        status, raw = error.code, error.read()
    try:
        return status, json.loads(raw)
    except ValueError:
        return status, raw.decode(errors="replace")


def endpoints(rows: Iterable[dict[str, Any]], base: str, provider: str, gaps: list[Gap]) -> Result:
    """Each goes to a provider that has it: the request must arrive as it was, and the answer come back as it was, but for the model's name."""
    result, started = Result("cassettes/other endpoints"), time.monotonic()
    for row in rows:
        if row["op"] in PASSED:
            path, kind = PASSED[row["op"]]
            asked, wanted = row["request"]["body"], row["response"]
            status, got = ask(base + path, {**asked, "model": f"{kind}/cassette-{row['id']}"})
            _, seen = ask(f"{provider}/__seen/{row['id']}")
            _tell(result, row, fault_of(asked, wanted, status, got, seen), gaps)
    result.seconds = time.monotonic() - started
    return result


def fault_of(asked: dict[str, Any], wanted: dict[str, Any], status: int, got: Any, seen: list[Any]) -> str:
    if not seen or bare(seen[-1]["body"]) != bare(asked):
        return f"request {seen[-1]['body'] if seen else 'did not arrive'}"
    if wanted["status"] != 200:
        return "" if status >= 400 else f"recorded error {wanted['status']} became {status}"
    return "" if status == 200 and bare(got) == bare(wanted["body"]) else f"answer {status} {got}"


def bare(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name != "model" and value is not None}


def errors(rows: Iterable[dict[str, Any]], kinds: dict[str, str], base: str, gaps: list[Gap]) -> Result:
    """Asked for as a chat completion, an error of any provider is an error, and says nothing in the provider's words. `kinds`: operation -> kind."""
    result, started = Result("cassettes/errors as chat"), time.monotonic()
    for row in rows:
        if row["op"] in kinds and row["response"]["status"] != 200:
            body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 64, "stream": row["stream"]}
            status, got = ask(f"{base}/v1/chat/completions", {**body, "model": f"{kinds[row['op']]}/cassette-{row['id']}"})
            fault = "" if status >= 400 and "error" in got else f"recorded error became {status} {got}"
            told = next((text for text in texts(row["response"].get("body")) if " " in text and text in json.dumps(got)), "")
            _tell(result, row, fault or (f"the provider's words {told!r}" if told else ""), gaps)
    result.seconds = time.monotonic() - started
    return result


def texts(value: Any) -> list[str]:
    """Every text within a JSON value."""
    if isinstance(value, dict | list):
        return [text for each in (value.values() if isinstance(value, dict) else value) for text in texts(each)]
    return [value] if isinstance(value, str) else []


def _tell(result: Result, row: dict[str, Any], fault: str, gaps: list[Gap]) -> None:
    if fault:
        result.add(f"{row['op']} {row['id']}", fault, gaps)
    else:
        result.passed += 1
