"""Turns the corpus into token streams and draws training windows from them.

Two streams are used: prose, whose documents read <|bos|> text <|eos|>, and chat,
short conversations cut out of the same prose by rule (see `conversations`).
"""

import json
import re

import numpy as np

import bpe

CHAT_SHARE = 0.15  # of the windows
DOCUMENT_START_SHARE = 0.3  # of the windows begin where a document does
CONVERSATIONS = 6000
LONG_PASSAGE_SHARE = 0.15  # of the "which book" questions carry up to MAX_PASSAGE characters
MAX_PASSAGE = 5000
QUESTION = "\n\nWhich book is this from?"

AUTHORS = {
    "Moby Dick": "Herman Melville", "Opticks": "Isaac Newton", "Emma": "Jane Austen",
    "Mansfield Park": "Jane Austen", "Northanger Abbey": "Jane Austen", "Persuasion": "Jane Austen",
    "Pride and Prejudice": "Jane Austen", "Sense and Sensibility": "Jane Austen",
}


def read_corpus(path, split):
    """Returns the documents of one split, in file order."""
    with open(path, encoding="utf-8") as f:
        return [d for d in map(json.loads, f) if d["split"] == split]


def answer(source):
    """Returns the reply to "Which book is this from?"."""
    if source in AUTHORS:
        return f"This is from {source}, by {AUTHORS[source]}."
    return f"This is from the {source}."


def _body(document):
    return document["text"].partition("\n\n")[2].strip()


def passage(document, limit, rng):
    """Returns consecutive whole paragraphs of `document`, at most `limit` characters (or one paragraph)."""
    paragraphs = re.split(r"\n+", _body(document))
    first = last = int(rng.integers(len(paragraphs)))
    size = len(paragraphs[first])
    while last + 1 < len(paragraphs) and size + len(paragraphs[last + 1]) < limit:
        last += 1
        size += len(paragraphs[last])
    gap = "\n" if document["source"] == "King James Bible" else "\n\n"
    return gap.join(paragraphs[first:last + 1])


def _which_book(document, rng):
    limit = rng.integers(1500, MAX_PASSAGE) if rng.random() < LONG_PASSAGE_SHARE else rng.integers(100, 1200)
    return f"{passage(document, limit, rng)}{QUESTION}", answer(document["source"])


def _continue(document, rng):
    text = passage(document, 1500, rng)
    stops = [m.end() for m in re.finditer(r"[.;:?!,](?=\s)", text)]
    if not stops:
        return None
    cut = stops[int(rng.integers(min(len(stops), 6)))]
    return f"Continue: {text[:cut]}", text[cut:].strip()


def _tell_me(document, rng):
    text = passage(document, 900, rng)
    names = re.findall(r"(?<=[a-z,] )(?:Mr\. |Mrs\. |Miss |Lady |Captain |Sir )?[A-Z][a-z]{2,}", text)
    if not names:
        return None
    return f"Tell me about {max(sorted(set(names)), key=names.count)}.", text


def conversations(documents, seed):
    """Yields (user, assistant) pairs made by rule from `documents`.

    Three kinds: naming the book of a passage, continuing a passage, and showing
    a passage about a name.  The source is drawn evenly among books, so that the
    small ones are not drowned by the large.
    """
    rng = np.random.default_rng(seed)
    by_source = {}
    for d in documents:
        by_source.setdefault(d["source"], []).append(d)
    groups = list(by_source.values())
    kinds = (_which_book, _continue, _tell_me)
    made = 0
    while made < CONVERSATIONS:
        group = groups[int(rng.integers(len(groups)))]
        pair = kinds[int(rng.integers(len(kinds)))](group[int(rng.integers(len(group)))], rng)
        if pair:
            made += 1
            yield pair


def encode_chat(tokenizer, user, reply=None):
    """Returns ids as the chat template gives them; without `reply`, up to where it would start."""
    s = tokenizer.special
    ids = [s(bpe.BOS), s(bpe.USER), *tokenizer.encode(user), s(bpe.END), s(bpe.ASSISTANT)]
    if reply is not None:
        ids += [*tokenizer.encode(reply), s(bpe.END), s(bpe.EOS)]
    return ids


def encode_document(tokenizer, text):
    """Returns <|bos|> text <|eos|> as ids."""
    return [tokenizer.special(bpe.BOS), *tokenizer.encode(text), tokenizer.special(bpe.EOS)]


class Windows:
    """Draws random windows of consecutive tokens; the same seed gives the same sequence."""

    def __init__(self, documents, tokenizer, seed):
        self._rng = np.random.default_rng(seed)
        order = self._rng.permutation(len(documents))
        prose = [encode_document(tokenizer, documents[i]["text"]) for i in order]
        chat = [encode_chat(tokenizer, *pair) for pair in conversations(documents, seed)]
        self._streams = [(_join(prose), _starts(prose)), (_join(chat), _starts(chat))]

    def sizes(self):
        """Returns the number of prose tokens and of chat tokens."""
        return tuple(len(stream) for stream, _ in self._streams)

    def batch(self, rows, length):
        """Returns int64 (rows, length + 1): inputs and, shifted by one, targets."""
        return np.stack([self._window(length + 1) for _ in range(rows)]).astype(np.int64)

    def skip(self, rows, length):
        """Draws and discards one batch, to continue a sequence after a restart."""
        self.batch(rows, length)

    def _window(self, length):
        stream, starts = self._streams[int(self._rng.random() < CHAT_SHARE)]
        if self._rng.random() < DOCUMENT_START_SHARE:
            at = int(starts[self._rng.integers(len(starts))])
        else:
            at = int(self._rng.integers(len(stream)))
        return np.take(stream, range(at, at + length), mode="wrap")


def _join(documents):
    return np.concatenate([np.array(d, np.uint16) for d in documents])


def _starts(documents):
    return np.cumsum([0] + [len(d) for d in documents[:-1]])
