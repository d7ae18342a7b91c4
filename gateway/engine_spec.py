"""An engine's settings as what its supervisor takes."""

from config.settings import EngineSettings
from providers.local.spec import EngineSpec
from providers.local.weights import resolve_model


def engine_spec(name: str, engine: EngineSettings) -> EngineSpec:
    """Raises WeightsNotFound, ValueError."""
    return EngineSpec(
        name=name,
        model_path=str(resolve_model(engine.model)),
        slots=engine.slots,
        ctx_per_slot=engine.context,
        max_prompt_tokens=engine.prompt_tokens,
        threads=engine.threads,
        max_queue=engine.max_queue,
        max_wait_s=engine.max_wait_s,
    )
