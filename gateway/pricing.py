"""What a target of the configuration costs: its own price, or what genai-prices knows of its provider's model."""

from datetime import datetime

from config.settings import Settings, TargetSettings
from ledger.prices import Price, compile_price, override_price, price_at
from providers.registry import PROVIDER_KINDS


def price_of(settings: Settings, provider: str, model: str, entry: TargetSettings | None, at: datetime | None = None) -> Price | None:
    """`entry`: as it is listed among a model's targets. `at`: when; None: now. None: not known."""
    if entry is not None and entry.price is not None:
        return override_price(**entry.price.model_dump())
    price_provider = PROVIDER_KINDS[settings.providers[provider].kind].price_provider
    if price_provider is None or "*" in model:
        return None
    return compile_price(price_provider, model) if at is None else price_at(price_provider, model, at)


def entry_of(settings: Settings, route: str, provider: str, model: str) -> TargetSettings | None:
    """How a target stands among those of a route; a pattern's `*` is any model. None: the configuration lists it there no more."""
    listed = settings.models[route].targets if route in settings.models else ()
    ours = [entry for entry in listed if entry.provider == provider]
    for entry in ours:
        if (entry.model or route) == model:
            return entry
    return next((entry for entry in ours if "*" in (entry.model or route) and _matches(entry.model or route, model)), None)


def _matches(pattern: str, model: str) -> bool:
    before, _, after = pattern.partition("*")
    return len(model) >= len(before) + len(after) and model.startswith(before) and model.endswith(after)
