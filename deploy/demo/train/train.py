"""Trains the demo model and exports it in the Hugging Face layout.

    python3 train.py CORPUS.jsonl OUT_DIR [--lengths 512,4096 --steps 500,40] [--checkpoint FILE]

Training runs in phases, each with a window length and a number of steps; every
step sees about TOKENS_PER_STEP tokens.  The weights are exported after every
evaluation, so OUT_DIR always holds the latest; with --checkpoint, a run that was
stopped (by SIGTERM after a whole step, or at its last evaluation) goes on where it
was, also under a changed schedule.  Same corpus, arguments and machine: same weights.
"""

import argparse
import json
import math
import pathlib
import signal
import time

import numpy as np
import torch
import torch.nn.functional as F

import bpe
import dataset
import export
from model import Config, Llama

TOKENS_PER_STEP = 4096
WARMUP_STEPS = 100
PEAK_RATE, FINAL_RATE = 3e-3, 1e-4
WEIGHT_DECAY = 0.1
CLIP = 1.0
EVAL_LENGTH = 1024


def schedule(phases):
    """Returns the window length of every step."""
    return [length for length, steps in phases for _ in range(steps)]


def rate(step, total):
    """Returns the learning rate: linear warm-up, then a cosine to FINAL_RATE."""
    if step < WARMUP_STEPS:
        return PEAK_RATE * (step + 1) / WARMUP_STEPS
    part = (step - WARMUP_STEPS) / max(1, total - WARMUP_STEPS)
    return FINAL_RATE + (PEAK_RATE - FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * part))


def make_optimizer(model):
    """AdamW; norm weights and the embedding are not decayed."""
    decayed = [p for n, p in model.named_parameters() if p.dim() == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.dim() != 2 or "embed" in n]
    groups = [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=PEAK_RATE, betas=(0.9, 0.95), eps=1e-8)


def loss_of(model, batch, reduction="mean"):
    """Returns the cross entropy of a (rows, length + 1) batch, in nats."""
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(batch[:, :-1])
    return F.cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten(), reduction=reduction)


def train_step(model, optimizer, batch, learning_rate):
    """Does one update; returns the loss as a float."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    loss = loss_of(model, batch)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.item()


@torch.no_grad()
def evaluate(model, tokenizer, documents, length):
    """Returns nats per token and bits per byte on whole documents.

    A document is cut into pieces of `length` tokens that do not see each other,
    so the first tokens of a piece are predicted with little context.
    """
    nats = tokens = 0
    for document in documents:
        ids = torch.tensor([dataset.encode_document(tokenizer, document["text"])])
        for begin in range(0, ids.shape[1] - 1, length):
            piece = ids[:, begin:begin + length + 1]
            nats += loss_of(model, piece, "sum").item()
            tokens += piece.shape[1] - 1
    size = sum(len(d["text"].encode()) for d in documents)
    return {"nats_per_token": nats / tokens, "bits_per_byte": nats / math.log(2) / size,
            "tokens": tokens, "bytes": size, "length": length}


class Run:
    """A training run that can be stopped and resumed."""

    def __init__(self, args):
        self.args = args
        train, self.validation = (dataset.read_corpus(args.corpus, s) for s in ("train", "validation"))
        torch.manual_seed(args.seed)
        self.model = Llama(Config())
        self.tokenizer = self._tokenizer(train)
        self.windows = dataset.Windows(train, self.tokenizer, args.seed)
        self.optimizer = make_optimizer(self.model)
        self.lengths = schedule(zip(args.lengths, args.steps))
        self.step = self.tokens = 0
        self.seconds = 0.0
        self.stopping = False
        signal.signal(signal.SIGTERM, self._stop)
        self._resume()

    def _stop(self, *_):
        self.stopping = True

    def _tokenizer(self, documents):
        """Reuses the exported tokenizer, so that a second run keeps the token ids."""
        path = self.args.out / "tokenizer.json"
        if path.exists():
            return bpe.Tokenizer.load(path)
        merges = bpe.train([d["text"] for d in documents], self.model.config.vocab_size)
        return bpe.Tokenizer(merges)

    def _rows(self, length):
        return max(1, TOKENS_PER_STEP // length)

    def _resume(self):
        path = self.args.checkpoint
        if not path or not path.exists():
            return
        state = torch.load(path)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.tokens, self.seconds = state["step"], state["tokens"], state["seconds"]
        for length in self.lengths[:self.step]:
            self.windows.skip(self._rows(length), length)

    def _save(self):
        if not self.args.checkpoint:
            return
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
                 "step": self.step, "tokens": self.tokens, "seconds": self.seconds}
        partial = self.args.checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.args.checkpoint)

    def loop(self):
        """Trains to the end of the schedule."""
        losses = []
        while self.step < len(self.lengths) and not self.stopping:
            began = time.monotonic()
            length = self.lengths[self.step]
            batch = torch.from_numpy(self.windows.batch(self._rows(length), length))
            losses.append(train_step(self.model, self.optimizer, batch, rate(self.step, len(self.lengths))))
            self.seconds += time.monotonic() - began
            self.tokens += batch.shape[0] * length
            self.step += 1
            if self.step % 50 == 0:
                print(f"step {self.step}/{len(self.lengths)} length {length} loss {np.mean(losses[-50:]):.4f} "
                      f"{self.tokens / self.seconds:.0f} tokens/s {self.seconds:.0f} s", flush=True)
            if self.step % self.args.evaluate_every == 0 or self.step == len(self.lengths):
                self._checkpoint()
        self._save()

    def _checkpoint(self):
        self._save()
        scores = evaluate(self.model, self.tokenizer, self.validation, EVAL_LENGTH)
        print("validation", json.dumps(scores), flush=True)
        export.write(self.args.out, self.model, self.tokenizer)


def numbers(text):
    return [int(n) for n in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("corpus", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--lengths", type=numbers, default=[512, 2048, 4096], help="window length of each phase")
    parser.add_argument("--steps", type=numbers, default=[2700, 120, 306], help="steps of each phase")
    parser.add_argument("--evaluate-every", type=int, default=500, metavar="STEPS")
    parser.add_argument("--checkpoint", type=pathlib.Path, help="state to resume from and save to")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    run = Run(args)
    print("parameters", sum(p.numel() for p in run.model.parameters()), "prose and chat tokens", run.windows.sizes())
    run.loop()


if __name__ == "__main__":
    main()
