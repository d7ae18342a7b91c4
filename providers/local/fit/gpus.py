"""GPUs by name: their memory, what they can compute with, and how much vLLM takes on at once on each."""

import msgspec

GIB = 1 << 30


class Gpu(msgspec.Struct, frozen=True):
    """`memory`: bytes, as CUDA reports them, the driver's own share taken out. `capability`: compute capability times ten."""

    name: str
    memory: int
    capability: int | None

    @property
    def batched_tokens(self) -> int:
        """vLLM's default for `--max-num-batched-tokens` under `vllm serve` (vllm/engine/arg_utils.py of 0.32)."""
        return 16_384 if self.memory >= 160 * GIB else 8192 if self._large else 2048

    @property
    def sequences(self) -> int:
        """vLLM's default for `--max-num-seqs`, from the same place."""
        return 1024 if self._large else 256

    @property
    def _large(self) -> bool:
        return self.memory >= 70 * GIB and not self.name.startswith("A100")


def _gpu(name: str, gib: float, capability: int) -> Gpu:
    return Gpu(name, int(gib * GIB), capability)


GPUS = {
    gpu.name: gpu
    for gpu in (
        _gpu("T4", 14.56, 75),
        _gpu("A10G", 21.98, 86),
        _gpu("L4", 21.95, 89),
        _gpu("RTX-4090", 23.5, 89),
        _gpu("RTX-5090", 31.3, 120),
        _gpu("A100-40GB", 39.38, 80),
        _gpu("L40S", 44.39, 89),
        _gpu("A6000", 47.4, 86),
        _gpu("A100-80GB", 79.1, 80),
        _gpu("H100", 79.1, 90),
        _gpu("H200", 139.7, 90),
        _gpu("B200", 178.3, 100),
    )
}
