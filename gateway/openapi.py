"""OpenAPI documentation of the inference routes, which FastAPI does not see (docs/decisions/003)."""

from typing import Any

from gateway.endpoints import ENDPOINTS, InferenceEndpoint
from gateway.overrides import MAX_DEADLINE_MS, MAX_REGIONS, MAX_USD, MEMBER

_JSON_TYPES: dict[str, Any] = {
    "a string": {"type": "string"},
    "a number": {"type": "number"},
    "true or false": {"type": "boolean"},
    "an array": {"type": "array", "items": {}},
    "an object": {"type": "object"},
    "a string or an array": {"anyOf": [{"type": "string"}, {"type": "array", "items": {}}]},
    "a string or an array of strings": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
    "a string or an object": {"anyOf": [{"type": "string"}, {"type": "object"}]},
}
_TEXT = {"type": ["string", "null"]}
_OPENAI_FIELDS = ("message", "type", "param", "code", "request_id")
_ANTHROPIC_FIELDS = ("type", "message", "code", "param")
OPENAI_ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": [*_OPENAI_FIELDS, "attempts"],
            "properties": {**dict.fromkeys(_OPENAI_FIELDS, _TEXT), "attempts": {"type": "integer"}},
        }
    },
}
ANTHROPIC_ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["type", "error", "request_id"],
    "properties": {
        "type": {"const": "error"},
        "error": {
            "type": "object",
            "required": [*_ANTHROPIC_FIELDS, "attempts"],
            "properties": {**dict.fromkeys(_ANTHROPIC_FIELDS, _TEXT), "attempts": {"type": "integer"}},
        },
        "request_id": {"type": "string"},
    },
}
ERRORS = {
    "400": "The request is malformed, the provider refused it, or no target can honour one of its fields.",
    "401": "No key, or one that is not known.",
    "403": "The policy leaves no target, or the team may not override it.",
    "404": "No such model for this key.",
    "408": "The request's body did not come in time.",
    "413": "The body is too large.",
    "415": "The body's content type is not the endpoint's.",
    "429": "Every target is rate limited; `retry-after` says when to try again.",
    "502": "Every target failed.",
    "503": "No target is available; `retry-after` says when to try again.",
    "504": "Every target took too long.",
}
REGIONS = {"anyOf": [{"enum": ["any", "local_only"]}, {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": MAX_REGIONS}]}
OVERRIDES = {
    "type": ["object", "null"],
    "description": "What the request says of its own policy, where its team may; never sent to a provider.",
    "additionalProperties": False,
    "properties": {
        "policy": {"type": "string"},
        "deadline_ms": {"type": "number", "minimum": 1, "maximum": MAX_DEADLINE_MS},
        "max_cost_usd": {"type": "number", "minimum": 0, "maximum": MAX_USD},
        "residency": REGIONS,
    },
}
HEADERS = {
    "x-turnout-policy": {"type": "string"},
    "x-turnout-deadline-ms": {"type": "number", "minimum": 1, "maximum": MAX_DEADLINE_MS},
    "x-turnout-max-cost": {"type": "number", "minimum": 0, "maximum": MAX_USD},
    "x-turnout-residency": {"type": "string", "description": "`local_only`, or regions with commas between them"},
}
SUMMARIES = {
    "/v1/chat/completions": "Create a chat completion (OpenAI)",
    "/v1/completions": "Create a completion (OpenAI, legacy)",
    "/v1/responses": "Create a response (OpenAI)",
    "/v1/embeddings": "Create embeddings (OpenAI)",
    "/v1/messages": "Create a message (Anthropic)",
    "/v1/messages/count_tokens": "Count a message's tokens (Anthropic)",
}


def _body_schema(endpoint: InferenceEndpoint) -> dict[str, Any]:
    form = endpoint.form
    properties: dict[str, Any] = {name: _JSON_TYPES[kind] for name, kind in form.kinds.items()}
    if not form.multipart:
        properties[MEMBER] = OVERRIDES
    properties["model"] = {"type": "string", "description": "a name that GET /v1/models lists"}
    required = [*([] if form.default_model else ["model"]), *form.required]
    return {"type": "object", "additionalProperties": True, "properties": properties, "required": required}


def _operation(path: str, endpoint: InferenceEndpoint) -> dict[str, Any]:
    form = endpoint.form
    error = ANTHROPIC_ERROR if form.dialect.startswith("anthropic") else OPENAI_ERROR
    content: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    if "stream" in form.kinds:
        content["text/event-stream"] = {"schema": {"type": "string"}}
    if form.dialect == "passthrough":
        content["*/*"] = {"schema": {"type": "string", "format": "binary"}}
    return {
        "tags": ["inference"],
        "operationId": endpoint.name.replace(".", "_"),
        "summary": SUMMARIES.get(path, f"Passed through to a provider that has {form.path}"),
        "description": "Fields that are not listed pass through to a provider of the same dialect as they are.",
        "parameters": [{"name": name, "in": "header", "required": False, "schema": schema} for name, schema in HEADERS.items()],
        "requestBody": {"required": True, "content": {endpoint.media.decode(): {"schema": _body_schema(endpoint)}}},
        "responses": {
            "200": {"description": "The answer; an event stream when `stream` is true.", "content": content},
            **{status: {"description": text, "content": {"application/json": {"schema": error}}} for status, text in ERRORS.items()},
        },
    }


INFERENCE_PATHS: dict[str, Any] = {path: {"post": _operation(path, endpoint)} for path, endpoint in ENDPOINTS.items()}
