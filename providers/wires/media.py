"""What of an answer is no text, so that its length tells nothing of its tokens. Pure."""

import re
from typing import Any

from contract import events as ev

_MEMBERS = ("audio", "images", "image", "inlineData", "inline_data")  # of a message or a part, that hold a medium
_KINDS = frozenset({"image_generation_call", "image_url", "output_image", "output_audio"})
_NATIVE = _KINDS | {"inline_data", "image", "audio"}
ARGUMENTS = frozenset({"args", "input"})  # of a tool's call: whatever is in them is text
_NOTHING: tuple[Any, ...] = (None, [], "", False)
_OPEN_PICTURE = re.compile(rb'"result"\s*:\s*"[^"]{4096,}\Z')  # of a picture that was drawn, before its item's type


def has_media(answer: Any) -> bool:
    """Whether a picture or a sound stands in an answer's JSON, in its output."""
    if isinstance(answer, list):
        return any(map(has_media, answer))
    if not isinstance(answer, dict):
        return False
    if str(answer.get("type")) in _KINDS or any(answer.get(name) not in _NOTHING for name in _MEMBERS):
        return True
    return any(has_media(value) for name, value in answer.items() if name not in ARGUMENTS)


def ends_in_a_picture(body: bytes) -> bool:
    """Whether an answer's JSON was cut in a picture's bytes."""
    return _OPEN_PICTURE.search(body) is not None


def is_medium(event: ev.Event) -> bool:
    return isinstance(event, ev.AudioDelta) or (isinstance(event, ev.NativeOutput) and event.kind in _NATIVE)
