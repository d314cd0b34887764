#!/usr/bin/env python3
"""Deletes one synchronising statement at a time and asks the tests whether they notice.

    python3 tests/cuda_on_cpu/mutate.py BUILD [--tsan BUILD] [--group NAME ...] [--seeds 0,1,2]
                                        [--only FILE[:LINE] ...] [--changed-since-result]
                                        [--jobs N] [--record FILE] [--list]

Each barrier, fence, wait, event record and synchronise that statements.py finds in backend/cuda is
removed in a copy; what depends on it is compiled with the commands of BUILD (a configured and built
Ninja folder), linked into the tests that must notice (mutation/targets.py), and run, once per seed of
the emulation and then once in the ThreadSanitizer folder. The tree itself is not touched. A mutant is

    caught      a test fails, crashes, does not end in time, or ThreadSanitizer reports a race
    redundant   nobody notices, and targets.py says why nobody can
    SURVIVED    nobody notices: a test is missing, or the statement is redundant and goes

Exits 1 if a mutant survives, if one that is called redundant is noticed, or if a statement has no
test. --record writes the table as JSON and keeps the rows of sources that were not tried.
--changed-since-result skips sources that are, with their tests, as they were when the file of
--record was written. Two cores: about 8 seconds per mutant of a kernel, 15 of the pipelines.
"""

import argparse
import concurrent.futures
import datetime
import hashlib
import json
import os
import pathlib
import platform
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from mutation import statements, targets, trial  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]


def chosen(options):
    """(group, mutant) of every statement that is tried."""
    found = targets.statements_of_tree(ROOT)
    homeless = [m for group, m in found if group is None]
    if homeless:
        sys.exit("mutate: no test is assigned (mutation/targets.py) to " + "; ".join(
            f"{m.source}:{m.line}: {m.statement}" for m in homeless))

    def wanted(group, mutant):
        place = f"{mutant.source}:{mutant.line}:"
        return ((not options.group or group.name in options.group)
                and (not options.only or any(only in place for only in options.only)))
    return [(group, mutant) for group, mutant in found if wanted(group, mutant)]


def keys_of(work, build):
    """source -> a hash of it and of the tests that must notice."""
    keys = {}
    for group, mutant in work:
        if mutant.source in keys:
            continue
        digest = hashlib.sha256((ROOT / mutant.source).read_bytes())
        for target in group.tests:
            for source in build.test_sources(target):
                digest.update((ROOT / source).read_bytes())
        keys[mutant.source] = digest.hexdigest()[:16]
    return keys


def recorded(path):
    """The table that --record wrote earlier, or an empty one."""
    if path is None or not path.exists():
        return {"keys": {}, "rows": []}
    table = json.loads(path.read_text())
    return {"keys": table.get("keys", {}), "rows": table["rows"]}


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


def record(path, rows, keys, seeds, minutes):
    """Writes the table: these rows, and the former ones of sources that were not tried."""
    former = recorded(path)
    present = {m.source for _, m in targets.statements_of_tree(ROOT)}
    rows = rows + [r for r in former["rows"] if r["source"] in present - set(keys)]
    rows.sort(key=lambda r: (r["source"], r["line"]))
    counts = count(rows)
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
        "keys": {s: k for s, k in sorted({**former["keys"], **keys}.items()) if s in present},
    }
    head = json.dumps(table, indent=2)[:-2]
    lines = ",\n".join("    " + json.dumps(row) for row in rows)
    path.write_text(f'{head},\n  "rows": [\n{lines}\n  ]\n}}\n')


def count(rows):
    counts = {"caught": 0, "redundant": 0, "survived": 0}
    for row in rows:
        counts[row["verdict"].lower()] += 1
    return counts


def parse():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--tsan", type=pathlib.Path)
    parser.add_argument("--group", action="append", default=[],
                        help=f"of {', '.join(g.name for g in targets.GROUPS)}; all by default")
    parser.add_argument("--only", action="append", default=[],
                        help="mutants whose FILE:LINE: contains this")
    parser.add_argument("--changed-since-result", action="store_true",
                        help="skip sources that are, with their tests, as --record's file has them")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--record", type=pathlib.Path)
    parser.add_argument("--list", action="store_true", help="only show the mutants")
    options = parser.parse_args()
    if options.changed_since_result and options.record is None:
        parser.error("--changed-since-result compares with the file of --record")
    unknown = set(options.group) - {g.name for g in targets.GROUPS}
    if unknown:
        parser.error(f"no group {', '.join(sorted(unknown))}")
    return options


def main():
    options = parse()
    work = chosen(options)
    seeds = [int(seed) for seed in options.seeds.split(",")]
    plain = trial.Build(options.build.resolve())
    tsan = trial.Build(options.tsan.resolve()) if options.tsan else None
    keys = keys_of(work, plain)
    if options.changed_since_result:
        same = {s for s, k in recorded(options.record)["keys"].items() if keys.get(s) == k}
        work = [(group, mutant) for group, mutant in work if mutant.source not in same]
        keys = {s: k for s, k in keys.items() if s not in same}
    if options.list:
        for group, m in work:
            print(f"{group.name:12} {m.source}:{m.line}: {m.statement}")
        return 0

    def variants_of(group):
        return trial.variants(group, plain, tsan, seeds)

    start = datetime.datetime.now()
    for group in {g.name: g for g, _ in work}.values():
        trial.check_baseline(variants_of(group))
    rows, sources = [], list(dict.fromkeys(mutant.source for _, mutant in work))
    for source in sources:  # recorded one by one: a run that is cut short is not for nothing
        part = [(group, mutant) for group, mutant in work if mutant.source == source]
        rows += try_all(part, variants_of, options.jobs)
        if options.record:
            minutes = (datetime.datetime.now() - start).total_seconds() / 60
            done = set(sources[:sources.index(source) + 1])
            record(options.record, rows, {s: k for s, k in keys.items() if s in done}, seeds,
                   minutes)
    counts = count(rows)
    print(f"{len(rows)} mutants: " + ", ".join(f"{n} {word}" for word, n in counts.items()))
    return 1 if counts["survived"] else 0


if __name__ == "__main__":
    sys.exit(main())
