"""Byte-level BPE: a trainer, an encoder and the Hugging Face `tokenizer.json` writer.

The scheme is GPT-2's: text is cut into words by a regular expression, each word
is a string of bytes, each byte is shown as one printable character, and merges
join the two neighbours that were most frequent in the training text.  All 256
bytes are in the vocabulary, so every text can be encoded.
"""

import collections
import heapq
import json
import re

BOS, EOS, USER, ASSISTANT, END = SPECIALS = ("<|bos|>", "<|eos|>", "<|user|>", "<|assistant|>", "<|end|>")

# GPT-2's pattern, with \p{L} and \p{N} spelled for the standard library's `re`.
# The two differ from \p{..} only in characters that the corpus does not contain.
_WORD = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}")


def byte_characters():
    """Returns GPT-2's table: byte value -> the printable character that stands for it."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    table = {b: chr(b) for b in printable}
    table.update({b: chr(256 + i) for i, b in enumerate(others)})
    return table


_CHARACTERS = byte_characters()


def words(text):
    """Returns the pre-tokens of `text`, in byte characters."""
    return ["".join(_CHARACTERS[b] for b in w.encode()) for w in _WORD.findall(text)]


def train(texts, vocab_size):
    """Returns the merges, best first, that fill a vocabulary of `vocab_size` tokens.

    Works on distinct words and their counts, with an index from pair to words,
    so that a merge touches only the words that contain it.  Ties are broken by
    the pair's text: the same corpus always gives the same tokenizer.
    """
    counts = collections.Counter(w for text in texts for w in words(text))
    symbols = [list(w) for w in counts]
    weights = list(counts.values())
    pairs, where = collections.Counter(), collections.defaultdict(set)
    for i, word in enumerate(symbols):
        for pair in zip(word, word[1:]):
            pairs[pair] += weights[i]
            where[pair].add(i)
    heap = [(-n, pair) for pair, n in pairs.items()]
    heapq.heapify(heap)
    merges = []
    while len(merges) < vocab_size - 256 - len(SPECIALS) and heap:
        count, pair = heapq.heappop(heap)
        if pairs[pair] != -count:
            continue  # stale: the current count was pushed when it changed
        merges.append(pair)
        for changed in _apply(pair, symbols, weights, pairs, where):
            heapq.heappush(heap, (-pairs[changed], changed))
    return merges


def _apply(pair, symbols, weights, pairs, where):
    """Merges `pair` in every word that has it; returns the pairs whose counts changed."""
    changed = set()
    for i in where.pop(pair):
        old = symbols[i]
        new = merge(old, pair)
        for p in zip(old, old[1:]):
            pairs[p] -= weights[i]
            changed.add(p)
        for p in zip(new, new[1:]):
            pairs[p] += weights[i]
            where[p].add(i)
            changed.add(p)
        symbols[i] = new
    changed.discard(pair)
    return [p for p in changed if pairs[p] > 0]


def merge(word, pair):
    """Returns `word` with each occurrence of `pair`, from the left, joined."""
    out, i = [], 0
    while i < len(word):
        if i + 1 < len(word) and (word[i], word[i + 1]) == pair:
            out.append(word[i] + word[i + 1])
            i += 2
        else:
            out.append(word[i])
            i += 1
    return out


class Tokenizer:
    """Encodes and decodes text with a given list of merges.

    Token ids: 256 bytes in GPT-2's order, then merges, then the special tokens.
    Not thread-safe (it caches words).
    """

    def __init__(self, merges):
        self.merges = [tuple(m) for m in merges]
        tokens = [*_CHARACTERS.values(), *("".join(m) for m in self.merges), *SPECIALS]
        self.vocab = {token: i for i, token in enumerate(tokens)}
        self._tokens = tokens
        self._ranks = {m: i for i, m in enumerate(self.merges)}
        self._bytes = {c: b for b, c in _CHARACTERS.items()}
        self._cache = {}

    @classmethod
    def load(cls, path):
        """Reads a `tokenizer.json` written by `save`."""
        with open(path, encoding="utf-8") as f:
            return cls(m.split(" ") for m in json.load(f)["model"]["merges"])

    def special(self, token):
        """Returns the id of a special token."""
        return self.vocab[token]

    def encode(self, text):
        """Returns the ids of plain text; special tokens in it are not recognised."""
        ids = []
        for word in words(text):
            if word not in self._cache:
                self._cache[word] = self._encode_word(word)
            ids.extend(self._cache[word])
        return ids

    def _encode_word(self, word):
        parts = list(word)
        while len(parts) > 1:
            best = min(zip(parts, parts[1:]), key=lambda p: self._ranks.get(p, len(self._ranks)))
            if best not in self._ranks:
                break
            parts = merge(parts, best)
        return [self.vocab[p] for p in parts]

    def decode(self, ids):
        """Returns the text of `ids`, special tokens by name; bad UTF-8 becomes U+FFFD."""
        out = b""
        for i in ids:
            token = self._tokens[i]
            out += token.encode() if token in SPECIALS else bytes(self._bytes[c] for c in token)
        return out.decode("utf-8", "replace")

    def save(self, folder, max_length):
        """Writes tokenizer.json and tokenizer_config.json in the Hugging Face format."""
        _dump(folder / "tokenizer.json", self._tokenizer_json())
        _dump(folder / "tokenizer_config.json", {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": BOS,
            "eos_token": EOS,
            "additional_special_tokens": [USER, ASSISTANT, END],
            "add_bos_token": True,
            "add_eos_token": False,
            "clean_up_tokenization_spaces": False,
            "model_max_length": max_length,
            "chat_template": CHAT_TEMPLATE,
            "added_tokens_decoder": {
                str(self.vocab[t]): {"content": t, **_ADDED} for t in SPECIALS},
        })

    def _tokenizer_json(self):
        byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
        sequence = {"Sequence": {"id": "A", "type_id": 0}}
        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [{"id": self.vocab[t], "content": t, **_ADDED} for t in SPECIALS],
            "normalizer": None,
            "pre_tokenizer": byte_level,
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": BOS, "type_id": 0}}, sequence],
                "pair": [{"SpecialToken": {"id": BOS, "type_id": 0}}, sequence,
                         {"SpecialToken": {"id": BOS, "type_id": 1}},
                         {"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {BOS: {"id": BOS, "ids": [self.vocab[BOS]], "tokens": [BOS]}},
            },
            "decoder": byte_level,
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": False,
                "byte_fallback": False,
                "vocab": self.vocab,
                "merges": [" ".join(m) for m in self.merges],
            },
        }


_ADDED = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}


def _dump(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
