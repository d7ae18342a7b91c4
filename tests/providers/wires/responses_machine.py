"""What a legal Responses stream is, as a state machine over its events: order, indexes, ids, sums, and the terminal event's own account.

Sources: platform.openai.com/docs/api-reference/responses-streaming, the `openai` SDK's types, and recorded streams, all of which it takes.
"""

import json
from typing import Any

from tests.providers.sse_oracle import events_of

BEGINNINGS = ("response.created", "response.queued", "response.in_progress")
ENDS = ("response.completed", "response.incomplete", "response.failed")
TEXT_OF = {"output_text": "text", "refusal": "refusal", "reasoning_text": "text", "summary_text": "text"}
EMPTY_OF = {"message": ("content", []), "function_call": ("arguments", ""), "custom_tool_call": ("input", ""), "reasoning": ("summary", [])}
CALLS = {"function_call_arguments": ("function_call", "arguments"), "custom_tool_call_input": ("custom_tool_call", "input")}


class Piece:
    """A content part or a summary part: open, its text told (`spoken`), then closed."""

    def __init__(self, part: dict[str, Any]) -> None:
        self.kind: str = part["type"]
        assert not part[TEXT_OF[self.kind]], "a part begins empty"
        self.text = ""
        self.annotations: list[Any] = []
        self.spoken = False
        self.closed = False


class Item:
    """An output item between `added` and `done`."""

    def __init__(self, item: dict[str, Any]) -> None:
        self.kind: str = item["type"]
        self.first = item
        self.pieces: dict[str, list[Piece]] = {"content": [], "summary": []}
        self.arguments = ""
        self.arguments_told = False
        self.last: dict[str, Any] | None = None

    def open_piece(self, of: str, index: int, kind: str) -> Piece:
        assert index == len(self.pieces[of]) - 1, "only the newest part of an item is open"
        piece = self.pieces[of][index]
        assert piece.kind == kind and not piece.closed
        return piece


class Machine:
    """Takes the events of one stream in order; raises AssertionError at the first that is not legal.

    `encrypts_anew`: OpenAI's encrypted reasoning differs between an item's end and the terminal event.
    """

    def __init__(self, encrypts_anew: bool = False) -> None:
        self._aside = {"encrypted_content"} if encrypts_anew else set()
        self.sequence = 0
        self.id = ""
        self.begun: list[str] = []
        self.items: list[Item] = []
        self.ended: str | None = None
        self.final: dict[str, Any] = {}

    def take(self, name: str, event: dict[str, Any]) -> None:
        kind = event["type"]
        assert name == kind, "the event's name and type agree"
        assert self.ended is None, "nothing follows the terminal event"
        assert event["sequence_number"] == self.sequence, "each is the next in number"
        self.sequence += 1
        assert kind in BEGINNINGS or "response.in_progress" in self.begun, "it begins before anything else"
        if kind in BEGINNINGS:
            self._begin(kind, event["response"])
        elif kind in ENDS:
            self._end(kind, event["response"])
        elif kind == "response.output_item.added":
            self._added(event)
        else:
            self._of_item(kind, event)

    def _of_item(self, kind: str, event: dict[str, Any]) -> None:
        item = self.items[event["output_index"]]
        assert item.last is None, "an item that is done changes no more"
        if kind == "response.output_item.done":
            self._done(item, event["item"])
        else:
            assert event["item_id"] == item.first["id"], "the item's id and index agree"
            self._within(kind.removeprefix("response."), item, event)

    # --- the response --------------------------------------------------------------------------------------------------
    def _begin(self, kind: str, response: dict[str, Any]) -> None:
        assert kind not in self.begun and not self.items, "told once, before any item"
        assert (kind == "response.created") == (not self.begun), "`created` is the first"
        assert response["object"] == "response" and response["id"] and response["status"] in ("queued", "in_progress")
        assert self.id in ("", response["id"])
        assert response["output"] == [] and response["error"] is None and response["usage"] is None
        self.id = response["id"]
        self.begun.append(kind)

    def _end(self, kind: str, response: dict[str, Any]) -> None:
        assert response["id"] == self.id
        assert kind == "response." + response["status"]
        assert (response["error"] is not None) == (kind == "response.failed")
        assert (response["incomplete_details"] is not None) == (kind == "response.incomplete")
        if kind != "response.failed":
            assert all(item.last is not None for item in self.items), "every item was done"
            assert [self._compared(item) for item in response["output"]] == [self._compared(item.last or {}) for item in self.items]
        self.ended, self.final = kind, response

    def _compared(self, item: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in item.items() if name not in self._aside}

    # --- items ---------------------------------------------------------------------------------------------------------
    def _added(self, event: dict[str, Any]) -> None:
        first = event["item"]
        assert event["output_index"] == len(self.items), "indexes ascend by one"
        assert first["id"] and first["id"] not in [item.first["id"] for item in self.items]
        assert first.get("status") in (None, "in_progress") or first["type"] not in EMPTY_OF
        if first["type"] in EMPTY_OF:
            name, empty = EMPTY_OF[first["type"]]
            assert first[name] == empty
        self.items.append(Item(first))

    def _done(self, item: Item, last: dict[str, Any]) -> None:
        assert last["type"] == item.kind and last["id"] == item.first["id"]
        assert last.get("status") != "in_progress"
        assert all(piece.closed for pieces in item.pieces.values() for piece in pieces), "no part is left open"
        if item.kind == "message":
            assert [part["type"] for part in last["content"]] == [piece.kind for piece in item.pieces["content"]]
            for part, piece in zip(last["content"], item.pieces["content"], strict=True):
                self._same(part, piece)
        elif item.kind == "reasoning":
            assert [part["text"] for part in last["summary"]] == [piece.text for piece in item.pieces["summary"]]
            assert [part["text"] for part in last.get("content") or ()] == [piece.text for piece in item.pieces["content"]]
        elif item.kind in ("function_call", "custom_tool_call"):
            assert item.arguments_told, "a call's arguments are told before it is done"
            assert last["arguments" if item.kind == "function_call" else "input"] == item.arguments
            assert last["call_id"] == item.first["call_id"] and last["name"] == item.first["name"]
        item.last = last

    # --- within an item ------------------------------------------------------------------------------------------------
    def _within(self, kind: str, item: Item, event: dict[str, Any]) -> None:
        what, _, step = kind.rpartition(".")
        match what:
            case "content_part" | "reasoning_summary_part":
                self._part(what, step, item, event)
            case "output_text" | "refusal" | "reasoning_text" | "reasoning_summary_text":
                self._text(what, step, item, event)
            case "output_text.annotation":
                piece = item.open_piece("content", event["content_index"], "output_text")
                assert not piece.spoken and event["annotation_index"] == len(piece.annotations)
                piece.annotations.append(event["annotation"])
            case "function_call_arguments" | "custom_tool_call_input":
                self._arguments(what, step, item, event)
            case _:
                assert what == item.kind, "a server tool's own events are of its own item"

    def _part(self, what: str, step: str, item: Item, event: dict[str, Any]) -> None:
        of = "content" if what == "content_part" else "summary"
        index = event["content_index" if of == "content" else "summary_index"]
        if step == "added":
            assert index == len(item.pieces[of]) and all(piece.closed for piece in item.pieces[of])
            assert item.kind == ("reasoning" if event["part"]["type"] in ("summary_text", "reasoning_text") else "message")
            item.pieces[of].append(Piece(event["part"]))
            return
        assert step == "done"
        piece = item.open_piece(of, index, event["part"]["type"])
        assert piece.spoken, "a part's text is told before it is closed"
        self._same(event["part"], piece)
        piece.closed = True

    def _text(self, what: str, step: str, item: Item, event: dict[str, Any]) -> None:
        of, at = ("summary", "summary_index") if what == "reasoning_summary_text" else ("content", "content_index")
        piece = item.open_piece(of, event[at], "summary_text" if of == "summary" else what)
        assert not piece.spoken, "nothing is added to a text that was told"
        if step == "delta":
            piece.text += event["delta"]
            return
        assert step == "done" and event["refusal" if what == "refusal" else "text"] == piece.text, "the text is the sum of its pieces"
        piece.spoken = True

    def _arguments(self, what: str, step: str, item: Item, event: dict[str, Any]) -> None:
        kind, member = CALLS[what]
        assert item.kind == kind and not item.arguments_told
        if step == "delta":
            item.arguments += event["delta"]
            return
        assert step == "done" and event[member] == item.arguments, "the arguments are the sum of their pieces"
        item.arguments_told = True

    @staticmethod
    def _same(part: dict[str, Any], piece: Piece) -> None:
        assert part["type"] == piece.kind and part[TEXT_OF[piece.kind]] == piece.text
        assert (part.get("annotations") or []) == piece.annotations


def told(stream: bytes) -> list[tuple[str, dict[str, Any]]]:
    """A stream's events as name and JSON."""
    return [(name, json.loads(data)) for name, data in events_of(stream)]


def run(stream: bytes, encrypts_anew: bool = False) -> Machine:
    """The machine after the whole stream. Raises AssertionError."""
    machine = Machine(encrypts_anew)
    for name, event in told(stream):
        machine.take(name, event)
    return machine
