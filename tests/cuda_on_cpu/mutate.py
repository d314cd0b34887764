#!/usr/bin/env python3
"""Deletes one synchronising statement at a time and asks the tests whether they notice.

    tests/cuda_on_cpu/mutate.py --variant BUILD:TARGET[:ARGUMENTS] [--variant ...]
        [--statement REGEX ...] [--jobs N] [--list] SOURCE ...

Each barrier, fence, wait, event record and synchronise of the SOURCEs (.cu, .cuh, .cc, .h) is removed
in a copy; what depends on it is compiled with the commands of BUILD (a configured and built Ninja
folder), TARGET (a test program) is linked with it and run with ARGUMENTS. A mutant is killed if any
variant fails, does not end in time, or does not link. The tree itself is not touched.

Exits 1 if a mutant survives: then a test is missing, or the statement is redundant and goes.

    tests/cuda_on_cpu/mutate.py --variant build/release:cuda_emu_seeded_bug_test \\
        --variant build/tsan:cuda_emu_race:none_pipeline tests/cuda_on_cpu/emulation/seeded_run.cc
"""

import argparse
import concurrent.futures
import dataclasses
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEVICE = [r"__syncthreads", r"__syncwarp", r"__threadfence\w*", r"cp_async_wait", r"cp_async_commit",
          r"barrier_sync", r"barrier_arrive"]
HOST = [r"cudaStreamWaitEvent", r"cudaEventRecord", r"cudaStreamSynchronize",
        r"cudaEventSynchronize", r"cudaDeviceSynchronize"]
TIME_LIMIT_S = 300


@dataclasses.dataclass(frozen=True)
class Mutant:
    source: pathlib.Path  # relative to ROOT
    line: int
    statement: str
    text: str  # the whole file without it


@dataclasses.dataclass(frozen=True)
class Variant:
    build: pathlib.Path
    target: str
    arguments: tuple

    def __str__(self):
        return " ".join([f"{self.build.name}:{self.target}", *self.arguments])


def closing(text, opening):
    """The index behind the parenthesis that closes the one at `opening`."""
    depth = 0
    for i in range(opening, len(text)):
        depth += {"(": 1, ")": -1}.get(text[i], 0)
        if depth == 0:
            return i + 1
    return len(text)


def find_mutants(source, extra):
    """One mutant per statement; calls inside comments and larger expressions are left alone."""
    text = (ROOT / source).read_text()
    names = "|".join(DEVICE + HOST + extra)
    # Optionally behind `return` or inside an error-checking macro or a cast to void.
    pattern = re.compile(r"(?P<ret>\breturn\s+)?(?P<wrap>[A-Z][A-Z_]+\(\s*|static_cast<void>\(\s*)?"
                         rf"(?<![\w.>])(?:\w+(?:\.|->|::))*(?:{names})(?:<[^;()]*>)?\(")
    for match in pattern.finditer(text):
        line_start = text.rfind("\n", 0, match.start()) + 1
        if "//" in text[line_start:match.start()]:
            continue
        first = text.index("(", match.start())
        end = closing(text, first)
        rest = re.match(r"\s*;", text[end:])
        before = text[:match.start()].rstrip()
        if not rest or (before and before[-1] not in ";{})" and not before.endswith("else")):
            continue
        end += rest.end()
        replacement = "return cudaSuccess;" if match.group("ret") else ";"
        statement = " ".join(text[match.start():end].split())
        yield Mutant(source, text.count("\n", 0, match.start()) + 1, statement,
                     text[:match.start()] + replacement + text[end:])


class Build:
    """The commands of one Ninja folder."""

    def __init__(self, folder):
        self.folder = folder
        self.deps = self._read_deps()

    def _ninja(self, *arguments):
        return subprocess.run(["ninja", "-C", str(self.folder), *arguments], capture_output=True,
                              text=True, check=True).stdout

    def _read_deps(self):
        """object -> the sources it was compiled from, as absolute paths."""
        deps, current = {}, None
        for line in self._ninja("-t", "deps").splitlines():
            if line and not line[0].isspace() and ": #deps" in line:
                current = deps.setdefault(line.split(": #deps")[0], set())
            elif line.strip() and current is not None:
                current.add(str((self.folder / line.strip()).resolve()))
        return deps

    def commands(self, target):
        """(compile commands by object, the link command), both as argument lists."""
        lines = [line for line in self._ninja("-t", "commands", target).splitlines()
                 if not line.startswith("ninja:")]
        compiles = {}
        for line in lines:
            words = shlex.split(line)
            if "-c" in words and "-o" in words:
                compiles[words[words.index("-o") + 1]] = words
        link = [line for line in lines if " -o " in line and " -c " not in line][-1]
        link = re.sub(r"^: && | && :.*$", "", link).split(" && ")[0]
        return compiles, shlex.split(link)


def compile_mutant(build, command, mutant, shadow):
    """Compiles one object with the shadow copy of the mutated file in front; its path, or None."""
    words = [w for w in command if w not in ("-Werror",)]
    source = words[words.index("-c") + 1]
    if pathlib.Path(build.folder / source).resolve() == ROOT / mutant.source:
        words[words.index("-c") + 1] = str(shadow / mutant.source)
    output = shadow / (pathlib.Path(source).name + ".o")
    words[words.index("-o") + 1] = str(output)
    for option in ("-MT", "-MF"):
        if option in words:
            del words[words.index(option):words.index(option) + 2]
    words = [w for w in words if w != "-MD"]
    first = next(i for i, w in enumerate(words) if w.startswith("-I"))
    words.insert(first, f"-I{shadow}")
    done = subprocess.run([*words, "-w"], cwd=build.folder, capture_output=True)
    return output if done.returncode == 0 else None


def link_and_run(build, link, objects, replaced, variant, shadow):
    """'' if the program passes, else how it failed."""
    program = shadow / "program"
    words = [w for w in link if w not in replaced]
    words[words.index("-o") + 1] = str(program)
    # Before the archives, whose members of the same symbols are then not taken.
    at = words.index("-o")
    words[at:at] = [str(o) for o in objects]
    if subprocess.run(words, cwd=build.folder, capture_output=True).returncode != 0:
        return "does not link"
    try:
        done = subprocess.run([str(program), *variant.arguments], cwd=build.folder,
                              capture_output=True, timeout=TIME_LIMIT_S, text=True, errors="replace")
    except subprocess.TimeoutExpired:
        return "does not end"
    if "WARNING: ThreadSanitizer" in done.stderr:
        return "data race"
    return "" if done.returncode == 0 else f"exit {done.returncode}"


def try_mutant(builds, mutant, variant):
    """'' if the mutant survives this variant."""
    build, (compiles, link) = builds[variant]
    mutated = str(ROOT / mutant.source)
    affected = [o for o in compiles if mutated in build.deps.get(o, ())]
    if not affected:
        sys.exit(f"mutate: {variant.target} in {variant.build} is not built from {mutant.source}; "
                 "build it first")
    with tempfile.TemporaryDirectory() as folder:
        shadow = pathlib.Path(folder)
        copy = shadow / mutant.source
        copy.parent.mkdir(parents=True)
        copy.write_text(mutant.text)
        objects = [compile_mutant(build, compiles[o], mutant, shadow) for o in affected]
        if None in objects:
            return "does not compile"
        return link_and_run(build, link, objects, set(affected), variant, shadow)


def parse_variant(text):
    build, target, *arguments = text.split(":", 2)
    folder = pathlib.Path(build)
    return Variant(folder if folder.is_absolute() else ROOT / folder, target,
                   tuple(shlex.split(arguments[0])) if arguments else ())


def check_baseline(builds):
    for variant, (build, (_, link)) in builds.items():
        program = build.folder / link[link.index("-o") + 1]
        done = subprocess.run([str(program), *variant.arguments], cwd=build.folder,
                              capture_output=True, text=True, errors="replace")
        if done.returncode != 0 or "WARNING: ThreadSanitizer" in done.stderr:
            sys.exit(f"mutate: {variant} fails without any mutation")


def judge(builds, mutant):
    """(killed, how): the first variant that notices ends the trial."""
    for variant in builds:
        verdict = try_mutant(builds, mutant, variant)
        if verdict == "does not compile":
            return True, verdict
        if verdict:
            return True, f"{verdict} in {variant}"
    return False, ""


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", action="append", default=[], type=parse_variant)
    parser.add_argument("--statement", action="append", default=[], help="more calls to delete")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--list", action="store_true", help="only show the mutants")
    parser.add_argument("sources", nargs="+", type=pathlib.Path)
    options = parser.parse_args()
    mutants = [m for source in options.sources
               for m in find_mutants(source.resolve().relative_to(ROOT), options.statement)]
    if options.list or not options.variant:
        for m in mutants:
            print(f"{m.source}:{m.line}: {m.statement}")
        return 0
    by_folder = {v.build: None for v in options.variant}
    by_folder = {folder: Build(folder) for folder in by_folder}
    builds = {v: (by_folder[v.build], by_folder[v.build].commands(v.target))
              for v in options.variant}
    check_baseline(builds)
    survivors = 0
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for m, (killed, how) in zip(mutants, pool.map(lambda m: judge(builds, m), mutants)):
            survivors += not killed
            print(f"{'killed  ' if killed else 'SURVIVED'} {m.source}:{m.line}: {m.statement}"
                  f"{'  [' + how + ']' if how else ''}", flush=True)
    print(f"{len(mutants)} mutants, {len(mutants) - survivors} killed, {survivors} survived")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
