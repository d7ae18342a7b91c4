"""A multipart form, fed whole, byte by byte and cut at every byte: the same file, the same fields."""

import io

import pytest

from contract.errors import InvalidRequest, RequestTooLarge, UnsupportedMediaType
from gateway.batches.form import Form

TYPE = 'multipart/form-data; boundary="b-1"'
CONTENT = b"\r\n--b-\r\n--b\r\n\r\n"


def body(content: bytes = CONTENT) -> bytes:
    return (
        b'--b-1\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        b'--b-1\r\ncontent-disposition: form-data; name="empty"\r\n\r\n\r\n'
        b'--b-1\r\nContent-Disposition: form-data; name="file"; filename="a b.jsonl"\r\nContent-Type: text/plain\r\n\r\n'
        + content
        + b"\r\n--b-1--\r\n"
    )


def taken(*parts: bytes, limit: int = 1000) -> tuple[Form, bytes]:
    sink = io.BytesIO()
    form = Form(TYPE, sink, limit)
    for part in parts:
        form.feed(part)
    form.end()
    return form, sink.getvalue()


@pytest.mark.parametrize("content", [CONTENT, b"", b"x", b"\r\n", b"\r\n--b-2"])
def test_a_form_is_the_same_however_it_comes(content: bytes) -> None:
    data = body(content)
    cuts = [[data], [data[at : at + 1] for at in range(len(data))], *([data[:at], data[at:]] for at in range(len(data)))]
    for parts in cuts:
        form, got = taken(*parts)
        assert got == content and form.size == len(content) and form.filename == "a b.jsonl"
        assert form.fields == {"purpose": "batch", "empty": ""}


def test_a_form_that_is_not_whole_is_refused() -> None:
    data = body()
    for at in range(len(data) - 4):
        with pytest.raises(InvalidRequest):
            taken(data[:at])


def test_bounds_hold() -> None:
    with pytest.raises(RequestTooLarge):
        taken(body(b"x" * 1001))
    with pytest.raises(InvalidRequest, match="too long"):
        taken(b'--b-1\r\ncontent-disposition: form-data; name="f"\r\n\r\n' + b"x" * 20_000)
    with pytest.raises(InvalidRequest, match="too long"):
        taken(b"--b-1\r\n" + b"x" * 20_000)
    with pytest.raises(UnsupportedMediaType):
        Form("application/json", io.BytesIO(), 1)


def test_two_files_and_a_part_without_a_name_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="one file"):
        taken(body().replace(b"--b-1--", b'--b-1\r\ncontent-disposition: form-data; name="file"; filename="b"\r\n\r\nx\r\n--b-1--'))
    with pytest.raises(InvalidRequest, match="no name"):
        taken(b"--b-1\r\ncontent-type: text/plain\r\n\r\nx\r\n--b-1--")
