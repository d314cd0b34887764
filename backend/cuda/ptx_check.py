#!/usr/bin/env python3
"""What ptxas makes of each kernel: registers, stack, shared memory, spills. Needs nvcc, no GPU.

    python3 backend/cuda/ptx_check.py [--nvcc PATH] [--arch 80,90,100] [--record FILE]
                                      [--launches PROGRAM] [--baseline FILE] [--summary]
                                      [SOURCE.cu ...]

Prints one line per kernel and target. Exits 1 if a source does not compile or warns, if a kernel of
an *attention*.cu spills, or, with --baseline, if a kernel needs more than 10 % more registers than
the record says. --record writes the figures as JSON, sorted, for review; with --launches also the
threads and the dynamic shared memory, which PROGRAM (cuda_kernel_launch_shapes) prints.
"""

import argparse
import concurrent.futures
import datetime
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LIST = HERE / "kernels" / "sources.cmake"
NO_SPILLS = re.compile(r"attention")
REGISTER_SLACK = 1.1

ENTRY = re.compile(r"Compiling entry function '(\S+)' for 'sm_(\d+)\w*'")
SPILL = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")
SHARED = re.compile(r"(\d+) bytes smem")


def kernel_sources():
    """The .cu files of sources.cmake, the list that CMake builds."""
    return [HERE / "kernels" / name for name in re.findall(r"(\S+\.cu)\b", LIST.read_text())]


def find_nvcc(given):
    for candidate in (given, shutil.which("nvcc"), "/usr/local/cuda/bin/nvcc"):
        if candidate and os.access(candidate, os.X_OK):
            return candidate
    sys.exit("ptx_check: no nvcc found; install the CUDA toolkit or pass --nvcc PATH")


def readable(names):
    """Mangled names -> short ones: no return type, namespace or parameter list."""
    if not names or not shutil.which("c++filt"):
        return dict(zip(names, names))
    text = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True,
                          check=True).stdout
    short = {}
    for mangled, line in zip(names, text.splitlines()):
        line = re.sub(r"\(anonymous namespace\)::|sluice::(?:\w+::)*|^void ", "", line)
        line = re.sub(r"\((?:int|bool|unsigned int|[A-Z]\w*)\)(?=[\w-])", "", line)
        short[mangled] = re.sub(r"\([^()]*\)$", "", line).strip()
    return short


def compile_one(nvcc, source, arch, folder):
    """Returns ({mangled: figures}, what the compiler complained about)."""
    done = subprocess.run(
        [nvcc, "-std=c++20", "-O3", f"-arch=sm_{arch}", "-Xptxas=-v", "-Xcompiler=-Wall,-Wextra",
         f"-I{ROOT}", "-cubin", str(source), "-o", f"{folder}/{source.stem}_{arch}.cubin"],
        capture_output=True, text=True)
    kernels, current, noise = {}, None, []
    for line in (done.stdout + done.stderr).splitlines():
        if match := ENTRY.search(line):
            current = kernels.setdefault(match.group(1), {"stack": 0, "spills": 0, "shared": 0})
        elif (match := SPILL.search(line)) and current is not None:
            current["stack"] = int(match.group(1))
            current["spills"] = int(match.group(2)) + int(match.group(3))
        elif (match := USED.search(line)) and current is not None:
            current["registers"] = int(match.group(1))
            shared = SHARED.search(line)
            current["shared"] = int(shared.group(1)) if shared else 0
            current = None
        elif line.strip() and not line.startswith("ptxas info") and "Function properties" not in line:
            noise.append(line)
    if done.returncode != 0 and not noise:
        noise.append(f"nvcc exited with {done.returncode}")
    return kernels, noise


def collect(nvcc, sources, archs, jobs):
    """Returns (rows, complaints): rows are dicts, in order of source, kernel, target."""
    rows, complaints = [], []
    with tempfile.TemporaryDirectory() as folder, \
            concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        work = {pool.submit(compile_one, nvcc, source, arch, folder): (source, arch)
                for source in sources for arch in archs}
        for job in concurrent.futures.as_completed(work):
            source, arch = work[job]
            kernels, noise = job.result()
            complaints += [f"{source.name} sm_{arch}: {line}" for line in noise]
            names = readable(list(kernels))
            rows += [{"source": source.name, "kernel": names[mangled], "arch": arch, **figures}
                     for mangled, figures in kernels.items()]
    rows.sort(key=lambda r: (r["source"], r["kernel"], r["arch"]))
    return rows, complaints


def judge(rows, baseline):
    """Yields what is wrong with the figures."""
    before = {(r["source"], r["kernel"], r["arch"]): r for r in baseline}
    for row in rows:
        where = f"{row['source']} {row['kernel']} sm_{row['arch']}"
        if row["spills"] and NO_SPILLS.search(row["source"]):
            yield f"{where}: spills {row['spills']} bytes; attention kernels must not"
        old = before.get((row["source"], row["kernel"], row["arch"]))
        if old and row["registers"] > old["registers"] * REGISTER_SLACK:
            yield f"{where}: {row['registers']} registers, the record has {old['registers']}"


def show(rows, summary):
    if summary:
        by_source = {}
        for row in rows:
            by_source.setdefault((row["source"], row["arch"]), []).append(row)
        for (source, arch), group in sorted(by_source.items()):
            print(f"{source:24} sm_{arch:4} {len(group):4} kernels  registers up to "
                  f"{max(r['registers'] for r in group):3}  spills in "
                  f"{sum(r['spills'] > 0 for r in group)}")
        return
    for row in rows:
        print(f"{row['source']:24} sm_{row['arch']:4} {row['registers']:3} registers "
              f"{row['stack']:4} stack {row['shared']:5} shared {row['spills']:4} spills  "
              f"{row['kernel']}")


def record(path, rows, nvcc, launches):
    """The figures as JSON, one kernel and target per line."""
    version = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True).stdout
    head = {"benchmark": "registers, static shared memory, stack and spills of CUDA kernels",
            "command": "python3 backend/cuda/ptx_check.py " + " ".join(
                word for word in sys.argv[1:] if not word.startswith("/")),
            "date": datetime.date.today().isoformat(),
            "toolkit": re.search(r"release ([\d.]+)", version).group(1)}
    parts = {"kernels": [json.dumps(row, sort_keys=True) for row in rows]}
    if launches:
        done = subprocess.run([launches], capture_output=True, text=True, check=True)
        parts["launches"] = done.stdout.splitlines()
    text = json.dumps(head, indent=2)[:-2]
    for name, lines in parts.items():
        body = ",\n".join("    " + line for line in lines)
        text += f',\n  "{name}": [\n{body}\n  ]'
    path.write_text(text + "\n}\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nvcc")
    parser.add_argument("--arch", default=["80", "90", "100"], type=lambda text: text.split(","))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--record", type=pathlib.Path)
    parser.add_argument("--launches", help="program that prints threads and dynamic shared memory")
    parser.add_argument("--baseline", type=pathlib.Path)
    parser.add_argument("--summary", action="store_true", help="one line per source and target")
    parser.add_argument("sources", nargs="*", type=pathlib.Path)
    options = parser.parse_args()
    sources = [s.resolve() for s in options.sources] or kernel_sources()
    nvcc = find_nvcc(options.nvcc)
    rows, problems = collect(nvcc, sources, options.arch, options.jobs)
    show(rows, options.summary)
    baseline = json.loads(options.baseline.read_text())["kernels"] if options.baseline else []
    problems += judge(rows, baseline)
    if options.record:
        record(options.record, rows, nvcc, options.launches)
    for problem in problems:
        print(f"ptx_check: {problem}", file=sys.stderr)
    print(f"{len(rows)} kernels on {len(options.arch)} targets, {len(problems)} problems")
    return 1 if problems or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
