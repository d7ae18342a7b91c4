"""Rows in files: within the limits, the same for the same rows, each row on one line; and what is left when somebody stops in the middle."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contract.errors import RequestError, TargetCannot
from providers.address import Chosen
from providers.batch import anthropic, openai_files
from providers.batch.port import BatchRow, Limits, Part, row_id, row_number
from providers.batch.rows import Form, Rows
from providers.build import routes_of
from providers.registry import PROVIDER_KINDS
from tests.providers.batch.worlds import call, question


def rows_of(kind: str, form: Form, **limits: Any) -> Rows:
    row = PROVIDER_KINDS[kind]
    endpoints = frozenset({"/v1/chat/completions", "/v1/messages", "/v1/embeddings"})
    given = Limits(**{"rows": 1000, "size": 1 << 20, "endpoints": endpoints, **limits})
    return Rows(routes_of(row, Chosen(name=kind)), "hints", given, form)


def names_in(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir()]


async def numbered(count: int, **more: Any) -> AsyncIterator[BatchRow]:
    for number in range(count):
        yield BatchRow(row_id(number), question(number, **more))


async def parts_of(rows: Rows, given: AsyncIterator[BatchRow], folder: Path) -> tuple[list[Part], dict[str, Exception]]:
    refused: dict[str, Exception] = {}
    return [part async for part in rows.parts(given, "theirs", folder, "b1", refused.__setitem__)], refused


async def test_a_part_holds_no_more_rows_than_a_job_may_have(tmp_path: Path) -> None:
    parts, _ = await parts_of(rows_of("openai", openai_files.ROWS, rows=10), numbered(25), tmp_path)
    assert [(part.key, part.rows) for part in parts] == [("b1-0", 10), ("b1-1", 10), ("b1-2", 5)]
    ids = [json.loads(line)["custom_id"] for part in parts for line in part.file.read_bytes().splitlines()]
    assert ids == [row_id(number) for number in range(25)]


@pytest.mark.parametrize(("kind", "form"), [("openai", openai_files.ROWS), ("anthropic", anthropic.ROWS)], ids=["lines", "inline"])
async def test_a_part_holds_no_more_bytes_than_a_job_may_have(tmp_path: Path, kind: str, form: Form) -> None:
    parts, _ = await parts_of(rows_of(kind, form, size=2000), numbered(50), tmp_path)
    assert len(parts) > 3 and sum(part.rows for part in parts) == 50
    for part in parts:
        body = part.file.read_bytes()
        assert len(body) == part.size <= 2000
    if kind == "anthropic":
        requests = [each for part in parts for each in json.loads(part.file.read_bytes())["requests"]]
        assert len({each["custom_id"] for each in requests}) == 50
        assert {each["params"]["model"] for each in requests} == {"theirs"}


async def test_a_part_holds_no_more_texts_to_embed_than_a_job_may_have(tmp_path: Path) -> None:
    inputs: list[Any] = [["a", "b", "c"], "d", [1, 2, 3, 4, 5], [[1], [2]], ["e", "f", "g"]]

    async def given() -> AsyncIterator[BatchRow]:
        for number, each in enumerate(inputs):
            yield BatchRow(row_id(number), call({"model": "m", "input": each}, "openai_embeddings"))

    parts, _ = await parts_of(rows_of("openai", openai_files.ROWS, inputs=4), given(), tmp_path)
    assert [part.rows for part in parts] == [2, 2, 1]


async def test_a_row_that_is_too_large_for_any_job_is_refused_and_the_others_go(tmp_path: Path) -> None:
    async def given() -> AsyncIterator[BatchRow]:
        for number in range(3):
            yield BatchRow(row_id(number), question(number, user="x" * 3000 if number == 1 else "y"))

    parts, refused = await parts_of(rows_of("openai", openai_files.ROWS, size=2000), given(), tmp_path)
    assert [part.rows for part in parts] == [2]
    assert isinstance(refused[row_id(1)], TargetCannot) and len(refused) == 1
    assert names_in(tmp_path) == [part.file.name for part in parts]


async def test_the_same_rows_make_the_same_parts(tmp_path: Path) -> None:
    rows = rows_of("openai", openai_files.ROWS, rows=10)
    first, again = [(await parts_of(rows, numbered(25), tmp_path))[0] for _ in range(2)]
    assert [(part.key, part.sha256, part.size) for part in first] == [(part.key, part.sha256, part.size) for part in again]


async def test_a_client_s_line_breaks_do_not_break_a_line(tmp_path: Path) -> None:
    body = '{"model":"m",\r\n "messages":[{"role":"user",\n"content":"one\\ntwo"}],\n"tools":[\n]}'
    asked = msgspec.structs.replace(question(0), body=body.encode(), fields=msgspec.json.decode(body, type=dict[str, msgspec.Raw]))

    async def given() -> AsyncIterator[BatchRow]:
        yield BatchRow(row_id(0), asked)
        yield BatchRow(row_id(1), question(1))

    (part,), _ = await parts_of(rows_of("openai", openai_files.ROWS), given(), tmp_path)
    lines = [json.loads(line) for line in part.file.read_bytes().splitlines()]
    assert [line["custom_id"] for line in lines] == [row_id(0), row_id(1)]
    assert lines[0]["body"]["messages"][0]["content"] == "one\ntwo"


async def test_a_request_that_is_none_is_refused_by_row(tmp_path: Path) -> None:
    async def given() -> AsyncIterator[BatchRow]:
        yield BatchRow(row_id(0), call({"model": "m", "messages": [{"role": "nobody", "content": 5}]}))

    parts, refused = await parts_of(rows_of("anthropic", anthropic.ROWS), given(), tmp_path)
    assert parts == [] and isinstance(refused[row_id(0)], RequestError)


async def test_who_stops_in_the_middle_leaves_no_file_that_nobody_knows_of(tmp_path: Path) -> None:
    rows = rows_of("openai", openai_files.ROWS, rows=10)
    going = rows.parts(numbered(25), "theirs", tmp_path, "b1", lambda *_: None)
    first = await anext(going)
    await going.aclose()
    assert names_in(tmp_path) == [first.file.name]


@pytest.mark.parametrize("id_", ["", "a b", "x" * 41, "a_b", "a/b"])
async def test_an_id_that_some_provider_would_refuse_is_a_mistake_of_the_caller(tmp_path: Path, id_: str) -> None:
    async def given() -> AsyncIterator[BatchRow]:
        yield BatchRow(id_, question(0))

    with pytest.raises(ValueError, match="cannot be a row's id"):
        await parts_of(rows_of("openai", openai_files.ROWS), given(), tmp_path)


def test_a_row_s_number_is_an_id_and_back() -> None:
    assert [row_number(row_id(number)) for number in (0, 7, 99_999)] == [0, 7, 99_999]
    for wrong in ("", "r1", "x0000000001", "r000000000a"):
        with pytest.raises(ValueError, match=r"no row|invalid"):
            row_number(wrong)
