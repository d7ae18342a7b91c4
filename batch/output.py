"""A batch's files as its dialect has them: one line a row, each row in exactly one of them."""

from typing import Any

import msgspec

from batch.states import Dialect, Ended

_encode = msgspec.json.Encoder().encode
EXPIRED = "the request was not answered before the batch's completion window ended"
FAILED = "the gateway failed; the request id leads to its log"
CANCELLED = "the request was not answered before the batch was cancelled"
_NEWLINES = bytes.maketrans(b"\r\n", b"  ")


def line_of(dialect: Dialect, batch_id: str, row: Ended) -> tuple[bool, bytes]:
    """Whether it belongs in the file of errors, and the line. Anthropic has one file for all."""
    if dialect == "anthropic":
        return False, _encode({"custom_id": row.custom_id, "result": _result(row)}) + b"\n"
    response = error = None
    if row.answer is not None:
        response = {"status_code": row.status_code, "request_id": row.request_id, "body": _raw(row.answer)}
    elif row.state == "errored":
        error = {"code": "internal_error", "message": FAILED}
    else:
        error = {"code": f"batch_{row.state}", "message": EXPIRED if row.state == "expired" else CANCELLED}
    told = {"id": f"batch_req_{batch_id.rpartition('_')[2]}_{row.line}", "custom_id": row.custom_id, "response": response, "error": error}
    return row.state != "succeeded", _encode(told) + b"\n"


def _result(row: Ended) -> dict[str, Any]:
    if row.state == "succeeded":
        return {"type": "succeeded", "message": _raw(row.answer)}
    if row.state == "errored":
        told = {"type": "error", "error": {"type": "api_error", "message": FAILED}, "request_id": row.request_id}
        return {"type": "errored", "error": told if row.answer is None else _raw(row.answer)}
    return {"type": "canceled" if row.state == "cancelled" else row.state}


def _raw(answer: bytes | None) -> msgspec.Raw:
    """JSON on one line: a newline in it stands between tokens, for in a string it is escaped."""
    return msgspec.Raw((answer or b"null").translate(_NEWLINES))
