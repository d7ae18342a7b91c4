"""Content parts of OpenAI chat messages: text, image, audio, file, refusal; both directions."""

from collections.abc import Sequence
from typing import Any, TypeVar

from msgspec import Raw

from contract import requests as r
from contract.errors import InvalidRequest, UnsupportedField
from contract.raw import ABSENT
from providers.wires.fields import Fields, items_of, read, with_extra

P = TypeVar("P", bound=r.Part)


def decode_content(raw: Raw | None, path: str) -> list[r.Part]:
    """A message's content: a text, an array of parts, or nothing. Raises InvalidRequest."""
    if raw is None:
        return []
    if bytes(raw)[:1] == b'"':
        return [r.TextPart(text=read(raw, str, path))]
    if bytes(raw)[:1] != b"[":
        raise InvalidRequest(f"`{path}` must be a string or an array of content parts", param=path)
    return [_decode_part(item, at) for item, at in items_of(raw, path)]


def _decode_part(raw: Raw, path: str) -> r.Part:
    fields = Fields(raw, path)
    kind = fields.need("type", str)
    mark = fields.take("cache_control", Raw) or ABSENT
    match kind:
        case "text":
            return r.TextPart(text=fields.need("text", str), cache_control=mark, extra=fields.rest())
        case "refusal":
            return r.RefusalPart(text=fields.need("refusal", str), cache_control=mark, extra=fields.rest())
        case "image_url":
            image = Fields(fields.need("image_url", Raw), f"{path}.image_url")
            media_type, data, url = data_url(image.need("url", str))
            detail = image.take("detail", str)
            fields.keep("image_url", image)
            return r.ImagePart(url=url, data=data, media_type=media_type, detail=detail, cache_control=mark, extra=fields.rest())
        case "input_audio":
            audio = Fields(fields.need("input_audio", Raw), f"{path}.input_audio")
            data, form = audio.need("data", str), audio.take("format", str)
            fields.keep("input_audio", audio)
            return r.AudioPart(data=data, format=form, cache_control=mark, extra=fields.rest())
        case "file":
            file = Fields(fields.need("file", Raw), f"{path}.file")
            media_type, data, url = data_url(file.take("file_data", str))
            file_id, filename = file.take("file_id", str), file.take("filename", str)
            fields.keep("file", file)
            rest = fields.rest()
            return r.FilePart(file_id=file_id, url=url, data=data, media_type=media_type, filename=filename, cache_control=mark, extra=rest)
    raise UnsupportedField(f"`{path}.type` {kind[:40]!r} is not a content part that this gateway knows", param=f"{path}.type")


def data_url(text: str | None) -> tuple[str | None, str | None, str | None]:
    """Media type, base64 data and URL: of a data URL the first two, of any other text the third."""
    if text is None or not text.startswith("data:"):
        return None, None, text
    head, comma, data = text[5:].partition(",")
    media_type, semicolon, encoding = head.rpartition(";")
    if not comma or not semicolon or encoding != "base64":
        return None, None, text
    return media_type, data, None


def encode_content(parts: Sequence[r.Part]) -> Any:
    """One plain text is a string, as most providers want it; everything else is an array."""
    if len(parts) == 1 and isinstance(part := parts[0], r.TextPart) and not part.cache_control and not part.extra:
        return part.text
    return [_encode_part(part) for part in parts]


def one_text(parts: Sequence[P], between: str) -> Sequence[P | r.TextPart]:
    """Texts alone become one: not every provider of this format takes an array (DeepSeek), and none needs it."""
    texts = [part.text for part in parts if isinstance(part, r.TextPart)]
    return [r.TextPart(text=between.join(texts))] if len(texts) == len(parts) and len(parts) > 1 else parts


def encode_result(part: r.ToolResultPart) -> Any:
    return encode_content(part.content) if part.content else ""


def _encode_part(part: r.Part) -> dict[str, Any]:
    encoded: dict[str, Any]
    match part:
        case r.TextPart():
            encoded = {"type": "text", "text": part.text}
        case r.RefusalPart():
            encoded = {"type": "refusal", "refusal": part.text}
        case r.ImagePart():
            image = {"url": url_of(part), "detail": part.detail}
            encoded = {"type": "image_url", "image_url": {name: value for name, value in image.items() if value is not None}}
        case r.AudioPart():
            audio = {"data": part.data, "format": part.format}
            encoded = {"type": "input_audio", "input_audio": {name: value for name, value in audio.items() if value is not None}}
        case r.FilePart():
            file = {"file_id": part.file_id, "file_data": url_of(part), "filename": part.filename}
            encoded = {"type": "file", "file": {name: value for name, value in file.items() if value is not None}}
        case _:
            raise UnsupportedField(f"OpenAI's chat format has no place here for a part of kind {type(part).__name__}", param="messages")
    if part.cache_control:
        encoded["cache_control"] = part.cache_control
    return with_extra(encoded, part.extra)


def url_of(part: r.ImagePart | r.FilePart) -> str | None:
    """The part's URL; of base64 data, a data URL."""
    if part.data is None:
        return part.url
    media_type = "application/octet-stream" if part.media_type is None else part.media_type
    return f"data:{media_type};base64,{part.data}"
