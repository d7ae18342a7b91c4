"""The matrix's named gaps: what is neither done nor refused, each with its reason. A gap that is none any more fails its cell."""

# (dialect or *, provider or *, feature): why
_NUMBERS = "the dialect demands numbers: a count that the provider does not tell of is shown as 0"
GAPS: dict[tuple[str, str, str], str] = {
    **{("responses", provider, "usage"): _NUMBERS for provider in ("anthropic_messages", "bedrock", "cohere", "mistral")},
    (
        "chat",
        "mistral",
        "signature",
    ): "the answer's bytes pass in OpenAI's form, which has no place for the signature: the reasoning goes back unsigned",
}
# what a dialect has no words for: its cells are empty
NOT_IN_DIALECT = {
    "chat": {
        "file_url": "the dialect has no file by URL",
        "result_image": "the dialect's results are text",
        "tool_error": "a result cannot be said to be an error",
    },
    "completions": {"*": "the dialect is one prompt and one text"},
    "responses": {
        "audio": "the dialect has no audio as input",
        "tool_error": "a result cannot be said to be an error",
        "stop": "the dialect has no stop sequences",
        "n": "the dialect gives one answer",
        "seed": "the dialect has no seed",
        "top_k": "the dialect has no top_k",
        "penalty": "the dialect has no penalties",
        "cache_control": "the dialect marks nothing for a cache",
    },
    "messages": {
        "audio": "the dialect has no audio",
        "json_mode": "the dialect has no JSON without a schema",
        "refusal": "a refusal is a stop reason, and is told as the content filter is",
        "logprobs": "the dialect tells none",
        "n": "the dialect gives one answer",
        "seed": "the dialect has no seed",
        "penalty": "the dialect has no penalties",
        "metadata": "the dialect's metadata is the user alone",
    },
}


def gap(dialect: str, provider: str, feature: str) -> str | None:
    keys = [(d, p, feature) for d in (dialect, "*") for p in (provider, "*")]
    return next((GAPS[key] for key in keys if key in GAPS), None)


def not_in_dialect(dialect: str, feature: str) -> str | None:
    absent = NOT_IN_DIALECT[dialect]
    return absent.get(feature, absent.get("*"))
