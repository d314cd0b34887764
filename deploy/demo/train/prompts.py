"""Cuts the demo's long documents out of the corpus.

    python3 prompts.py CORPUS.jsonl MODEL_DIR OUT_DIR

Each file holds whole paragraphs from the beginning of one chapter, without its
title, MIN_TOKENS to MAX_TOKENS long under the model's tokenizer.
"""

import argparse
import json
import pathlib

import bpe

MIN_TOKENS, MAX_TOKENS = 1000, 1600

# File name -> (source, title, split); where a novel numbers its chapters anew in each volume,
# the split tells which one is meant.
PASSAGES = {
    "austen-dinner-at-the-coles": ("Emma", "Chapter VIII", "validation"),
    "austen-netherfield-ball": ("Pride and Prejudice", "Chapter 18", "validation"),
    "austen-tour-of-northanger-abbey": ("Northanger Abbey", "Chapter 23", "validation"),
    "kjv-isaiah-43": ("King James Bible", "Isaiah 43", "validation"),
    "melville-the-chapel": ("Moby Dick", "Chapter 7. The Chapel", "validation"),
    "newton-query-31-forces-between-particles": ("Opticks", "Quest. 31", "train"),
}


def passage(text, tokenizer):
    """Returns as many leading lines of the chapter's body as fit in MAX_TOKENS, and their token count."""
    taken = ""
    for line in text.partition("\n\n")[2].splitlines(keepends=True):
        if len(tokenizer.encode(taken + line)) > MAX_TOKENS:
            break
        taken += line
    taken = taken.strip() + "\n"
    return taken, len(tokenizer.encode(taken))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("corpus", type=pathlib.Path)
    parser.add_argument("model", type=pathlib.Path, help="folder with tokenizer.json")
    parser.add_argument("out", type=pathlib.Path)
    args = parser.parse_args()
    tokenizer = bpe.Tokenizer.load(args.model / "tokenizer.json")
    with open(args.corpus, encoding="utf-8") as f:
        texts = {(d["source"], d["title"], d["split"]): d["text"] for d in map(json.loads, f)}
    args.out.mkdir(parents=True, exist_ok=True)
    for name, key in PASSAGES.items():
        text, size = passage(texts[key], tokenizer)
        if size < MIN_TOKENS:
            raise SystemExit(f"{name}: {size} tokens, want at least {MIN_TOKENS}")
        (args.out / f"{name}.txt").write_text(text, encoding="utf-8")
        print(f"{name}.txt: {size} tokens, {len(text.encode())} bytes, {key}")


if __name__ == "__main__":
    main()
