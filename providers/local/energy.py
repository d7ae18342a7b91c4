"""What an engine's GPUs have used, as NVIDIA's library counts it; nothing without that library, a driver or a GPU that tells."""

from collections.abc import Callable
from importlib import import_module
from typing import Any


def energy_meter(gpus: tuple[int, ...] | None) -> Callable[[], int | None]:
    """Millijoules of these GPUs (None: of all) since their driver was loaded; None: not told. `nvidia-ml-py` is there where vLLM is, or is added."""
    try:
        nvml: Any = import_module("pynvml")
        nvml.nvmlInit()
        devices = [nvml.nvmlDeviceGetHandleByIndex(at) for at in (range(nvml.nvmlDeviceGetCount()) if gpus is None else gpus)]
    except Exception:  # noqa: BLE001 - no library, no driver, no such GPU: its own errors cannot be named without it
        return lambda: None

    def read() -> int | None:
        try:
            return sum(int(nvml.nvmlDeviceGetTotalEnergyConsumption(device)) for device in devices) if devices else None
        except nvml.NVMLError:  # a GPU that does not count, or fell off its bus
            return None

    return read
