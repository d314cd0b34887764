"""Builds the tests with one mutated source, out of tree, and runs them."""

import dataclasses
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import threading

TIME_LIMIT_S = 300
SEED = "CUDA_EMU_SEED"


class Build:
    """The commands of one configured and built Ninja folder."""

    def __init__(self, folder):
        self.folder = folder
        self._lock = threading.Lock()  # of what is read once and then shared by all jobs
        self._deps = None
        self._commands = {}

    def ninja(self, *arguments):
        return subprocess.run(["ninja", "-C", str(self.folder), *arguments], capture_output=True,
                              text=True, check=True).stdout

    @property
    def deps(self):
        """object -> the sources it was compiled from, as absolute paths."""
        with self._lock:
            if self._deps is None:
                self._deps = self._read_deps()
            return self._deps

    def _read_deps(self):
        deps, current = {}, None
        for line in self.ninja("-t", "deps").splitlines():
            if line and not line[0].isspace() and ": #deps" in line:
                current = deps.setdefault(line.split(": #deps")[0], set())
            elif line.strip() and current is not None:
                current.add(str((self.folder / line.strip()).resolve()))
        return deps

    def test_sources(self, target):
        """The sources of a test program itself, without its libraries."""
        own = [o for o in self.deps if f"/{target}.dir/" in o]
        return sorted({self.deps_source(o) for o in own})

    def deps_source(self, object_name):
        """tests/x/CMakeFiles/y.dir/z.cc.o -> tests/x/z.cc"""
        return re.sub(r"CMakeFiles/[^/]+\.dir/", "", object_name).removesuffix(".o")

    def commands(self, target):
        """(compile commands by object, the link command), both as argument lists."""
        with self._lock:
            if target not in self._commands:
                self._commands[target] = self._read_commands(target)
            return self._commands[target]

    def _read_commands(self, target):
        lines = [line for line in self.ninja("-t", "commands", target).splitlines()
                 if not line.startswith("ninja:")]
        compiles = {}
        for line in lines:
            words = shlex.split(line)
            if "-c" in words and "-o" in words:
                compiles[words[words.index("-o") + 1]] = words
        link = [line for line in lines if " -o " in line and " -c " not in line][-1]
        link = re.sub(r"^: && | && :.*$", "", link).split(" && ")[0]
        return compiles, shlex.split(link)


@dataclasses.dataclass(frozen=True)
class Variant:
    """One test program in one build folder, with the seeds it runs under."""
    build: Build
    target: str
    seeds: tuple
    tsan: bool

    def __str__(self):
        return f"{'tsan ' if self.tsan else ''}{self.target}"


def variants(group, plain, tsan, seeds):
    """Plain builds first: they are quick, and the seeds share one compilation."""
    found = [Variant(plain, test, tuple(seeds), False) for test in group.tests]
    if tsan:
        found += [Variant(tsan, test, (0,), True) for test in group.tsan_tests]
    return found


def run(program, variant, seed):
    """'' if the program passes, else how it failed."""
    environment = {**os.environ, SEED: str(seed)}
    if variant.tsan:
        environment["TSAN_OPTIONS"] = "ignore_noninstrumented_modules=1 atexit_sleep_ms=0 exitcode=66"
    try:
        done = subprocess.run([str(program), "--gtest_brief=1", "--gtest_fail_fast"],
                              capture_output=True, timeout=TIME_LIMIT_S, text=True,
                              errors="replace", env=environment)
    except subprocess.TimeoutExpired:
        return "does not end"
    if "WARNING: ThreadSanitizer" in done.stderr:
        return "data race"
    if done.returncode == 0:
        return ""
    failed = re.search(r"\[  FAILED  \] ([\w./]+)", done.stdout)
    return failed.group(1) if failed else f"exit {done.returncode}"


def check_baseline(all_variants):
    for variant in all_variants:
        _, link = variant.build.commands(variant.target)
        program = variant.build.folder / link[link.index("-o") + 1]
        for seed in variant.seeds:
            if how := run(program, variant, seed):
                sys.exit(f"mutate: {variant} (seed {seed}) fails without any mutation: {how}")


def compile_mutant(root, build, command, mutant, shadow):
    """Compiles one object with the mutated file in front of the real one; its path, or None."""
    words = [w for w in command if w != "-Werror"]
    source = words[words.index("-c") + 1]
    if pathlib.Path(build.folder / source).resolve() == root / mutant.source:
        words[words.index("-c") + 1] = str(shadow / mutant.source)
    output = shadow / (pathlib.Path(source).name + ".o")
    words[words.index("-o") + 1] = str(output)
    for option in ("-MT", "-MF"):
        if option in words:
            del words[words.index(option):words.index(option) + 2]
    words = [w for w in words if w != "-MD"]
    first = next(i for i, w in enumerate(words) if w.startswith("-I"))
    words.insert(first, f"-I{shadow}")
    done = subprocess.run([*words, "-w", "-O1"], cwd=build.folder, capture_output=True)
    return output if done.returncode == 0 else None


def link_program(build, link, objects, replaced, shadow):
    """The program with `objects` in place of `replaced`, or None."""
    program = shadow / "program"
    words = [w for w in link if w not in replaced]
    words[words.index("-o") + 1] = str(program)
    # Before the archives, whose members of the same symbols are then not taken.
    at = words.index("-o")
    words[at:at] = [str(o) for o in objects]
    done = subprocess.run(words, cwd=build.folder, capture_output=True)
    return program if done.returncode == 0 else None


def notice_in(root, mutant, variant, shadow, compiled):
    """How `variant` notices the mutant; '' if it does not. `compiled`: objects made so far."""
    compiles, link = variant.build.commands(variant.target)
    mutated = str(root / mutant.source)
    affected = [o for o in compiles if mutated in variant.build.deps.get(o, ())]
    if not affected:
        sys.exit(f"mutate: {variant} in {variant.build.folder} is not built from {mutant.source}; "
                 "build it first")
    for name in affected:
        if (variant.build, name) not in compiled:
            place = shadow / f"{len(compiled)}"
            (place / mutant.source).parent.mkdir(parents=True)
            (place / mutant.source).write_text(mutant.text)
            compiled[variant.build, name] = compile_mutant(root, variant.build, compiles[name],
                                                           mutant, place)
    objects = [compiled[variant.build, name] for name in affected]
    if None in objects:
        sys.exit(f"mutate: {mutant.source}:{mutant.line} does not compile without "
                 f"{mutant.statement}")
    program = link_program(variant.build, link, objects, set(affected), shadow)
    if program is None:
        sys.exit(f"mutate: {variant} does not link without {mutant.statement}")
    for seed in variant.seeds:
        if how := run(program, variant, seed):
            return f"{how} in {variant}, seed {seed}"
    return ""


def notice(root, mutant, all_variants):
    """How the first variant that notices the mutant does so; '' if none does."""
    with tempfile.TemporaryDirectory() as folder:
        compiled = {}
        for variant in all_variants:
            if how := notice_in(root, mutant, variant, pathlib.Path(folder), compiled):
                return how
    return ""
