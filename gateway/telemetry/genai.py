"""The names of OpenTelemetry's GenAI conventions, in one place: none of them is stable yet, so a new version of them is a change of this file.

Source: opentelemetry-semantic-conventions 0.66b2 (the registry of 1.44.0, where these have moved to the GenAI conventions' own repository). What
the conventions have no name for is `turnout.…`.
"""

VERSION = "1.44.0"
SCHEMA = f"https://opentelemetry.io/schemas/{VERSION}"

OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
REQUEST_STREAM = "gen_ai.request.stream"
RESPONSE_ID = "gen_ai.response.id"
FINISH_REASONS = "gen_ai.response.finish_reasons"
TIME_TO_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"  # seconds
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHE_READ_TOKENS = "gen_ai.usage.cache_read.input_tokens"
CACHE_CREATION_TOKENS = "gen_ai.usage.cache_creation.input_tokens"
REASONING_TOKENS = "gen_ai.usage.reasoning.output_tokens"
TOKEN_TYPE = "gen_ai.token.type"
ERROR_TYPE = "error.type"
STATUS_CODE = "http.response.status_code"

CLIENT_DURATION = "gen_ai.client.operation.duration"
CLIENT_TOKENS = "gen_ai.client.token.usage"
SERVER_DURATION = "gen_ai.server.request.duration"
SERVER_FIRST_TOKEN = "gen_ai.server.time_to_first_token"
SERVER_PER_TOKEN = "gen_ai.server.time_per_output_token"

# endpoint -> operation; an endpoint that is not here is its own
OPERATIONS = {
    "chat.completions": "chat",
    "messages": "chat",
    "responses": "chat",
    "completions": "text_completion",
    "embeddings": "embeddings",
}
# kind of a provider -> the conventions' name of it; a kind that is not here is its own
PROVIDERS = {
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "vertex": "gcp.vertex_ai",
    "xai": "x_ai",
    "mistral": "mistral_ai",
}


def operation_of(endpoint: str) -> str:
    return OPERATIONS.get(endpoint, endpoint)


def provider_of(kind: str) -> str:
    return PROVIDERS.get(kind, kind)
