"""Embeddings, free of any dialect: what is asked, and what comes back."""

import msgspec

from contract.usage import Usage


class EmbeddingRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`inputs`: texts, or token ids where the client sent those. `dimensions` None: the model's own.

    `input_type` is the provider's word for the purpose (search_query, search_document …), for those that want one.
    """

    model: str
    inputs: tuple[str | tuple[int, ...], ...]
    dimensions: int | None = None
    base64: bool = False
    user: str | None = None
    input_type: str | None = None
    extra: dict[str, msgspec.Raw] = {}


class EmbeddingAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """`vectors` in the order of the inputs."""

    vectors: tuple[tuple[float, ...], ...]
    model: str = ""
    id: str | None = None
    usage: Usage | None = None
