#!/usr/bin/env python3
"""Deletes each synchronisation statement of the kernels in turn and expects a test to notice.

    python3 tests/cuda_on_cpu/kernels/mutate_sync.py BUILD_DIR [--only NAME] [--timeout SECONDS]

BUILD_DIR holds built cuda_kernel_*_test programs (Ninja, with compile_commands.json). A mutant that
survives is a missing test or a statement that is not needed. Prints one line per mutant; exits 1
if any survives. Takes a few minutes.
"""

import argparse
import json
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[3]
FOLDER = "backend/cuda/kernels"
STATEMENT = re.compile(r"^\s*(?:gpu::)?(?:__syncthreads|__syncwarp|cp_async_wait<\d+>|"
                       r"cp_async_commit|MeetPartner)\(\);")

# What is mutated, the sources it is compiled in, and the tests that must notice.
TARGETS = (
    ("attention_block-inl.cuh", ("attention_decode.cu", "attention_prefill.cu"), "attention_test"),
    ("attention_output-inl.cuh", ("attention_decode.cu", "attention_prefill.cu"),
     "attention_test"),
    ("mla_attention.cu", ("mla_attention.cu",), "mla_attention_test"),
    ("gemm.cu", ("gemm.cu",), "gemm_test"),
    ("rms_norm.cu", ("rms_norm.cu",), "row_kernels_test"),
    ("rope_kv_write.cu", ("rope_kv_write.cu",), "rope_kv_write_test"),
    ("block_reduce.cuh", ("sampling.cu", "logits.cu"), "sampling_test"),
    ("sampling.cu", ("sampling.cu",), "sampling_test"),
    ("logits.cu", ("logits.cu",), "sampling_test"),
)


def compile_command(build, source):
    for entry in json.loads((build / "compile_commands.json").read_text()):
        if entry["file"].endswith(f"{FOLDER}/{source}"):
            return shlex.split(entry["command"]), entry["directory"]
    raise SystemExit(f"{build} does not compile {source}")


def link_command(build, test):
    lines = subprocess.run(["ninja", "-C", str(build), "-t", "commands", f"cuda_kernel_{test}"],
                           capture_output=True, text=True, check=True).stdout.splitlines()
    links = [line for line in lines if f"-o " in line and ".cc.o -o " in line]
    return links[-1].removeprefix(": && ").removesuffix(" && :").split(" && cd ")[0]


def run_mutant(build, scratch, mutated, text, sources, test, timeout):
    """Returns what noticed the mutant, or None."""
    folder = scratch / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    (folder / mutated).write_text(text)
    objects = []
    for source in sources:
        command, directory = compile_command(build, source)
        place = folder / source
        if not place.exists():
            place.write_text((ROOT / FOLDER / source).read_text())
        out = scratch / (source + ".o")
        command[command.index("-o") + 1] = str(out)
        command[command.index("-c") + 1] = str(place)
        at = next(i for i, word in enumerate(command) if word.startswith("-I"))
        command[at:at] = [f"-I{scratch}"]
        command = [w for w in command if w != "-Werror"] + ["-O1"]
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{mutated}: the mutant does not compile\n{done.stderr[-2000:]}")
        objects.append(str(out))
    program = scratch / "mutant"
    link = shlex.split(link_command(build, test))
    link[link.index("-o") + 1] = str(program)
    link[link.index("-o"):link.index("-o")] = objects
    subprocess.run(link, cwd=build, check=True, capture_output=True)
    try:
        done = subprocess.run([str(program), "--gtest_brief=1"], capture_output=True, text=True,
                              timeout=timeout)
    except subprocess.TimeoutExpired:
        return "hangs"
    if done.returncode == 0:
        return None
    failed = re.search(r"\[  FAILED  \] (\S+)", done.stdout)
    return failed.group(1).rstrip(",") if failed else f"exit code {done.returncode}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--timeout", type=float, default=120)
    options = parser.parse_args()
    build = options.build.resolve()
    survivors = 0
    with tempfile.TemporaryDirectory() as scratch:
        for mutated, sources, test in TARGETS:
            if options.only not in mutated:
                continue
            lines = (ROOT / FOLDER / mutated).read_text().split("\n")
            if control := run_mutant(build, pathlib.Path(scratch), mutated, "\n".join(lines),
                                     sources, test, options.timeout):
                raise SystemExit(f"{mutated}: {control} fails without a mutation")
            for i, line in enumerate(lines):
                if not STATEMENT.match(line):
                    continue
                text = "\n".join(lines[:i] + [";"] + lines[i + 1:])
                noticed = run_mutant(build, pathlib.Path(scratch), mutated, text, sources, test,
                                     options.timeout)
                survivors += noticed is None
                print(f"{mutated}:{i + 1}: {line.strip()}: {noticed or 'SURVIVES'}", flush=True)
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
