"""Checks an exported model against torch with an independent numpy forward pass, and lets it write.

    python3 verify.py MODEL_DIR [--prompt TEXT] [--tokens N] [--corpus CORPUS.jsonl]

Reads model.safetensors and config.json by itself, computes logits in fp32, and
compares them with model.py on the same (bf16-rounded) weights.  With --corpus it
also scores the held-out documents and the "which book" question.
"""

import argparse
import dataclasses
import json
import math
import pathlib
import struct

import numpy as np
import torch

import bpe
import dataset
import model as torch_model

MAX_LOGIT_ERROR = 1e-3
QUESTIONS = 200


def read_safetensors(path):
    """Returns {name: fp32 array} of a bf16 safetensors file."""
    data = path.read_bytes()
    size, = struct.unpack_from("<Q", data)
    header = json.loads(data[8:8 + size])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        half = np.frombuffer(data[8 + size + begin:8 + size + end], "<u2").astype(np.uint32)
        tensors[name] = (half << 16).view(np.float32).reshape(entry["shape"])
    return tensors


class NumpyLlama:
    """One sequence, fp32, with a KV cache; written from the Llama definition, not from model.py."""

    def __init__(self, folder):
        self.config = json.loads((folder / "config.json").read_text())
        self.weights = read_safetensors(folder / "model.safetensors")
        self.cache = [([], []) for _ in range(self.config["num_hidden_layers"])]
        self.position = 0

    def _norm(self, x, name):
        scale = 1 / np.sqrt((x * x).mean() + self.config["rms_norm_eps"])
        return x * scale * self.weights[f"{name}.weight"]

    def _rotate(self, x):
        half = x.shape[-1] // 2
        angle = self.position * self.config["rope_theta"] ** (-np.arange(half) / half)
        cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
        low, high = x[:, :half], x[:, half:]
        return np.concatenate((low * cos - high * sin, high * cos + low * sin), -1)

    def _attend(self, x, layer, cache):
        heads, dim = self.config["num_attention_heads"], self.config["head_dim"]
        project = lambda which: (self.weights[f"{layer}.self_attn.{which}_proj.weight"] @ x).reshape(-1, dim)
        cache[0].append(self._rotate(project("k")))
        cache[1].append(project("v"))
        keys, values = np.stack(cache[0]), np.stack(cache[1])
        query, out = self._rotate(project("q")), []
        for head in range(heads):
            shared = head * self.config["num_key_value_heads"] // heads
            scores = keys[:, shared] @ query[head] / math.sqrt(dim)
            share = np.exp(scores - scores.max())
            out.append(share / share.sum() @ values[:, shared])
        return self.weights[f"{layer}.self_attn.o_proj.weight"] @ np.concatenate(out)

    def _mlp(self, x, layer):
        gate, up, down = (self.weights[f"{layer}.mlp.{n}_proj.weight"] for n in ("gate", "up", "down"))
        g = gate @ x
        return down @ (g / (1 + np.exp(-g)) * (up @ x))

    def step(self, token):
        """Appends one token; returns the logits of the next."""
        x = self.weights["model.embed_tokens.weight"][token]
        for i, cache in enumerate(self.cache):
            layer = f"model.layers.{i}"
            x = x + self._attend(self._norm(x, f"{layer}.input_layernorm"), layer, cache)
            x = x + self._mlp(self._norm(x, f"{layer}.post_attention_layernorm"), layer)
        self.position += 1
        return self.weights["model.embed_tokens.weight"] @ self._norm(x, "model.norm")


def load_torch(folder):
    """Returns model.py's Llama with the exported weights, in fp32."""
    values = json.loads((folder / "config.json").read_text())
    fields = [f.name for f in dataclasses.fields(torch_model.Config)]
    llama = torch_model.Llama(torch_model.Config(**{f: values[f] for f in fields}))
    tensors = read_safetensors(folder / "model.safetensors")
    llama.load_state_dict({n[len("model."):]: torch.from_numpy(t.copy()) for n, t in tensors.items()})
    return llama.eval()


def logit_error(folder, ids):
    """Returns the largest difference between the numpy and the torch logits over `ids`."""
    reference = NumpyLlama(folder)
    ours = np.stack([reference.step(i) for i in ids])
    with torch.no_grad():
        theirs = load_torch(folder)(torch.tensor([ids]))[0].numpy()
    return float(np.abs(ours - theirs).max())


def generate(folder, tokenizer, ids, count, temperature=0.0, seed=0):
    """Returns the text that follows `ids`; greedy at temperature 0.  Stops at <|eos|> and <|end|>."""
    rng, llama, out = np.random.default_rng(seed), NumpyLlama(folder), []
    for i in ids:
        logits = llama.step(i)
    stops = tokenizer.special(bpe.EOS), tokenizer.special(bpe.END)
    for _ in range(count):
        token = int(logits.argmax())
        if temperature > 0:
            chance = np.exp((logits - logits.max()).astype(np.float64) / temperature)
            token = int(rng.choice(len(chance), p=chance / chance.sum()))
        if token in stops:
            break
        out.append(token)
        logits = llama.step(token)
    return tokenizer.decode(out)


@torch.no_grad()
def bits_per_byte(llama, tokenizer, documents, length):
    """Returns (nats per token, bits per byte) on whole documents cut into pieces of `length` tokens."""
    nats = count = 0
    for document in documents:
        ids = torch.tensor([dataset.encode_document(tokenizer, document["text"])])
        for begin in range(0, ids.shape[1] - 1, length):
            piece = ids[:, begin:begin + length + 1]
            logits = llama(piece[:, :-1])[0]
            nats += torch.nn.functional.cross_entropy(logits, piece[0, 1:], reduction="sum").item()
            count += piece.shape[1] - 1
    return nats / count, nats / math.log(2) / sum(len(d["text"].encode()) for d in documents)


@torch.no_grad()
def which_book_accuracy(llama, tokenizer, documents, characters):
    """Returns the share of held-out passages whose book gets the likeliest of all answers."""
    answers = [tokenizer.encode(dataset.answer(s)) for s in [*dataset.AUTHORS, "King James Bible"]]
    rng, right = np.random.default_rng(0), 0
    for n in range(QUESTIONS):
        document = documents[n % len(documents)]
        prompt = dataset.encode_chat(tokenizer, dataset.passage(document, characters, rng) + dataset.QUESTION)
        scores = [_score(llama, prompt, a) for a in answers]
        right += answers[int(np.argmax(scores))] == tokenizer.encode(dataset.answer(document["source"]))
    return right / QUESTIONS


def _score(llama, prompt, reply):
    ids = torch.tensor([prompt + reply])
    chances = torch.log_softmax(llama(ids[:, :-1])[0, len(prompt) - 1:], -1)
    return chances.gather(1, ids[0, len(prompt):, None]).sum().item()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--prompt", default="It is a truth universally acknowledged, that")
    parser.add_argument("--tokens", type=int, default=120)
    parser.add_argument("--corpus", type=pathlib.Path, help="also score the validation documents")
    args = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = bpe.Tokenizer.load(args.model / "tokenizer.json")
    ids = [tokenizer.special(bpe.BOS), *tokenizer.encode(args.prompt)]
    error = logit_error(args.model, ids)
    print(f"largest logit difference to torch over {len(ids)} tokens: {error:.2e}")
    for temperature in (0.0, 0.8):
        text = generate(args.model, tokenizer, ids, args.tokens, temperature)
        print(f"--- temperature {temperature}\n{args.prompt}{text}")
    if args.corpus:
        score(args.model, tokenizer, dataset.read_corpus(args.corpus, "validation"))
    if error > MAX_LOGIT_ERROR:
        raise SystemExit(f"the export differs from torch: {error} > {MAX_LOGIT_ERROR}")


def score(folder, tokenizer, documents):
    """Prints the held-out scores of the exported weights."""
    llama = load_torch(folder)
    for length in (512, 1024, 2048, 4096):
        nats, bits = bits_per_byte(llama, tokenizer, documents, length)
        print(f"validation, context {length}: {nats:.4f} nats per token, {bits:.4f} bits per byte")
    for characters in (600, 4000):
        share = which_book_accuracy(llama, tokenizer, documents, characters)
        print(f"book named right, passages up to {characters} characters: {share:.1%}")


if __name__ == "__main__":
    main()
