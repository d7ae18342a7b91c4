"""Why an engine ended, picked from its log."""

import pytest

from providers.local.cause import Cause

CORE = "(EngineCore pid=812) ERROR 11-27 10:00:00 [core.py:866] "
API = "(APIServer pid=800) "
ROOT = "ValueError: Available memory on node 0 (3.1/23.5 GiB) is less than the desired CPU memory utilization"
VLLM = (
    "(APIServer pid=800) INFO 11-27 09:59:58 [config.py:1] ImportError: no flash attention, falling back",
    CORE + "EngineCore failed to start.",
    CORE + "Traceback (most recent call last):",
    CORE + '  File "core.py", line 857, in run_engine_core',
    CORE + '    raise ValueError("Available memory on node 0")',
    CORE + ROOT,
    *(f"(EngineCore pid=812)   frame {number}" for number in range(300)),
    API + "Traceback (most recent call last):",
    API + "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}",
)


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (VLLM, ROOT),
        (
            ("Traceback (most recent call last):", "KeyError: 'a'", "During handling of …", "torch.OutOfMemoryError: CUDA"),
            "torch.OutOfMemoryError: CUDA",
        ),
        (
            ("loading", "llama_model_load: error loading model: tensor is out of bounds", "bye"),
            "llama_model_load: error loading model: tensor is out of bounds",
        ),
        (("loading", "bye"), "bye"),
        (("loading", "Traceback (most recent call last):", '  File "/a/b.py", line 3, in f', "    import g", "    ^^^^^^^^"), "loading"),
        (
            (API + "Traceback (most recent call last):", API + '  File "b.py", line 3', API + "    f()", API + "zmq.Unbound: taken"),
            "zmq.Unbound: taken",
        ),
        (("Traceback (most recent call last):", '  File "b.py", line 3', "    fail()", "SystemExit: 1", "Ready: no"), "SystemExit: 1"),
        (
            (
                API + "pydantic_core._pydantic_core.ValidationError: 1 validation error for VllmConfig",
                API + "  Value error, a step of 9 is short [type=value_error]",
                API + "    For further information visit https://errors.pydantic.dev/2.12/v/value_error",
            ),
            "pydantic_core._pydantic_core.ValidationError: 1 validation error for VllmConfig Value error, a step of 9 is short [type=value_error]",
        ),
        ((), None),
        (("ValueError: " + "x" * 1000,), ("ValueError: " + "x" * 1000)[:300]),
    ],
)
def test_the_line_that_says_why_is_found(lines: tuple[str, ...], told: str | None) -> None:
    cause = Cause()
    for line in lines:
        cause.add(line)
    assert cause.told == told


ULIMIT = "Found ulimit of 20000 and failed to automatically increase with error current limit exceeds maximum limit."
DEAD = (
    API
    + "ERROR 11-28 09:01:28 [async_llm.py:906] vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack trace (above)"
)
OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_what_it_said_as_it_started_is_no_cause_once_it_was_ready() -> None:
    cause = Cause()
    cause.add(ULIMIT)
    assert cause.told == ULIMIT
    cause.is_ready()
    assert cause.told is None
    cause.add("INFO:     Application startup complete.")
    assert cause.told is None


def test_of_one_that_was_ready_its_last_seconds_count() -> None:
    clock = Clock()
    cause = Cause(clock)
    cause.is_ready()
    cause.add("ValueError: one request's, an hour ago")
    clock.now += 3600
    assert cause.told is None
    cause.add(CORE + "ERROR 11-28 09:01:27 [core.py:1] EngineCore encountered a fatal error.")
    cause.add(CORE + OOM)
    clock.now += 2
    cause.add(DEAD)
    cause.add(API + "ERROR 11-28 09:01:28 [serving.py:1] ValueError: a stream was cut")
    assert cause.told == OOM


def test_an_exception_that_points_at_a_trace_names_no_cause() -> None:
    cause = Cause()
    cause.is_ready()
    cause.add(API + "ERROR 11-28 09:01:28 [core_client.py:1] Engine core proc EngineCore died unexpectedly, shutting down client.")
    cause.add(DEAD)
    assert cause.told == API + "ERROR 11-28 09:01:28 [core_client.py:1] Engine core proc EngineCore died unexpectedly, shutting down client."


def test_an_environment_without_vllm_is_told_with_what_makes_one() -> None:
    cause = Cause()
    cause.add("ModuleNotFoundError: No module named 'vllm'")
    assert cause.told == "ModuleNotFoundError: No module named 'vllm': `turnout engines install vllm` makes its environment"
