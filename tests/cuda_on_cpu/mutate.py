#!/usr/bin/env python3
"""Deletes one synchronising statement at a time and asks the tests whether they notice.

    python3 tests/cuda_on_cpu/mutate.py BUILD [--tsan BUILD] [--group NAME ...] [--seeds 0,1,2]
                                        [--only FILE[:LINE]] [--jobs N] [--record FILE] [--list]

Each barrier, fence, wait, event record and synchronise of the sources in mutation/targets.py is
removed in a copy; what depends on it is compiled with the commands of BUILD (a configured and built
Ninja folder), linked into the tests that must notice, and run, once per seed of the emulation and
then once in the ThreadSanitizer folder. The tree itself is not touched. A mutant is

    caught      a test fails, crashes, does not end in time, or ThreadSanitizer reports a race
    redundant   nobody notices, and targets.py says why nobody can
    SURVIVED    nobody notices: a test is missing, or the statement is redundant and goes

Exits 1 if a mutant survives, or if one that is called redundant is noticed. --record writes the
table as JSON. All kernels: about 5 minutes.
"""

import argparse
import collections
import concurrent.futures
import datetime
import json
import os
import pathlib
import platform
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from mutation import statements, targets, trial  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]


def mutants_of(groups, only):
    """(group, mutant) of every statement that is tried."""
    for group in groups:
        for source in group.sources:
            text = (ROOT / source).read_text()
            for mutant in statements.find(source, text, group.calls):
                if not only or f"{mutant.source}:{mutant.line}:".find(only) >= 0:
                    yield group, mutant


def judge(group, mutant, how):
    """(verdict, remark) from what noticed the mutant, or from nobody."""
    reason = group.reason_if_redundant(mutant)
    if how and reason:
        return "SURVIVED", f"called redundant, but noticed: {how}"
    if how:
        return "caught", how
    return ("redundant", reason) if reason else ("SURVIVED", "")


def try_all(work, variants_of, jobs):
    """Rows of the table, printed as they come."""
    rows = []
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        tried = pool.map(lambda gm: trial.notice(ROOT, gm[1], variants_of(gm[0])), work)
        for (group, mutant), how in zip(work, tried):
            verdict, remark = judge(group, mutant, how)
            rows.append({"group": group.name, "source": mutant.source, "line": mutant.line,
                         "statement": mutant.statement, "verdict": verdict, "by": remark})
            print(f"{verdict:9} {mutant.source}:{mutant.line}: {mutant.statement}"
                  f"{'  [' + remark + ']' if remark else ''}", flush=True)
    return rows


def cpu_name():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def record(path, rows, counts, seeds, minutes):
    table = {
        "benchmark": "mutation run of the synchronisation of CUDA kernels and pipelines",
        "command": " ".join(["python3", "tests/cuda_on_cpu/mutate.py",
                             *[a for a in sys.argv[1:] if not a.startswith("/")]]),
        "date": datetime.date.today().isoformat(),
        "machine": {"cpu": cpu_name(), "cpus": os.cpu_count()},
        "seeds": seeds,
        "minutes": round(minutes, 1),
        "mutants": len(rows),
        **counts,
    }
    head = json.dumps(table, indent=2)[:-2]
    lines = ",\n".join("    " + json.dumps(row) for row in rows)
    path.write_text(f'{head},\n  "rows": [\n{lines}\n  ]\n}}\n')


def parse():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--tsan", type=pathlib.Path)
    parser.add_argument("--group", action="append", default=[],
                        help=f"of {', '.join(g.name for g in targets.GROUPS)}; all by default")
    parser.add_argument("--only", default="", help="mutants whose FILE:LINE contains this")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--record", type=pathlib.Path)
    parser.add_argument("--list", action="store_true", help="only show the mutants")
    options = parser.parse_args()
    unknown = set(options.group) - {g.name for g in targets.GROUPS}
    if unknown:
        parser.error(f"no group {', '.join(sorted(unknown))}")
    return options


def main():
    options = parse()
    groups = [g for g in targets.GROUPS if not options.group or g.name in options.group]
    work = list(mutants_of(groups, options.only))
    if options.list:
        for group, m in work:
            print(f"{group.name:12} {m.source}:{m.line}: {m.statement}")
        return 0
    seeds = [int(seed) for seed in options.seeds.split(",")]
    plain = trial.Build(options.build.resolve())
    tsan = trial.Build(options.tsan.resolve()) if options.tsan else None

    def variants_of(group):
        return trial.variants(group, plain, tsan, seeds)

    start = datetime.datetime.now()
    for group in {g.name: g for g, _ in work}.values():
        trial.check_baseline(variants_of(group))
    rows = try_all(work, variants_of, options.jobs)
    counts = collections.Counter({"caught": 0, "redundant": 0, "survived": 0})
    counts.update(row["verdict"].lower() for row in rows)
    print(f"{len(rows)} mutants: " + ", ".join(f"{n} {word}" for word, n in counts.items()))
    if options.record:
        minutes = (datetime.datetime.now() - start).total_seconds() / 60
        record(options.record, rows, dict(counts), seeds, minutes)
    return 1 if counts["survived"] else 0


if __name__ == "__main__":
    sys.exit(main())
