"""What each family of models behind Bedrock takes: sampling, and in `additionalModelRequestFields` its own words.

Sources: docs.aws.amazon.com/bedrock/latest/userguide (model-parameters, inference-reasoning, structured-output, prompt-caching). A model that is
named by an ARN without its family, as an application's inference profile, gets what all take.
"""

import re
from typing import Any

from contract import requests as r
from providers.wires.anthropic_messages.models import model_of
from providers.wires.anthropic_messages.request_encoder import fitted_sampling, fitted_thinking
from providers.wires.effort import effort_of
from providers.wires.losses import Losses

NAME = "bedrock"
REGION = re.compile(r"^(?:us|us-gov|eu|apac|jp|au|ca|sa|global)\.")  # of a system's inference profile
# userguide/structured-output, prompt-caching
_STRUCTURED = re.compile(
    r"claude-(?:haiku|sonnet|opus)-4-[56](?!\d)"
    r"|\.(?:qwen3|minimax-m2|nemotron-nano|gemma-3-(?:12|27)b|magistral-small|ministral-3|mistral-large-3|voxtral|gpt-oss|kimi-k2|v3)"
)
_UNSTRUCTURED = re.compile(r"(?:^|\.)(?:amazon|meta|cohere|ai21|writer)\.|claude-opus-4-1")
_LEVELS = {"minimal": "low", "low": "low", "high": "high", "xhigh": "high"}
Body = dict[str, Any]


def is_claude(model: str) -> bool:
    return "anthropic." in model


def takes_unsigned(model: str) -> bool:
    """Whether reasoning that no signature closes may come back: Claude signs its own, DeepSeek takes none."""
    return not is_claude(model) and "deepseek." not in model


def structured(model: str) -> bool | None:
    """Whether the model can be held to a schema; None: not known."""
    if _UNSTRUCTURED.search(model) or (is_claude(model) and not model_of(model).structured):
        return False
    return True if _STRUCTURED.search(model) else None


def caches(model: str) -> bool:
    """Whether a prompt may hold cache points."""
    return caches_tools(model) or "amazon.nova" in model


def caches_tools(model: str) -> bool:
    return is_claude(model) or model.startswith("arn:")


def prefills(model: str) -> bool:
    """Whether the model goes on from an answer that the client began."""
    return not is_claude(model) or model_of(model).prefill


def fitted(request: r.ChatRequest, model: str, losses: Losses) -> tuple[Body, Body]:
    """`inferenceConfig` and `additionalModelRequestFields`."""
    additional, sampling = _claude(request, model, losses) if is_claude(model) else _other(request, model, losses)
    inference = {
        "maxTokens": request.max_output_tokens,
        "temperature": sampling.get("temperature"),
        "topP": sampling.get("top_p"),
        "stopSequences": list(request.stop) or None,
    }
    return {name: value for name, value in inference.items() if value is not None}, additional


def _claude(request: r.ChatRequest, model: str, losses: Losses) -> tuple[Body, Body]:
    traits = model_of(model)
    additional, _ = fitted_thinking(request, traits, losses, NAME)
    sampling = fitted_sampling(request, traits, "thinking" in additional, losses)
    if (top_k := sampling.pop("top_k", None)) is not None:
        additional["top_k"] = top_k
    return additional, sampling


def _other(request: r.ChatRequest, model: str, losses: Losses) -> tuple[Body, Body]:
    sampling = request.sampling
    for name in ("top_k", "frequency_penalty", "presence_penalty", "seed", "logit_bias"):
        if getattr(sampling, name):
            losses.lose(name)
    if sampling.logprobs or sampling.top_logprobs:
        losses.lose("logprobs")
    if sampling.n is not None and sampling.n > 1:
        losses.lose("n")
    temperature = sampling.temperature
    if temperature is not None and temperature > 1:  # OpenAI's goes up to 2
        losses.lose("temperature")
        temperature = 1.0
    return _reasoning(request, model, losses), {"temperature": temperature, "top_p": sampling.top_p}


def _reasoning(request: r.ChatRequest, model: str, losses: Losses) -> Body:
    if request.reasoning is None or request.reasoning.effort == "none":
        return {}
    level = _LEVELS.get(effort_of(request.reasoning) or "", "medium")
    if "amazon.nova" in model:
        return {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": level}}
    if "openai." in model:
        return {"reasoning_effort": level}
    if "qwen." in model:
        return {"reasoning_config": "low" if level == "low" else "high"}
    losses.lose("reasoning")
    return {}
