"""What an error of an engine's connection means: whether the engine is lost, of which its supervisor hears at once."""

from contract.errors import (
    AnswerTooLarge,
    AttemptError,
    AttemptTimeout,
    ConnectFailed,
    ConnectionLost,
    EngineLost,
    EngineRefused,
    EngineUnavailable,
    StreamCut,
    UpstreamError,
)
from providers.http.port import HttpClient
from providers.local.health import LOST, health, refused
from providers.local.port import Supervisor
from providers.local.process import EngineAddress

SHOWS_WITHIN_S = 0.5  # how much later than its connections' end an engine's exit, or its core's, may be seen
ANSWERS_WITHIN_S = 2.0  # who asks waits for it


async def judged(error: AttemptError, supervisor: Supervisor, address: EngineAddress, client: HttpClient) -> AttemptError:
    """The error to raise for it: what the engine's death caused is named so. EngineUnavailable: nothing of the request reached it."""
    name, spec, generation = supervisor.spec.name, supervisor.spec, address.generation
    if isinstance(error, AnswerTooLarge):
        return EngineRefused(f"{error.message}: the engine {name!r} was asked for more than can be told at once")
    if isinstance(error, AttemptTimeout) and error.clock == "idle":
        supervisor.give_up(generation, f"gave no token for {spec.clocks.idle_s:g} s")
    if isinstance(error, UpstreamError) and spec.kind == "vllm":  # whose server outlives its core by seconds, and fails every request meanwhile
        found = await health(client, address, ANSWERS_WITHIN_S)
        if found in LOST:
            supervisor.give_up(generation, LOST[found])
    elif isinstance(error, ConnectFailed) and refused(error):
        supervisor.give_up(generation, LOST["refused"])
    elif not isinstance(error, ConnectFailed | ConnectionLost | StreamCut):
        return error
    if not await supervisor.is_lost(generation, SHOWS_WITHIN_S):
        return error
    if isinstance(error, ConnectFailed):
        return EngineUnavailable(f"the engine {name!r} is not ready yet", retry_after_s=supervisor.retry_after_s)
    return EngineLost(f"the engine {name!r} died while it answered", retry_after_s=supervisor.retry_after_s)
