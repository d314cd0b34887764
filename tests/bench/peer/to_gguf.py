#!/usr/bin/env python3
"""Writes a Llama checkpoint (config.json + model.safetensors) as a GGUF file, BF16 or Q8_0.

For measuring llama.cpp beside Sluice on equal weights; random checkpoints only, so the vocabulary is made
up. Needs numpy (Debian: python3-numpy).

usage: to_gguf.py MODEL_DIR OUT.gguf bf16|q8_0
"""
import json
import pathlib
import struct
import sys

import numpy as np

ALIGNMENT = 32
U32, F32, STRING, ARRAY, I32 = 4, 6, 8, 9, 5
GGML_F32, GGML_Q8_0, GGML_BF16 = 0, 8, 30


def read_safetensors(path):
    """Yields (name, shape, raw 16-bit little-endian bf16 array)."""
    with open(path, "rb") as f:
        (length,) = struct.unpack("<Q", f.read(8))
        header = json.loads(f.read(length))
    data = np.memmap(path, dtype=np.uint8, mode="r", offset=8 + length)
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if entry["dtype"] != "BF16":
            sys.exit(f"{path}: tensor {name} is {entry['dtype']}; want BF16")
        begin, end = entry["data_offsets"]
        yield name, entry["shape"], data[begin:end].view(np.uint16)


def to_f32(bf16):
    return (bf16.astype(np.uint32) << 16).view(np.float32)


def permute(rows, heads, width):
    """From Hugging Face's rotate-half order of rotary pairs to GGUF's interleaved one."""
    half = rows.shape[0] // heads // 2
    return rows.reshape(heads, 2, half, width).swapaxes(1, 2).reshape(-1, width)


def quantize_q8_0(values):
    """Blocks of 32: one f16 scale, 32 int8."""
    blocks = values.reshape(-1, 32)
    scale = np.abs(blocks).max(axis=1, keepdims=True) / 127.0
    inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0)
    out = np.zeros(blocks.shape[0], dtype=[("d", "<f2"), ("q", "i1", 32)])
    out["d"] = scale[:, 0].astype(np.float16)
    out["q"] = np.rint(blocks * inverse).astype(np.int8)
    return out.tobytes()


NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
LAYER_NAMES = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def gguf_name(name):
    if name in NAMES:
        return NAMES[name]
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{LAYER_NAMES[rest.removesuffix('.weight')]}.weight"


def convert(name, shape, raw, config, kind):
    """Returns (ggml type, bytes)."""
    if len(shape) == 1:
        return GGML_F32, to_f32(raw).tobytes()
    rows = raw.reshape(shape)
    if "q_proj" in name:
        rows = permute(rows, config["num_attention_heads"], shape[1])
    elif "k_proj" in name:
        rows = permute(rows, config["num_key_value_heads"], shape[1])
    rows = np.ascontiguousarray(rows)
    if kind == "bf16":
        return GGML_BF16, rows.tobytes()
    return GGML_Q8_0, quantize_q8_0(to_f32(rows))


def text(s):
    data = s.encode()
    return struct.pack("<Q", len(data)) + data


def entry(key, kind, payload):
    return text(key) + struct.pack("<I", kind) + payload


def array(kind, items):
    return struct.pack("<IQ", kind, len(items)) + b"".join(items)


def metadata(config, kind):
    """A list of encoded key-value pairs."""
    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    u32 = {
        "general.file_type": 32 if kind == "bf16" else 7,
        "llama.context_length": config["max_position_embeddings"],
        "llama.embedding_length": config["hidden_size"],
        "llama.block_count": config["num_hidden_layers"],
        "llama.feed_forward_length": config["intermediate_size"],
        "llama.attention.head_count": heads,
        "llama.attention.head_count_kv": config["num_key_value_heads"],
        "llama.attention.key_length": head_dim,
        "llama.attention.value_length": head_dim,
        "llama.rope.dimension_count": head_dim,
        "llama.vocab_size": config["vocab_size"],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
    }
    words = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    types = [2, 3, 3] + [6] * 256  # unknown, control, byte
    words += [f"t{i}" for i in range(len(words), config["vocab_size"])]
    types += [1] * (len(words) - len(types))
    out = [entry("general.architecture", STRING, text("llama")),
           entry("tokenizer.ggml.model", STRING, text("llama")),
           entry("llama.attention.layer_norm_rms_epsilon", F32,
                 struct.pack("<f", config["rms_norm_eps"])),
           entry("llama.rope.freq_base", F32, struct.pack("<f", config.get("rope_theta", 1e4)))]
    out += [entry(key, U32, struct.pack("<I", value)) for key, value in u32.items()]
    out.append(entry("tokenizer.ggml.tokens", ARRAY, array(STRING, [text(w) for w in words])))
    out.append(entry("tokenizer.ggml.scores", ARRAY,
                     array(F32, [struct.pack("<f", -i) for i in range(len(words))])))
    out.append(entry("tokenizer.ggml.token_type", ARRAY,
                     array(I32, [struct.pack("<i", t) for t in types])))
    return out


def main():
    if len(sys.argv) != 4 or sys.argv[3] not in ("bf16", "q8_0"):
        sys.exit(__doc__)
    model, out_path, kind = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    config = json.loads((model / "config.json").read_text())
    tensors = []
    for name, shape, raw in read_safetensors(model / "model.safetensors"):
        tensors.append((gguf_name(name), shape, *convert(name, shape, raw, config, kind)))
    pairs = metadata(config, kind)
    head = struct.pack("<IIQQ", 0x46554747, 3, len(tensors), len(pairs)) + b"".join(pairs)
    offset = 0
    for name, shape, ggml_type, data in tensors:
        dims = struct.pack(f"<{len(shape)}Q", *reversed(shape))
        head += text(name) + struct.pack("<I", len(shape)) + dims
        head += struct.pack("<IQ", ggml_type, offset)
        offset += -(-len(data) // ALIGNMENT) * ALIGNMENT
    with open(out_path, "wb") as f:
        f.write(head + bytes(-len(head) % ALIGNMENT))
        for _, _, _, data in tensors:
            f.write(data + bytes(-len(data) % ALIGNMENT))


if __name__ == "__main__":
    main()
