"""The inference endpoints: path to form and name, and whose words an error is told in there."""

from collections.abc import Callable
from dataclasses import dataclass

from contract.call import Call
from contract.head import HeaderList
from gateway import peek
from gateway.peek import Form, Reader, passing
from providers.registry import IMAGES, RESPONSES_EXTRA, SPEECH, TRANSCRIPTION
from providers.wires.anthropic_messages import ANTHROPIC_MESSAGES
from providers.wires.openai_chat import OPENAI_CHAT
from providers.wires.port import Dialect

DEFAULT_MODELS = {"/moderations": "omni-moderation-latest"}  # as in OpenAI's API
MULTIPART = frozenset({*TRANSCRIPTION, "/images/edits", "/images/variations"})


Read = Callable[[str, bytes, HeaderList], Call]  # a request's id, body and headers


@dataclass(frozen=True, slots=True)
class InferenceEndpoint:
    """`name` stands in the ledger. `words`: the dialect that an error is told in. `media`: the content type that a body must have."""

    name: str
    form: Form
    read: Read
    words: Dialect
    media: bytes


def _endpoint(name: str, form: Form) -> InferenceEndpoint:
    words: Dialect = ANTHROPIC_MESSAGES if form.dialect.startswith("anthropic") else OPENAI_CHAT
    return InferenceEndpoint(name, form, Reader(form).read, words, b"multipart/form-data" if form.multipart else b"application/json")


def _passing(path: str) -> InferenceEndpoint:
    like = peek.RESPONSES if path in RESPONSES_EXTRA else None
    form = passing(path, multipart=path in MULTIPART, default_model=DEFAULT_MODELS.get(path), like=like)
    return _endpoint(path.strip("/").replace("/", "."), form)


ENDPOINTS: dict[str, InferenceEndpoint] = {
    "/v1/chat/completions": _endpoint("chat.completions", peek.CHAT),
    "/v1/completions": _endpoint("completions", peek.COMPLETIONS),
    "/v1/responses": _endpoint("responses", peek.RESPONSES),
    "/v1/embeddings": _endpoint("embeddings", peek.EMBEDDINGS),
    "/v1/messages": _endpoint("messages", peek.MESSAGES),
    "/v1/messages/count_tokens": _endpoint("messages.count_tokens", peek.COUNT_TOKENS),
    **{f"/v1{path}": _passing(path) for path in ("/rerank", "/moderations", *IMAGES, *SPEECH, *TRANSCRIPTION, *RESPONSES_EXTRA)},
}


def words_for(path: str, is_anthropic: bool) -> Dialect:
    """Whose words an error at a path is told in; `is_anthropic`: the client sent `anthropic-version`."""
    return ANTHROPIC_MESSAGES if is_anthropic or path.startswith("/v1/messages") else OPENAI_CHAT
