"""OpenAPI documentation of the inference routes, which FastAPI does not see (docs/decisions/003)."""

from typing import Any

from gateway.peek import FIELD_KINDS

_JSON_TYPES: dict[str, Any] = {
    "a string": {"type": "string"},
    "a number": {"type": "number"},
    "true or false": {"type": "boolean"},
    "an array": {"type": "array", "items": {}},
    "an object": {"type": "object"},
    "a string or an array of strings": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
    "a string or an object": {"anyOf": [{"type": "string"}, {"type": "object"}]},
}
_ERROR_FIELDS = ("message", "type", "param", "code", "request_id")
ERROR_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": [*_ERROR_FIELDS, "attempts"],
            "properties": {**{name: {"type": ["string", "null"]} for name in _ERROR_FIELDS}, "attempts": {"type": "integer"}},
        }
    },
}
CHAT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["model", "messages"],
    "additionalProperties": True,
    "properties": {
        "model": {"type": "string", "description": "a name that GET /v1/models lists"},
        **{name: _JSON_TYPES[kind] for name, kind in FIELD_KINDS.items()},
    },
}


def _error(description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": ERROR_SCHEMA}}}


INFERENCE_PATHS: dict[str, Any] = {
    "/v1/chat/completions": {
        "post": {
            "tags": ["inference"],
            "operationId": "create_chat_completion",
            "summary": "Create a chat completion (OpenAI's dialect)",
            "description": "Fields that are not listed pass through to the provider as they are.",
            "requestBody": {"required": True, "content": {"application/json": {"schema": CHAT_SCHEMA}}},
            "responses": {
                "200": {
                    "description": "The provider's answer; an event stream when `stream` is true.",
                    "content": {"application/json": {"schema": {"type": "object"}}, "text/event-stream": {"schema": {"type": "string"}}},
                },
                "400": _error("The request is malformed, or the provider refused it."),
                "401": _error("No key, or one that is not known."),
                "403": _error("The policy leaves no target."),
                "404": _error("No such model for this key."),
                "408": _error("The request's body did not come in time."),
                "413": _error("The body is too large."),
                "415": _error("The body is not JSON by its content type."),
                "429": _error("Every target is rate limited; `retry-after` says when to try again."),
                "502": _error("Every target failed."),
                "503": _error("No target is available; `retry-after` says when to try again."),
                "504": _error("Every target took too long."),
            },
        }
    }
}
