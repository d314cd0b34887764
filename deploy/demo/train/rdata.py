"""Reads objects out of an R "lazy-load" database (.rdx + .rdb), without R.

R packages ship their data sets as NAME.rdx, a zlib-compressed serialized list
that maps each variable to (offset, length), and NAME.rdb, the concatenated
compressed objects.  Only what plain data sets need is decoded: vectors,
strings, lists, attributes, symbols.  The format is described in "R Internals",
sections "Serialization Formats" and "Lazy loading".
"""

import bz2
import lzma
import struct
import zlib

_NIL, _GLOBAL_ENV, _BASE_ENV, _EMPTY_ENV, _BASE_NAMESPACE = 254, 253, 241, 242, 247
_REF, _SYMBOL, _PAIRLIST, _CHAR, _ATTR_PAIRLIST = 255, 1, 2, 9, 239
_LOGICAL, _INT, _REAL, _STRINGS, _LIST = 10, 13, 14, 16, 19
_HAS_ATTRIBUTES, _HAS_TAG = 0x200, 0x400


class _Reader:
    """Decodes one object in R's XDR (big-endian) serialization."""

    def __init__(self, data):
        self._data = data
        self._at = 0
        self._references = []

    def read(self):
        """Returns the object; REQUIRES: the data starts with an XDR header."""
        if self._take(2) != b"X\n":
            raise ValueError("not an XDR serialization")
        version = self._ints(3)[0]
        if version == 3:
            self._take(self._int())  # name of the native encoding
        return self._item()

    def _take(self, size):
        piece = self._data[self._at:self._at + size]
        if len(piece) != size:
            raise ValueError(f"truncated: want {size} bytes, have {len(piece)}")
        self._at += size
        return piece

    def _int(self):
        return self._ints(1)[0]

    def _ints(self, count):
        return struct.unpack(f">{count}i", self._take(4 * count))

    def _item(self):
        flags = self._int()
        kind = flags & 0xFF
        if kind in (_NIL, _GLOBAL_ENV, _BASE_ENV, _EMPTY_ENV, _BASE_NAMESPACE):
            return None
        if kind == _REF:
            return self._references[(flags >> 8) - 1]
        if kind == _SYMBOL:
            self._references.append(self._item())
            return self._references[-1]
        if kind in (_PAIRLIST, _ATTR_PAIRLIST):
            return self._pairlist(flags)
        value = self._vector(kind)
        if flags & _HAS_ATTRIBUTES and kind != _CHAR:
            attributes = self._item() or {}
            if kind == _LIST and "names" in attributes:
                return dict(zip(attributes["names"], value))
        return value

    def _pairlist(self, flags):
        pairs = {}
        if flags & _HAS_ATTRIBUTES:
            self._item()
        tag = self._item() if flags & _HAS_TAG else len(pairs)
        pairs[tag] = self._item()
        pairs.update(self._item() or {})
        return pairs

    def _vector(self, kind):
        size = self._int()
        if kind == _CHAR:
            return None if size < 0 else self._take(size).decode("utf-8", "replace")
        if kind in (_LOGICAL, _INT):
            return list(self._ints(size))
        if kind == _REAL:
            return list(struct.unpack(f">{size}d", self._take(8 * size)))
        if kind in (_STRINGS, _LIST):
            return [self._item() for _ in range(size)]
        raise ValueError(f"R type {kind} is not supported")


def _unpack(record):
    """Decompresses one .rdb record: 4-byte size, then zlib, or a type letter and its stream."""
    body = record[4:]
    if body[:1] == b"2":
        return bz2.decompress(body[1:])
    if body[:1] == b"Z":
        return lzma.decompress(body[1:], lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2}])
    if body[:1] == b"0":
        return body[1:]
    return zlib.decompress(body)


def load(base):
    """Returns {name: value} for the data sets in `base`.rdx / `base`.rdb."""
    with open(f"{base}.rdx", "rb") as f:
        index = _Reader(zlib.decompress(f.read(), 47)).read()
    with open(f"{base}.rdb", "rb") as f:
        blob = f.read()
    places = index["variables"]
    return {name: _Reader(_unpack(blob[at:at + size])).read()
            for name, (at, size) in places.items()}
