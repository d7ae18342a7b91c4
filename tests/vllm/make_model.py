"""Run by vLLM's own Python: makes what tests/vllm needs of a GGUF file. `make_model.py GGUF FOLDER`.

`checkpoint`: its weights. `adapter`: a small LoRA adapter for them, of random numbers. `thinker`: the checkpoint with two tokens for its thoughts,
of which it says `</think>` where it would end a sentence. `seer`: a tiny LLaVA of random numbers with its tokenizer, which sees 16 patches an image.
"""

import json
import os
import shutil
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    GgufConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

RANK = 4
SCALE = 0.05  # of the adapter's numbers: it must change what is said
UNUSED = {"<think>": "<jupyter_script>", "</think>": "<empty_output>", "<image>": "<jupyter_output>"}  # tokens that get another name
LOUDER = 1.2  # than the full stop is the end of the thoughts, wherever that would come
IMAGE, PATCH = 56, 14  # pixels


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


def with_names(checkpoint: Path, folder: Path, names: tuple[str, ...], special: bool) -> None:
    """The checkpoint's tokenizer with those tokens instead of others that its model never says."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in ("tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        shutil.copy(checkpoint / file, folder / file)
    tokenizer = json.loads((checkpoint / "tokenizer.json").read_text())
    for name in names:
        tokenizer["model"]["vocab"][name] = tokenizer["model"]["vocab"].pop(UNUSED[name])
        (added,) = [each for each in tokenizer["added_tokens"] if each["content"] == UNUSED[name]]
        added |= {"content": name, "special": special}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


def make_thinker(checkpoint: Path, folder: Path) -> None:
    with_names(checkpoint, folder, ("<think>", "</think>"), special=False)
    shutil.copy(checkpoint / "config.json", folder / "config.json")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    weights = load_file(checkpoint / "model.safetensors")
    said = weights["model.embed_tokens.weight"]  # which is what its tokens are chosen by, too
    said[tokenizer.convert_tokens_to_ids("</think>")] = LOUDER * said[tokenizer.convert_tokens_to_ids(".")]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def make_seer(checkpoint: Path, folder: Path) -> None:
    with_names(checkpoint, folder, ("<image>",), special=True)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    known = json.loads((checkpoint / "config.json").read_text())
    ends = {name: known[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    size = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = LlamaConfig(vocab_size=known["vocab_size"], num_key_value_heads=2, max_position_embeddings=2048, **size, **ends)
    vision = CLIPVisionConfig(image_size=IMAGE, patch_size=PATCH, projection_dim=64, **size)
    image = tokenizer.convert_tokens_to_ids("<image>")
    torch.manual_seed(7)
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_id=image, image_seq_length=(IMAGE // PATCH) ** 2)
    LlavaForConditionalGeneration(config).to(torch.bfloat16).save_pretrained(folder)
    pixels = CLIPImageProcessorPil(size={"shortest_edge": IMAGE}, crop_size={"height": IMAGE, "width": IMAGE})
    LlavaProcessor(
        pixels, tokenizer, PATCH, "default", chat_template=tokenizer.chat_template, image_token="<image>", num_additional_image_tokens=1
    ).save_pretrained(folder)


if __name__ == "__main__":
    place = Path(sys.argv[2])
    make_checkpoint(Path(sys.argv[1]), place / "checkpoint")
    make_adapter(place / "checkpoint", place / "adapter")
    make_thinker(place / "checkpoint", place / "thinker")
    make_seer(place / "checkpoint", place / "seer")
