"""A file of rows before it is accepted: every row read once, told by its line what is wrong, and where it stands. In bounded memory."""

import re
import time
from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import BinaryIO, NamedTuple

import msgspec

from batch.reading import Piece, Unreadable, elements, lines
from batch.states import Dialect, Fault, Place

MOST_FAULTS = 100  # that are told of one file
REST_EVERY_S = 0.002  # a thread that checks lets others have Python's lock so often
REST_S = 0.0002
MAX_ID = 256  # characters of a custom_id
GROUP = 1000  # places that are handed on together
ANTHROPIC_ID = re.compile("[a-zA-Z0-9_-]{1,64}")  # platform.claude.com/docs, Create a Message Batch
BOM = b"\xef\xbb\xbf"


class Bounds(NamedTuple):
    """Of one batch. `row_bytes`: of one row."""

    rows: int
    size: int
    row_bytes: int


OPENAI = Bounds(50_000, 200 * 1000 * 1000, 32 << 20)  # as OpenAI documents them
ANTHROPIC = Bounds(100_000, 256 << 20, 32 << 20)  # as Anthropic does

Check = Callable[[bytes], None]


class _OpenAIRow(msgspec.Struct):
    custom_id: str
    method: str
    url: str
    body: msgspec.Raw


class _AnthropicRow(msgspec.Struct):
    custom_id: str
    params: msgspec.Raw


class _Body(msgspec.Struct):
    body: msgspec.Raw


class _Params(msgspec.Struct):
    params: msgspec.Raw


_openai, _anthropic = msgspec.json.Decoder(_OpenAIRow), msgspec.json.Decoder(_AnthropicRow)
_body, _params = msgspec.json.Decoder(_Body), msgspec.json.Decoder(_Params)


class Wrong(Exception):
    """What a check says of one row's body."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param


def body_of(dialect: Dialect, data: bytes) -> bytes:
    """The request that a checked row is of."""
    return bytes(_body.decode(data).body if dialect == "openai" else _params.decode(data).params)


class Checking:
    """One file. `url`: what its rows must ask, in OpenAI's form. `check` raises Wrong for a body that could not be asked.

    `faults` and `rows` are whole once `places` has ended. Blocks; meant for a thread.
    """

    def __init__(self, dialect: Dialect, url: str, check: Check, bounds: Bounds) -> None:
        self._dialect = dialect
        self._url = url
        self._check = check
        self._bounds = bounds
        self._ids: set[bytes] = set()
        self.faults: list[Fault] = []
        self.rows = 0

    def places(self, file: BinaryIO) -> Iterator[list[Place]]:
        """Those that are well, in groups; once one is not, no more of them, only faults."""
        group: list[Place] = []
        pieces = (lines if self._dialect == "openai" else elements)(file, self._bounds.row_bytes)
        rest_at = time.monotonic() + REST_EVERY_S
        try:
            for piece in pieces:
                self.rows += 1
                if self.rows > self._bounds.rows:
                    self._tell(Fault("too_many_requests", f"there are more than {self._bounds.rows} requests", piece.line))
                    break
                place = self._place(piece)
                if place is not None and not self.faults:
                    group.append(place)
                if len(self.faults) >= MOST_FAULTS:
                    break
                if len(group) == GROUP:
                    yield group
                    group = []
                if time.monotonic() >= rest_at:
                    time.sleep(REST_S)
                    rest_at = time.monotonic() + REST_EVERY_S
        except Unreadable as exc:
            self._tell(exc.fault)
        if not self.rows and not self.faults:
            self._tell(Fault("empty_file", "there is no request in it"))
        if group and not self.faults:
            yield group

    def _tell(self, fault: Fault) -> None:
        self.faults.append(fault)

    def _place(self, piece: Piece) -> Place | None:
        try:
            custom_id, body = self._read(piece.data)
            digest = blake2b(custom_id.encode("utf-8", "surrogatepass"), digest_size=16).digest()
            if digest in self._ids:
                raise Wrong("duplicate_custom_id", f"the custom_id {custom_id[:80]!r} stands in an earlier row too", "custom_id")
            self._ids.add(digest)
            self._check(body)
        except Wrong as wrong:
            self._tell(Fault(wrong.code, wrong.message, piece.line, wrong.param))
            return None
        return Place(piece.line, custom_id, piece.at, len(piece.data))

    def _read(self, data: bytes) -> tuple[str, bytes]:
        """The custom_id and the request. Raises Wrong."""
        openai = self._dialect == "openai"
        try:
            if data.startswith(BOM):
                raise Wrong("invalid_json_line", "it begins with a byte order mark, which JSON has not; save the file as UTF-8 without one")
            data.decode()
            row = _openai.decode(data) if openai else _anthropic.decode(data)
        except UnicodeDecodeError as exc:
            raise Wrong("invalid_json_line", f"it is not valid UTF-8 (byte {exc.start})") from exc
        except msgspec.ValidationError as exc:
            raise Wrong("invalid_request", f"it must have {'custom_id, method, url and body' if openai else 'custom_id and params'}: {exc}") from exc
        except (msgspec.DecodeError, RecursionError) as exc:
            raise Wrong("invalid_json_line", f"it is not valid JSON: {exc}") from exc
        if isinstance(row, _AnthropicRow):
            if not ANTHROPIC_ID.fullmatch(row.custom_id):
                raise Wrong("invalid_custom_id", "the custom_id must have 1 to 64 characters of a-z, A-Z, 0-9, _ and -", "custom_id")
            return row.custom_id, bytes(row.params)
        if not 1 <= len(row.custom_id) <= MAX_ID or not row.custom_id.isprintable():
            raise Wrong("invalid_custom_id", f"the custom_id must have 1 to {MAX_ID} characters that can be printed", "custom_id")
        if row.method != "POST":
            raise Wrong("invalid_method", "the method must be POST", "method")
        if row.url != self._url:
            raise Wrong("mismatched_url", f"the url must be the batch's endpoint, {self._url}", "url")
        return row.custom_id, bytes(row.body)
