"""Anthropic's stream as a state machine: what a client may see after what. An answer that leaves it is no answer.

Source: https://platform.claude.com/docs/en/build-with-claude/streaming.
"""

import json
from typing import Any

DELTAS = {
    "text": {"text_delta", "citations_delta"},
    "thinking": {"thinking_delta", "signature_delta"},
    "tool_use": {"input_json_delta"},
    "server_tool_use": {"input_json_delta"},
    "mcp_tool_use": {"input_json_delta"},
    "compaction": {"compaction_delta"},
}
COUNTS = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens")
Json = dict[str, Any]


class Machine:
    """Fed an answer's events, in order; `message` is what they make up. Raises AssertionError at the first that may not come."""

    def __init__(self) -> None:
        self.message: Json = {}
        self.ended = False
        self.failed: Json | None = None
        self._open: Json | None = None
        self._json = ""
        self._signed = False

    def feed(self, name: str, event: Json) -> None:
        assert name == event["type"], "an event's name is its type"
        assert not self.ended and self.failed is None, "nothing follows the end"
        if name == "ping":
            return
        if name == "error":
            assert set(event["error"]) >= {"type", "message"}
            self.failed = event["error"]
            return
        assert bool(self.message) != (name == "message_start"), "a message starts once, and first"
        getattr(self, f"_{name}")(event)

    def _message_start(self, event: Json) -> None:
        message = event["message"]
        assert (message["type"], message["role"], message["content"]) == ("message", "assistant", [])
        assert message["stop_reason"] is None and message["stop_sequence"] is None
        assert message["id"] and message["model"]
        assert isinstance(message["usage"]["input_tokens"], int) and isinstance(message["usage"]["output_tokens"], int)
        self.message = message

    def _content_block_start(self, event: Json) -> None:
        assert self._open is None, "a block starts when the last one is closed"
        assert self.message["stop_reason"] is None, "no block after the reason to stop"
        assert event["index"] == len(self.message["content"]), "indexes ascend from 0 without a gap"
        block = event["content_block"]
        match block["type"]:
            case "text":
                assert block["text"] == ""
            case "thinking":
                assert (block["thinking"], block["signature"]) == ("", "")
            case "tool_use":
                assert isinstance(block["input"], dict) and block["id"] and "name" in block
            case "redacted_thinking":
                assert block["data"] is not None
        self._open, self._json, self._signed = block, "", False
        self.message["content"].append(block)

    def _content_block_delta(self, event: Json) -> None:
        block, delta = self._open, event["delta"]
        assert block is not None, "a delta belongs to the open block"
        assert event["index"] == len(self.message["content"]) - 1
        assert delta["type"] in DELTAS.get(block["type"], ()), "a delta is of its block's type"
        assert not self._signed, "a signature is the last of its block"
        match delta["type"]:
            case "text_delta":
                block["text"] += delta["text"]
            case "citations_delta":
                block.setdefault("citations", []).append(delta["citation"])
            case "thinking_delta":
                block["thinking"] += delta["thinking"]
            case "signature_delta":
                block["signature"] = delta["signature"]
                self._signed = True
            case "input_json_delta":
                self._json += delta["partial_json"]

    def _content_block_stop(self, event: Json) -> None:
        assert self._open is not None, "a block is closed once"
        assert event["index"] == len(self.message["content"]) - 1
        if self._open["type"] == "thinking":
            assert self._signed, "thinking is signed"
        if self._json:
            self._open["input"] = json.loads(self._json)
        self._open = None

    def _message_delta(self, event: Json) -> None:
        assert self._open is None, "the message ends when its blocks have"
        assert self.message["stop_reason"] is None, "the reason to stop comes once"
        assert event["delta"]["stop_reason"], "the end says why"
        before = self.message["usage"]
        for name in COUNTS:
            assert event["usage"].get(name) is None or event["usage"][name] >= (before.get(name) or 0), "usage is cumulative"
        told = {name: value for name, value in event["usage"].items() if value is not None}
        self.message |= event["delta"] | {"usage": {**before, **told}}
        if "native_output" in event:
            assert event["native_output"], "there where there is something in it"
            self.message["native_output"] = event["native_output"]

    def _message_stop(self, event: Json) -> None:
        assert self.message["stop_reason"] is not None, "a message that stops says why first"
        self.ended = True


def run(stream: bytes) -> Machine:
    """A whole stream's bytes through the machine."""
    machine = Machine()
    assert stream == b"" or stream.endswith(b"\n\n")
    for told in stream.decode().split("\n\n")[:-1]:
        lines = told.split("\n")
        assert len(lines) == 2 and lines[0].startswith("event: ") and lines[1].startswith("data: "), told
        machine.feed(lines[0].removeprefix("event: "), json.loads(lines[1].removeprefix("data: ")))
    return machine
