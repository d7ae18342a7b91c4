"""A multipart form's `model` field: found to route by, and renamed for the provider. All other bytes stay as they are (RFC 7578)."""

import re

from contract.errors import InvalidRequest

_BOUNDARY = re.compile(rb'boundary=(?:"([^"\r\n]{1,200})"|([^\s;"]{1,200}))', re.IGNORECASE)
_DISPOSITION = re.compile(rb"(?:^|\r\n)content-disposition[ \t]*:([^\r\n]*)", re.IGNORECASE)
_PARAMETER = re.compile(rb';\s*([\w*-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]*))')
MAX_PARTS = 200


def form_fields(body: bytes, content_type: bytes, *names: str) -> dict[str, tuple[int, int]]:
    """Where the values of those fields stand in the body. Raises InvalidRequest for a form that is none, or a field that stands twice."""
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise InvalidRequest("the content type names no boundary; a multipart form needs one")
    mark = b"--" + (found[1] or found[2])
    places: dict[str, tuple[int, int]] = {}
    at = body.find(mark)
    for _ in range(MAX_PARTS):
        start = at + len(mark)
        if at < 0 or body[start : start + 2] == b"--":
            return places
        end = body.find(b"\r\n" + mark, start)
        head_end = body.find(b"\r\n\r\n", start)
        if end < 0 or head_end < 0 or head_end > end:
            break
        text = _name(body[start:head_end])
        if text in names:
            if text in places:
                raise InvalidRequest(f"the form's field `{text}` stands twice", param=text)
            places[text] = (head_end + 4, end)
        at = end + 2
    raise InvalidRequest("the body is not a multipart form of the boundary that its content type names")


def _name(head: bytes) -> str:
    """A part's name. Raises InvalidRequest where two readers might see two: then one could route by it and the other answer by it."""
    dispositions = _DISPOSITION.findall(head)
    if len(dispositions) > 1 or b"\n " in head or b"\n\t" in head:
        raise InvalidRequest("a part of the form has a head that can be read in two ways")
    parameters = _PARAMETER.findall(dispositions[0]) if dispositions else []
    names = [quoted or plain for name, quoted, plain in parameters if name.lower().rstrip(b"*") == b"name"]
    if len(names) > 1:
        raise InvalidRequest("a part of the form has two names")
    return names[0].decode("latin-1") if names else ""


def renamed_model(body: bytes, content_type: bytes, model: str) -> bytes:
    """The form with another model's name."""
    place = form_fields(body, content_type, "model").get("model")
    return body if place is None else body[: place[0]] + model.encode() + body[place[1] :]
