"""Google's generateContent answers to events, streamed and whole. A stream has no terminal event: it is whole once it told why it ended."""

from hashlib import sha256
from secrets import token_hex

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from contract import events as ev
from contract.errors import ContentPolicyRefused, MalformedResponse, UpstreamError
from contract.finish import Finish, FinishReason
from contract.raw import ABSENT
from contract.usage import Usage
from providers.sse import SseDecoder, SseEvent
from providers.wires.classes import input_of, output_of, source_of
from providers.wires.decoding import Decoding
from providers.wires.failure import failure
from providers.wires.gemini.errors import in_band_error

NAME = "gemini"
_NULL = Raw(b"null")
_REASONS: dict[str, FinishReason] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    **dict.fromkeys(
        (
            "SAFETY",
            "RECITATION",
            "BLOCKLIST",
            "PROHIBITED_CONTENT",
            "SPII",
            "IMAGE_SAFETY",
            "IMAGE_PROHIBITED_CONTENT",
            "IMAGE_RECITATION",
            "MODEL_ARMOR",
        ),
        "content_filter",
    ),
}
FAILURES = frozenset(
    {
        "MALFORMED_FUNCTION_CALL",
        "MALFORMED_RESPONSE",
        "MISSING_THOUGHT_SIGNATURE",
        "UNEXPECTED_TOOL_CALL",  # of a function that was not declared
        "TOO_MANY_TOOL_CALLS",
        "LANGUAGE",
        "OTHER",
        "NO_IMAGE",
        "IMAGE_OTHER",
    }
)


class _FunctionCall(msgspec.Struct):
    name: str = ""
    id: str | None = None
    args: Raw = Raw(b"{}")


class _Part(msgspec.Struct, rename="camel"):
    text: str | None = None
    thought: bool = False
    thought_signature: str | None = None
    function_call: _FunctionCall | None = None
    inline_data: Raw = _NULL
    executable_code: Raw = _NULL
    code_execution_result: Raw = _NULL
    tool_call: Raw = _NULL
    tool_response: Raw = _NULL


class _Content(msgspec.Struct):
    parts: list[_Part] | None = None


class _Web(msgspec.Struct):
    uri: str | None = None
    title: str | None = None


class _Chunk(msgspec.Struct, rename="camel"):
    web: _Web | None = None
    retrieved_context: _Web | None = None


class _Segment(msgspec.Struct, rename="camel"):
    start_index: int | None = None
    end_index: int | None = None
    text: str | None = None


class _Support(msgspec.Struct, rename="camel"):
    segment: _Segment | None = None
    grounding_chunk_indices: list[int] | None = None


class _Grounding(msgspec.Struct, rename="camel"):
    grounding_chunks: list[_Chunk] | None = None
    grounding_supports: list[_Support] | None = None
    web_search_queries: list[str] | None = None


class _Token(msgspec.Struct, rename="camel"):
    token: str = ""
    log_probability: float = 0.0


class _Top(msgspec.Struct):
    candidates: list[_Token] | None = None


class _Logprobs(msgspec.Struct, rename="camel"):
    chosen_candidates: list[_Token] | None = None
    top_candidates: list[_Top] | None = None


class _Candidate(msgspec.Struct, rename="camel"):
    index: int = 0
    content: _Content | None = None
    finish_reason: str | None = None
    grounding_metadata: _Grounding | None = None
    logprobs_result: _Logprobs | None = None


class _Modality(msgspec.Struct, rename="camel"):
    modality: str | None = None
    token_count: int | None = None


class _Counts(msgspec.Struct, rename="camel"):
    prompt_token_count: int | None = None
    cached_content_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None
    tool_use_prompt_token_count: int | None = None
    total_token_count: int | None = None
    prompt_tokens_details: list[_Modality] | None = None
    candidates_tokens_details: list[_Modality] | None = None
    cache_tokens_details: list[_Modality] | None = None


class _Feedback(msgspec.Struct, rename="camel"):
    block_reason: str | None = None


class _Answer(msgspec.Struct, rename="camel"):
    response_id: str | None = None
    model_version: str | None = None
    candidates: list[_Candidate] | None = None
    prompt_feedback: _Feedback | None = None
    usage_metadata: Raw = _NULL
    error: Raw = _NULL


_answer = msgspec.json.Decoder(_Answer)
_counts = msgspec.json.Decoder(_Counts)
_AUDIO, _IMAGES = ("AUDIO",), ("IMAGE", "DOCUMENT")  # a document is read as the pictures of its pages
_NATIVE = ("inline_data", "executable_code", "code_execution_result", "tool_call", "tool_response")


def decode_usage(raw: Raw) -> Usage:
    """Google's counts to disjoint classes: the prompt includes cached tokens, the candidates do not include thoughts."""
    kept = Raw(bytes(raw))
    try:
        given = _counts.decode(kept)
    except msgspec.ValidationError:
        return Usage(raw=kept)
    prompt, output = given.prompt_token_count, given.candidates_token_count
    if output is None and given.total_token_count is not None and prompt is not None:
        output = max(0, given.total_token_count - prompt - (given.thoughts_token_count or 0) - (given.tool_use_prompt_token_count or 0))
    read = input_of(prompt, given.cached_content_token_count, None, _fresh(given, _AUDIO), _fresh(given, _IMAGES))
    made = output_of(output, None, *(_of_kind(given.candidates_tokens_details, kinds) for kinds in (_AUDIO, _IMAGES)))
    return Usage(
        input_uncached=None if read.uncached is None else read.uncached + (given.tool_use_prompt_token_count or 0),
        cache_read=read.cache_read,
        audio_input=read.audio,
        image_input=read.images,
        output_visible=made.visible,
        reasoning=given.thoughts_token_count,
        audio_output=made.audio,
        image_output=made.images,
        source=source_of(read, made),
        raw=kept,
    )


def _fresh(given: _Counts, kinds: tuple[str, ...]) -> int | None:
    """Of the prompt, without what is cached, which counts there."""
    found = _of_kind(given.prompt_tokens_details, kinds)
    return None if found is None else max(0, found - (_of_kind(given.cache_tokens_details, kinds) or 0))


def _of_kind(details: list[_Modality] | None, kinds: tuple[str, ...]) -> int | None:
    return sum(counts) if (counts := [detail.token_count or 0 for detail in details or () if detail.modality in kinds]) else None


def _read(data: bytes) -> _Answer:
    try:
        answer = _answer.decode(data)
        if not data.isascii():
            data.decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise MalformedResponse("the upstream's answer is not a generateContent response") from exc
    if bytes(answer.error) != b"null":
        raise in_band_error(data)
    if answer.prompt_feedback is not None and answer.prompt_feedback.block_reason is not None and not answer.candidates:
        raise failure(ContentPolicyRefused, 200)
    return answer


class _Choice:
    """One candidate's parts so far."""

    def __init__(self) -> None:
        self.kind = ""
        self.part = -1
        self.calls = 0
        self.text = ""
        self.signature: str | None = None  # of the text so far; told once nothing more can belong to that text
        self.native: str | None = None  # the last reason to finish: more may come after one

    def enter(self, kind: str) -> int:
        """The number of the part that output of this kind belongs to; each call is one of its own."""
        if kind != self.kind or kind in ("call", "native", "signature"):
            self.kind = kind
            self.part += 1
        return self.part

    def finish(self, index: int) -> list[ev.Event]:
        if self.native is None:
            return []
        reason = _REASONS.get(self.native, "unknown")
        return [ev.Finished(finish=Finish("tool_calls" if reason == "stop" and self.calls else reason, self.native), choice=index)]


class _Reader:
    """Answers, or pieces of one, to events."""

    def __init__(self) -> None:
        self._choices: dict[int, _Choice] = {}
        self._id = ""
        self._started = False
        self._usage: Usage | None = None
        self._searches: dict[int, int] = {}  # by choice
        self._each_query = True

    @property
    def usage(self) -> ev.UsageReported | None:
        """With searches as Google charges them: each query, up to Gemini 2.5 each grounded answer (ai.google.dev/gemini-api/docs/google-search)."""
        if self._usage is None:
            return None
        searches = sum(self._searches.values() if self._each_query else map(bool, self._searches.values()))
        return ev.UsageReported(usage=replace(self._usage, web_searches=searches) if searches else self._usage)

    @property
    def finished(self) -> int:
        return sum(choice.native is not None for choice in self._choices.values())

    def read(self, data: bytes, events: list[ev.Event]) -> None:
        answer = _read(data)
        if not self._started:
            self._started, self._id = True, answer.response_id or token_hex(12)
            self._each_query = not (answer.model_version or "").startswith(("gemini-1", "gemini-2"))
            events.append(ev.Started(id=answer.response_id or "", model=answer.model_version or "", created_s=0))
        if bytes(answer.usage_metadata)[:1] == b"{":
            self._usage = decode_usage(answer.usage_metadata)
        for candidate in answer.candidates or ():
            self._candidate(candidate, events)

    def end(self) -> list[ev.Event]:
        """What ends a whole answer: of its reasons to finish and of its usage, the last one told is the truth."""
        events: list[ev.Event] = [told for index in sorted(self._choices) for told in self._choices[index].finish(index)]
        if self.usage is not None:
            events.append(self.usage)
        return [*events, ev.Ended()]

    def _candidate(self, candidate: _Candidate, events: list[ev.Event]) -> None:
        index = candidate.index
        choice = self._choices.setdefault(index, _Choice())
        for part in (candidate.content.parts if candidate.content is not None else None) or ():
            self._sign(choice, index, events)
            self._part(choice, index, part, events)
        if candidate.logprobs_result is not None and (logprobs := logprobs_of(candidate.logprobs_result)):
            events.append(ev.TextDelta(text="", choice=index, part=choice.enter("text"), logprobs=logprobs))
        if candidate.grounding_metadata is not None:
            events += _citations(candidate.grounding_metadata, choice, index)
            queries = len(candidate.grounding_metadata.web_search_queries or ())
            self._searches[index] = max(queries, self._searches.get(index, 0))  # a stream's pieces repeat them
        self._sign(choice, index, events)
        native = candidate.finish_reason
        if native is None or native == "FINISH_REASON_UNSPECIFIED":
            return
        if native in FAILURES:
            raise failure(UpstreamError, 200)
        choice.native = native

    def _part(self, choice: _Choice, index: int, part: _Part, events: list[ev.Event]) -> None:
        if part.function_call is not None:
            self._call(choice, index, part, part.function_call, events)
            return
        if part.text:
            if part.thought:
                events.append(ev.ReasoningDelta(text=part.text, choice=index, part=choice.enter("reasoning")))
            else:
                choice.text += part.text
                events.append(ev.TextDelta(text=part.text, choice=index, part=choice.enter("text")))
        for kind in _NATIVE:
            raw: Raw = getattr(part, kind)
            if bytes(raw)[:1] == b"{":
                events.append(ev.NativeOutput(kind=kind, raw=Raw(bytes(raw)), maker=NAME, choice=index, part=choice.enter("native")))
        if part.thought_signature and part.text and part.thought:
            events.append(ev.ReasoningSignature(signature=part.thought_signature, maker=NAME, choice=index, part=choice.part))
            choice.kind = "signature"
        elif part.thought_signature:
            choice.signature = part.thought_signature

    def _sign(self, choice: _Choice, index: int, events: list[ev.Event]) -> None:
        if choice.signature is not None:
            events.append(ev.ReasoningSignature(signature=choice.signature, maker=NAME, choice=index, part=choice.enter("signature")))
            choice.signature = None

    def _call(self, choice: _Choice, index: int, part: _Part, call: _FunctionCall, events: list[ev.Event]) -> None:
        number = choice.enter("call")
        choice.calls += 1
        name = call.id or f"call_{sha256(f'{self._id} {index} {number} {call.name}'.encode()).hexdigest()[:24]}"
        events.append(ev.ToolCallStarted(id=name, name=call.name, signature=part.thought_signature or None, maker=NAME, choice=index, part=number))
        arguments = bytes(call.args).decode()
        events.append(ev.ToolCallDelta(arguments="{}" if arguments == "null" else arguments, choice=index, part=number))


def _citations(grounding: _Grounding, choice: _Choice, index: int) -> list[ev.Event]:
    """Supports, each with the pages it rests on. Google counts UTF-8 bytes; we count characters."""
    events: list[ev.Event] = []
    text = choice.text.encode()
    chunks = grounding.grounding_chunks or []
    for support in grounding.grounding_supports or ():
        segment = support.segment or _Segment()
        start = None if segment.end_index is None else len(text[: segment.start_index or 0].decode("utf-8", "ignore"))
        end = None if segment.end_index is None else len(text[: segment.end_index].decode("utf-8", "ignore"))
        for at in support.grounding_chunk_indices or ():
            page = (chunks[at].web or chunks[at].retrieved_context) if 0 <= at < len(chunks) else None
            page = page or _Web()
            raw = Raw(msgspec.json.encode({"segment": segment, "page": page}))
            told = ev.Annotated(
                annotation=raw, maker=NAME, url=page.uri, title=page.title, cited_text=segment.text, start=start, end=end,
                choice=index, part=choice.enter("text"),
            )  # fmt: skip
            events.append(told)
    return events


def logprobs_of(result: _Logprobs) -> Raw:
    """In chat's object, as events carry them."""
    chosen, tops = result.chosen_candidates or [], result.top_candidates or []
    if not chosen:
        return ABSENT
    content = [
        {**_token(token), "top_logprobs": [_token(other) for other in (tops[at].candidates or () if at < len(tops) else ())]}
        for at, token in enumerate(chosen)
    ]
    return Raw(msgspec.json.encode({"content": content}))


def _token(token: _Token) -> dict[str, object]:
    return {"token": token.token, "logprob": token.log_probability, "bytes": list(token.token.encode())}


def decode_response(body: bytes) -> list[ev.Event]:
    """A whole answer. Raises MalformedResponse, or what an error object in it means."""
    reader = _Reader()
    events: list[ev.Event] = []
    reader.read(body, events)
    if not reader.finished:
        raise MalformedResponse("the upstream's answer holds no finished candidate")
    return [*events, *reader.end()]


class GeminiStreamDecoder(Decoding[SseEvent]):
    """Implements `providers.wires.port.StreamDecoder`."""

    def __init__(self, choices: int) -> None:
        super().__init__(SseDecoder())
        self._choices = choices
        self._reader = _Reader()

    def _take(self, event: SseEvent, events: list[ev.Event]) -> None:
        if event.data is not None:
            self._reader.read(event.data, events)
            self.settled = self._reader.finished >= self._choices

    def told_usage(self) -> Usage | None:
        return self._reader.usage.usage if self._reader.usage is not None else None

    def _close(self, events: list[ev.Event]) -> None:
        """There is no terminal event: with its finish reasons the answer is whole."""
        if self._reader.finished < self._choices:
            super()._close(events)
        events += self._reader.end()
