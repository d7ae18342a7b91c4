"""Amazon Bedrock's Converse format."""

from providers.wires.bedrock.embeddings import BEDROCK_EMBEDDINGS
from providers.wires.bedrock.wire import BEDROCK

__all__ = ["BEDROCK", "BEDROCK_EMBEDDINGS"]
