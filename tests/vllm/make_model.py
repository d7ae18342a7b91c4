"""Run by vLLM's own Python: makes a checkpoint of a GGUF file, and a small LoRA adapter for it with random weights. `make_model.py GGUF FOLDER`."""

import json
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

RANK = 4
SCALE = 0.05  # of the adapter's numbers: it must change what is said


def make_checkpoint(gguf: Path, folder: Path) -> None:
    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    AutoTokenizer.from_pretrained(**source).save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True))
    model.save_pretrained(folder)


def make_adapter(checkpoint: Path, folder: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    hidden = config["hidden_size"]
    torch.manual_seed(7)
    weights = {}
    for layer in range(config["num_hidden_layers"]):
        name = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        weights[f"{name}.lora_A.weight"] = torch.randn(RANK, hidden) * SCALE
        weights[f"{name}.lora_B.weight"] = torch.randn(hidden, RANK) * SCALE
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "adapter_model.safetensors")
    said = {"peft_type": "LORA", "r": RANK, "lora_alpha": 16, "target_modules": ["q_proj"], "bias": "none", "task_type": "CAUSAL_LM"}
    (folder / "adapter_config.json").write_text(json.dumps({**said, "base_model_name_or_path": str(checkpoint)}))


if __name__ == "__main__":
    place = Path(sys.argv[2])
    make_checkpoint(Path(sys.argv[1]), place / "checkpoint")
    make_adapter(place / "checkpoint", place / "adapter")
