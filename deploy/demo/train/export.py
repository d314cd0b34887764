"""Writes a trained model as a Hugging Face folder: safetensors in bf16, configs, tokenizer."""

import dataclasses
import json
import os
import struct

import torch

import bpe


def bf16_bytes(tensor):
    """Returns the tensor rounded to bf16, little-endian."""
    return tensor.detach().to(torch.bfloat16).contiguous().view(torch.int16).numpy().tobytes()


def write_safetensors(path, tensors):
    """Writes {name: tensor} as bf16: 8-byte header size, JSON header, then the data, in name order.

    The file appears whole or not at all.
    """
    header, blobs, at = {"__metadata__": {"format": "pt"}}, [], 0
    for name in sorted(tensors):
        blob = bf16_bytes(tensors[name])
        header[name] = {"dtype": "BF16", "shape": list(tensors[name].shape), "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    partial = path.with_suffix(".partial")
    partial.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))
    os.replace(partial, path)


def hf_config(config, tokenizer):
    """Returns config.json as a dict."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        **dataclasses.asdict(config),
        "hidden_act": "silu",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "mlp_bias": False,
        "initializer_range": 0.02,
        "pretraining_tp": 1,
        "rope_scaling": None,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "bos_token_id": tokenizer.special(bpe.BOS),
        "eos_token_id": tokenizer.special(bpe.EOS),
    }


def generation_config(tokenizer):
    """Returns generation_config.json as a dict; a reply ends at <|end|>, a text at <|eos|>."""
    return {
        "bos_token_id": tokenizer.special(bpe.BOS),
        "eos_token_id": [tokenizer.special(bpe.EOS), tokenizer.special(bpe.END)],
        "do_sample": True,
        "temperature": 0.8,
        "top_p": 0.95,
    }


def write(folder, model, tokenizer):
    """Writes everything but the model card into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"model.{name}": p for name, p in model.named_parameters()}
    write_safetensors(folder / "model.safetensors", tensors)
    tokenizer.save(folder, model.config.max_position_embeddings)
    for name, value in (("config.json", hf_config(model.config, tokenizer)),
                        ("generation_config.json", generation_config(tokenizer))):
        (folder / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
