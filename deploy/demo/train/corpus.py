"""Builds the training corpus: public-domain prose taken from Debian packages.

    python3 corpus.py OUT.jsonl [--work DIR]

Downloads the packages with `apt-get download`, unpacks them with `dpkg-deb -x`
(nothing is installed) and writes one JSON object per line:
{"source", "title", "text", "split"}.  A document is one chapter (a proposition,
in Newton).  Every 50th document, counted over the whole corpus, is held out for
validation.

| package            | text                                    | text licence  | package licence |
| r-cran-janeaustenr | six novels by Jane Austen               | public domain | MIT             |
| r-cran-tokenizers  | Moby Dick, Herman Melville              | public domain | MIT             |
| golang-1.19-src    | Opticks, Isaac Newton                   | public domain | BSD-3-Clause    |
| bible-kjv-text     | King James Bible (outside the UK; there | public domain | unrestricted    |
|                    | Crown letters patent restrict printing) |               | use, see file   |

bible-kjv (GPL-2+) is only run to print the text of bible-kjv-text.
"""

import argparse
import json
import pathlib
import re
import subprocess
import tempfile

import rdata

PACKAGES = ("r-cran-janeaustenr", "r-cran-tokenizers", "golang-1.19-src", "bible-kjv-text", "bible-kjv")
HELD_OUT_EVERY = 50
MIN_DOCUMENT_CHARS = 300
NOVELS = {
    "emma": "Emma",
    "mansfieldpark": "Mansfield Park",
    "northangerabbey": "Northanger Abbey",
    "persuasion": "Persuasion",
    "prideprejudice": "Pride and Prejudice",
    "sensesensibility": "Sense and Sensibility",
}


def fetch(work):
    """Unpacks each package into `work`/NAME, downloading what is not there yet."""
    work.mkdir(parents=True, exist_ok=True)
    for name in PACKAGES:
        if (work / name).exists():
            continue
        subprocess.run(["apt-get", "download", "-qq", name], cwd=work, check=True)
        archive = next(work.glob(f"{name}_*.deb"))
        subprocess.run(["dpkg-deb", "-x", archive, work / name], check=True)


def tidy(text):
    """Returns `text` with one line per paragraph, plain quotes and no underscores for italics."""
    for old, new in (("\r", ""), ("\ufeff", ""), ("\u2019", "'"), ("\u2018", "'"),
                     ("\u201c", '"'), ("\u201d", '"'), ("_", "")):
        text = text.replace(old, new)
    text = re.sub(r"\[(Illustration|Footnote|Sidenote)[^\]]*\]", "", text)
    paragraphs = (" ".join(p.split()) for p in re.split(r"\n\s*\n", text))
    return "\n\n".join(p for p in paragraphs if p)


def chapters(source, text, heading):
    """Splits `text` before each match of `heading`; yields one document per part.

    What stands before the first heading (title page, contents) is dropped.
    """
    marks = list(re.finditer(heading, text, re.MULTILINE))
    ends = [m.start() for m in marks[1:]] + [len(text)]
    for mark, end in zip(marks, ends):
        body = re.sub(r"(?im)^\s*(finis|the end|volume [ivx]+)\.?\s*$", "", text[mark.end():end])
        title = tidy(mark[0]).replace("CHAPTER", "Chapter").rstrip(".")
        yield {"source": source, "title": title, "text": f"{source}. {title}\n\n{tidy(body)}\n"}


def austen(work):
    """Yields the chapters of Jane Austen's novels."""
    base = work / "r-cran-janeaustenr/usr/lib/R/site-library/janeaustenr/data/Rdata"
    novels = rdata.load(base)
    for key, name in NOVELS.items():
        text = "\n".join(novels[key]).partition("A NOTE ON THE TEXT")[0]
        yield from chapters(name, text, r"^(CHAPTER|Chapter) [IVXL\d]+\s*$")


def moby_dick(work):
    """Yields the chapters of Moby Dick, without the Project Gutenberg header and licence."""
    base = work / "r-cran-tokenizers/usr/lib/R/site-library/tokenizers/data/Rdata"
    text = rdata.load(base)["mobydick"][0].replace("\r", "")
    text = text[:re.search(r"^(\*\*\* ?END|End of (the )?Project)", text, re.MULTILINE | re.IGNORECASE).start()]
    yield from chapters("Moby Dick", text, r"^(CHAPTER \d+\. .*|Epilogue)$")


def opticks(work):
    """Yields the propositions of Newton's Opticks."""
    path = work / "golang-1.19-src/usr/share/go-1.19/src/testdata/Isaac.Newton-Opticks.txt"
    text = path.read_text("utf-8")
    yield from chapters("Opticks", text, r"^(_PROP\._ .*$|_?PART [IV]+\._?$|_Obs\._ 1\.|_(Quest|Qu)\._ \d+\.)")


def bible(work):
    """Yields the chapters of the King James Bible, one verse a line, without verse numbers."""
    command = [work / "bible-kjv/usr/bin/bible", "-p", work / "bible-kjv-text/usr/lib", "-l100000",
               "gen1:1-rev22:21"]
    text = subprocess.run(command, stdin=subprocess.DEVNULL, check=True, capture_output=True).stdout.decode("utf-8")
    for part in re.split(r"\n(?=\S)", text):
        title, _, body = part.strip().partition("\n")
        verses = [re.sub(r"^\s*\d+ +", "", line).strip() for line in body.split("\n")]
        body = "\n".join(v for v in verses if v)
        yield {"source": "King James Bible", "title": title, "text": f"{title}\n\n{body}\n"}


def build(work):
    """Returns all documents in a fixed order, each with its split."""
    documents = [d for read in (austen, moby_dick, opticks, bible) for d in read(work)
                 if len(d["text"]) >= MIN_DOCUMENT_CHARS]
    for i, document in enumerate(documents):
        document["split"] = "validation" if i % HELD_OUT_EVERY == HELD_OUT_EVERY // 2 else "train"
    return documents


def report(documents):
    """Prints documents and bytes per source and split."""
    sizes = {}
    for d in documents:
        count, total = sizes.get((d["source"], d["split"]), (0, 0))
        sizes[d["source"], d["split"]] = (count + 1, total + len(d["text"].encode()))
    for (source, split), (count, total) in sorted(sizes.items()):
        print(f"{source:22} {split:10} {count:5} documents {total:9} bytes")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=pathlib.Path, help="JSON lines file to write")
    parser.add_argument("--work", type=pathlib.Path, help="keep the unpacked packages here")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = (args.work or pathlib.Path(scratch)).resolve()
        fetch(work)
        documents = build(work)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with open(args.out, "w", encoding="utf-8") as out:
        for document in documents:
            out.write(json.dumps(document, ensure_ascii=False) + "\n")
    report(documents)


if __name__ == "__main__":
    main()
