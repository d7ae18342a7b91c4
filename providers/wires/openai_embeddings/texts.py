"""What the embedders of other forms need of a request: its inputs as texts, no more of them than they take at once."""

from contract.embeddings import EmbeddingRequest
from contract.errors import UnsupportedField
from providers.wires.losses import Losses


def texts_of(request: EmbeddingRequest, most: int, losses: Losses) -> list[str]:
    """Raises UnsupportedField for token ids, which mean nothing to another tokenizer, and for more inputs than `most`."""
    texts = [text for text in request.inputs if isinstance(text, str)]
    if len(texts) != len(request.inputs):
        raise UnsupportedField("the model reads text, not the tokens of another one", param="input")
    if len(texts) > most:
        raise UnsupportedField(f"the model takes at most {most} inputs at once", param="input")
    if request.user is not None:
        losses.lose("user")
    return texts
