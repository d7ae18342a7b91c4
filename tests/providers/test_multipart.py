"""A multipart form's model is found and renamed; every other byte stays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import InvalidRequest
from providers.multipart import form_fields, renamed_model

TYPE = b"multipart/form-data; boundary=xYz"


def form(*parts: tuple[str, bytes], boundary: str = "xYz") -> bytes:
    head = "--{}\r\nContent-Disposition: form-data; {}\r\n\r\n"
    return b"".join(head.format(boundary, name).encode() + value + b"\r\n" for name, value in parts) + f"--{boundary}--\r\n".encode()


@given(st.binary(max_size=80).filter(lambda data: b"--xYz" not in data), st.text("abc-./:_0", min_size=1, max_size=12))
def test_a_renamed_form_differs_in_its_model_alone(file: bytes, model: str) -> None:
    parts = [('name="file"; filename="a.wav"', file), ('name="model"', b"whisper-1"), ('name="language"', b"de")]
    again = renamed_model(form(*parts), TYPE, model)
    assert again == form(parts[0], ('name="model"', model.encode()), parts[2])


def test_a_form_without_a_model_stays_as_it_is() -> None:
    body = form(('name="file"; filename="model"', b'name="model"\r\n\r\nnot me'))
    assert renamed_model(body, TYPE, "m") == body
    assert form_fields(body, TYPE, "model") == {}


def test_a_quoted_boundary_and_an_unquoted_name_are_read() -> None:
    body = form(("name=model", b"m1"), boundary="a b")
    assert renamed_model(body, b'multipart/form-data; boundary="a b"', "m2") == form(("name=model", b"m2"), boundary="a b")


def test_a_model_that_stands_twice_is_refused() -> None:
    with pytest.raises(InvalidRequest) as caught:
        form_fields(form(('name="model"', b"a"), ('name="model"', b"b")), TYPE, "model")
    assert caught.value.param == "model"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [(b"x", b"multipart/form-data"), (b"--xYz\r\nno end", TYPE), (b"--xYz\r\nname\r\n\r\nvalue", TYPE), (form(("n", b"v")) * 201, TYPE)],
)
def test_what_is_no_form_is_refused(body: bytes, content_type: bytes) -> None:
    if body.startswith(b"--xYz\r\nContent"):
        body = body.replace(b"--xYz--\r\n", b"")
    with pytest.raises(InvalidRequest):
        form_fields(body, content_type, "model")


TWO_READINGS = [
    'name="model"; name="prompt"',
    'name="prompt"\r\nContent-Disposition: form-data; name="model"',
    'name="prompt"\r\n ; name="model"',
]


@pytest.mark.parametrize("head", TWO_READINGS)
def test_a_part_that_can_be_read_in_two_ways_is_refused(head: str) -> None:
    with pytest.raises(InvalidRequest):
        form_fields(form((head, b"m1")), TYPE, "model")


def test_a_name_within_a_files_name_is_no_name() -> None:
    body = form(('name="file"; filename="a; name=model"', b"x"), ('filename="b\\"; name=prompt"; name="model"', b"m1"))
    assert renamed_model(body, TYPE, "m2") == body.replace(b"m1", b"m2")


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        form_fields(body, TYPE, "model")
    except InvalidRequest as error:
        assert error.message
