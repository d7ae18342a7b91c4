"""OpenAI chat to OpenAI chat: bytes pass, and are only watched. The request's few fields of ours, the stream's tap, the unary check."""

from functools import lru_cache
from typing import TypeVar

import msgspec

from contract.call import Call
from contract.errors import AttemptError, MalformedResponse, UpstreamError
from contract.usage import BYTES_PER_TOKEN, Usage, tokens_about
from providers.sse import SseEvent
from providers.wires.answer import WholeAnswer
from providers.wires.facts import Facts
from providers.wires.failure import failure
from providers.wires.openai_chat.alike import FIRST, MEMBERS, MOST_FRAMES, Frame, frame_around
from providers.wires.openai_chat.errors import in_band_error
from providers.wires.openai_chat.finish import FAILED, decode_finish
from providers.wires.openai_chat.state import bound_in
from providers.wires.openai_chat.usage import decode_usage, with_thoughts
from providers.wires.tapping import Tapping
from providers.wires.tiers import is_told, so_far, without_counts

DONE = b"data: [DONE]\n\n"
_TRUE = msgspec.Raw(b"true")
_FALSE = msgspec.Raw(b"false")
_USAGE_ONLY = msgspec.Raw(b'{"include_usage":true}')
_NULL = msgspec.Raw(b"null")
_NOTHING = frozenset({b"null", b'""', b"[]", b"{}"})
CALL_FRAME = 64  # bytes around a piece of a call's arguments
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
T = TypeVar("T")


class _Delta(msgspec.Struct, gc=False):
    """What can be output in a delta; None: not there. `reasoning`, `reasoning_content`: vLLM, DeepSeek, OpenRouter."""

    content: msgspec.Raw = _NULL
    tool_calls: msgspec.Raw = _NULL
    reasoning_content: msgspec.Raw = _NULL
    reasoning: msgspec.Raw = _NULL
    refusal: msgspec.Raw = _NULL
    function_call: msgspec.Raw = _NULL
    audio: msgspec.Raw = _NULL
    images: msgspec.Raw = _NULL
    reasoning_details: msgspec.Raw = _NULL
    extra_content: msgspec.Raw = _NULL

    def output_size(self) -> int:
        """How many bytes of output are in it, about: of a call's delta most are its frame."""
        if self.content is not _NULL and (content := bytes(self.content)) not in _NOTHING:
            return len(content) - 2  # its quotes
        if self.tool_calls is not _NULL and (calls := bytes(self.tool_calls)) not in _NOTHING:
            return max(1, len(calls) - CALL_FRAME)
        size = 0
        for value in (self.reasoning_content, self.reasoning, self.refusal, self.function_call, self.audio, self.images):
            if value is not _NULL and (raw := bytes(value)) not in _NOTHING:
                size += len(raw)
        return size

    def has_media(self) -> bool:
        """Whether a sound or a picture is in it."""
        if self.audio is _NULL and self.images is _NULL:
            return bytes(self.content)[:1] == b"[" and b";base64," in bytes(self.content)
        return bytes(self.audio) not in _NOTHING or bytes(self.images) not in _NOTHING

    def bound(self) -> list[str]:
        """What in it binds a later request to the provider."""
        return [state for value in (self.tool_calls, self.reasoning_details, self.extra_content) for state in bound_in(bytes(value))]


class _Choice(msgspec.Struct):
    """`text`: the legacy completions' output, which stands in the place of a delta."""

    index: int = 0
    finish_reason: str | None = None
    delta: _Delta | None = None
    text: str | None = None
    error: msgspec.Raw = _NULL


class _Chunk(msgspec.Struct):
    """A stream's chunk, or a whole answer, as far as it is read."""

    id: str | None = None
    object: str | None = None
    choices: list[_Choice] | None = None
    usage: msgspec.Raw = _NULL
    error: msgspec.Raw = _NULL
    service_tier: msgspec.Raw = _NULL


_chunk = msgspec.json.Decoder(_Chunk)


MOST_MODELS = 1024  # whose names are kept as JSON


def rewrite_request(call: Call, model: str, facts: Facts, *, stream: bool, ask_usage: bool) -> bytes:
    """The client's body with our few top-level fields set. A member that stands there twice goes on once, as we read it: the last one."""
    fields = renamed(call.fields, facts) if facts.renames else dict(call.fields)
    fields["model"] = _as_json(model)
    if call.answered:
        fields |= {name: _TRUE if value else _FALSE for name, value in facts.prefill_with.items()}
    if not stream:
        if call.stream:
            fields["stream"] = _FALSE
            fields.pop("stream_options", None)  # refused where there is no stream
        return msgspec.json.encode(fields)
    fields["stream"] = _TRUE
    if ask_usage:
        fields["stream_options"] = _with_usage(call.fields.get("stream_options"))
    return msgspec.json.encode(fields)


@lru_cache(maxsize=MOST_MODELS)
def _as_json(model: str) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(model))


def renamed(fields: dict[str, T], facts: Facts) -> dict[str, T]:
    """The members under the names that this provider calls them by; one that stands there under both goes by the format's own."""
    named = {name: value for name, value in fields.items() if name not in facts.renames}
    return named | {new: fields[name] for name, new in facts.renames.items() if name in fields}


def _with_usage(given: msgspec.Raw | None) -> msgspec.Raw:
    if given is None or bytes(given) == b"null":
        return _USAGE_ONLY
    options = _object.decode(given)
    options["include_usage"] = _TRUE
    return msgspec.Raw(msgspec.json.encode(options))


class ChatStreamTap(Tapping):
    """Implements `providers.wires.port.StreamTap`."""

    def __init__(self, choices: int, strip_usage: bool) -> None:
        super().__init__()
        self._choices = choices
        self._strip_usage = strip_usage
        self._finished: frozenset[int] = frozenset()
        self._thought = False
        self._frame: Frame | None = None
        self._frames = 0  # that were taken or given up
        self._tier = _NULL  # the last that was told
        self._heads = True  # what each chunk repeats is read: up to the first output, and of the last
        self._uncounted = 0  # bytes of a frame's string that are none of its output's size

    def in_band(self, body: bytes) -> bytes:
        return b"data: %b\n\n" % body

    def _close(self) -> bytes:
        """Some send no `[DONE]`: with its finish reasons the answer is whole."""
        if not self.finished:
            return super()._close()
        self.complete = True
        return DONE

    def _keep(self, event: SseEvent, data: bytes) -> bool:
        if not data:  # some keep a connection alive by an empty one, which clients take for bad JSON
            return False
        if data == b"[DONE]":
            self.complete = self.content_seen = self.progressed = True
            return True
        try:
            chunk = _chunk.decode(data)
        except msgspec.ValidationError:
            return self._keep_strange(event, data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.error = MalformedResponse("an event of the upstream's stream is not valid JSON")
            return False
        if _told(chunk.error) or chunk.object == "error" or event.name == b"error":
            self.error = in_band_error(data)
            return False
        if _told(chunk.usage):
            self._count(chunk)
            if not chunk.choices and self._strip_usage:
                return False
        self._look(chunk)
        return self.error is None

    def feed(self, chunk: bytes) -> bytes:
        frame = self._frame
        if frame is None or self.complete or self.error is not None or self._sse.rest or (found := frame.string(chunk)) is None:
            return super().feed(chunk)
        string, _ = found
        if string != b'""':
            self.tokens_seen += (len(string) - self._uncounted) // BYTES_PER_TOKEN or 1
            self.progressed = True
        return chunk  # nothing is held once there is a frame, for there was output before it

    def _keep_all(self, chunk: bytes, objects: list[bytes]) -> int:
        count, frame = len(objects), self._frame
        read = 0 if frame is None else self._keep_alike(frame, chunk, 0, objects)
        if read < count and self._frames < MOST_FRAMES:
            some = objects[read : read + FIRST]
            kept = self._keep_some(some)
            read += kept
            if kept < len(some):
                return read
            if self._frame is not frame and self._frame is not None and read < count:
                read += self._keep_alike(self._frame, chunk, self._sse.took(objects[:read]), objects[read:])
        return read if read == count else read + self._keep_some(objects[read:])

    def _keep_alike(self, frame: Frame, chunk: bytes, at: int, objects: list[bytes]) -> int:
        """Reads those that have the frame. `at`: where the first of them begins."""
        strings, _ = frame.strings(chunk, at, objects)
        if told := len(strings) - strings.count(b'""'):
            uncounted = self._uncounted
            self.tokens_seen += sum([(len(string) - uncounted) // BYTES_PER_TOKEN or 1 for string in strings]) - len(strings) + told
            self.content_seen = self.progressed = True
        return len(strings)

    def _keep_some(self, objects: list[bytes]) -> int:
        """Reads them one by one, and looks for a frame in the last of them."""
        lines = b"{%b}" % b"}\n{".join(objects)
        if lines.count(b"\n") != len(objects) - 1:  # one of them is more than a line of data
            return 0
        try:
            chunks = _chunk.decode_lines(lines)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return 0
        if len(chunks) != len(objects):  # two on one line
            return 0
        for read, chunk in enumerate(chunks):
            if (chunk.error is not _NULL and _told(chunk.error)) or chunk.object == "error":
                return read
            if chunk.usage is not _NULL and _told(chunk.usage):
                if self._strip_usage and not chunk.choices:
                    return read
                self._count(chunk)
            self._look(chunk)
            if self.error is not None:
                return read
        if self._frames < MOST_FRAMES:
            self._learn(objects[-1], chunks[-1])
        else:
            self._frame = None  # its events are too many kinds
        return len(chunks)

    def _learn(self, told: bytes, chunk: _Chunk) -> None:
        """Takes an event's frame, if those that have it tell nothing beside one string of output."""
        if not chunk.choices or (delta := chunk.choices[0].delta) is None:
            return
        for member in MEMBERS:
            string = bytes(getattr(delta, member))
            if len(string) > len(b'""') and string.startswith(b'"'):
                self._frames += 1
                self._uncounted = len(string) - delta.output_size()
                frame = frame_around(told, member)
                self._frame = frame if frame is not None and _holds_only(frame, member) else None
                return

    def told_usage(self) -> Usage | None:
        usage = self.usage
        if usage is None:
            return without_counts(self._tier)
        return usage if self.complete else so_far(usage, self._tier)

    def _count(self, chunk: _Chunk) -> None:
        if is_told(chunk.service_tier):
            self._tier = chunk.service_tier
        usage = decode_usage(chunk.usage, self._tier)
        self.usage = with_thoughts(usage) if self._thought else usage

    def _look(self, chunk: _Chunk) -> None:
        for choice in chunk.choices or ():
            self._see(choice)
        if self._heads:
            self._head(chunk)
        elif chunk.service_tier is not _NULL and self._tier is _NULL and is_told(chunk.service_tier):  # told late
            self._tier = chunk.service_tier

    def _head(self, chunk: _Chunk) -> None:
        """Reads what every chunk of a stream repeats."""
        if self.upstream_id is None and chunk.id:
            self.upstream_id = chunk.id
        if chunk.service_tier is not _NULL and is_told(chunk.service_tier):
            self._tier = chunk.service_tier
        self._heads = self.upstream_id is None or not self.content_seen

    def _keep_strange(self, event: SseEvent, data: bytes) -> bool:
        """JSON of a shape we do not know: the client may. But what says that it is an error is one."""
        try:
            decoded = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.error = MalformedResponse("an event of the upstream's stream is not valid JSON")
            return False
        if event.name == b"error" or (isinstance(decoded, dict) and (decoded.get("error") is not None or decoded.get("object") == "error")):
            self.error = in_band_error(data)
            return False
        return True

    def _see(self, choice: _Choice) -> None:
        if choice.finish_reason is not None and choice.finish_reason in FAILED:
            self.error = failed(choice)
            return
        if (delta := choice.delta) is not None:
            if size := delta.output_size():
                self.tokens_seen += size // BYTES_PER_TOKEN or 1
                self.content_seen = self.progressed = True
                self.media_seen = self.media_seen or delta.has_media()
                if delta.content is _NULL and (delta.reasoning is not _NULL or delta.reasoning_content is not _NULL):
                    self._thought = True
            if delta.tool_calls is not _NULL or delta.reasoning_details is not _NULL or delta.extra_content is not _NULL:
                self.bound += delta.bound()
        elif choice.text:
            self.tokens_seen += tokens_about(len(choice.text))
            self.content_seen = self.progressed = True
        if choice.finish_reason:  # some send an empty one until there is one
            self.content_seen = self.progressed = self._heads = True
            self._finished |= {choice.index}
            self.finished = len(self._finished) >= self._choices
            if choice.index == 0:
                self.finish = decode_finish(choice.finish_reason)


def _told(member: msgspec.Raw) -> bool:
    return member is not _NULL and bytes(member) != b"null"


def _holds_only(frame: Frame, member: str) -> bool:
    """Whether an event of this frame is read from its string alone."""
    try:
        empty = _chunk.decode(frame.with_string(b'""'))
    except msgspec.DecodeError:
        return False
    if not empty.choices or len(empty.choices) != 1 or _told(empty.error) or _told(empty.usage) or empty.object == "error":
        return False
    choice = empty.choices[0]
    delta = choice.delta
    if delta is None or choice.finish_reason or bytes(getattr(delta, member)) != b'""':
        return False
    return not delta.output_size() and not delta.bound()


def failed(choice: _Choice) -> AttemptError:
    """What a choice means that ended by a failure of the model's maker."""
    return in_band_error(choice.error) if bytes(choice.error) != b"null" else failure(UpstreamError, 200)


def read_unary(body: bytes) -> WholeAnswer:
    """Checks a whole answer. Raises MalformedResponse, or what an error object in it means."""
    try:
        answer = _chunk.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise MalformedResponse("the upstream's answer is not a chat completion") from exc
    if answer.object == "error" or _told(answer.error):
        raise in_band_error(body)
    if not answer.choices:
        raise MalformedResponse("the upstream's answer holds no choices")
    native = None
    for choice in answer.choices:
        if choice.finish_reason in FAILED:
            raise failed(choice)
        if choice.index == 0 and native is None:
            native = choice.finish_reason
    usage = decode_usage(answer.usage, answer.service_tier) if _told(answer.usage) else without_counts(answer.service_tier)
    return WholeAnswer(body, usage, answer.id, decode_finish(native) if native else None, bound=bound_in(body))
