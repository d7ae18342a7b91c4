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
        ((), None),
        (("ValueError: " + "x" * 1000,), ("ValueError: " + "x" * 1000)[:300]),
    ],
)
def test_the_line_that_says_why_is_found(lines: tuple[str, ...], told: str | None) -> None:
    cause = Cause()
    for line in lines:
        cause.add(line)
    assert cause.told == told
