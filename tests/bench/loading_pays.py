#!/usr/bin/env python3
"""Does loading a cached prefix pay, and does the scheduler know?

usage: loading_pays.py BUILD_DIR OUT_DIR [--model 1b|150m] [--sweep-model 150m|1b] [--only tiers|sweep]
                       [--repeats N] [--lengths A,B] [--links A,B] [--redis PATH|off]

1. TTFT of a request with a cached prefix of 2,000 tokens and 32 new ones: computed, and from the host pool,
   the disk and (where the server has --kv-remote-url and a redis-server is there) Redis. Disk and Redis are read
   by a server that was just started, so that nothing of them is in its memory.
2. Over paced links x prefix lengths: TTFT where the scheduler chooses (slack), beside always loading (fcfs)
   and always computing (the median of requests whose prefix nobody has seen). The choice is right where it is
   at most 10 % above the better of the two.

Models have random weights of the shapes Llama 3.2 1B (but for the vocabulary) and 150 M. Everything is
measured through `sluice serve` and `sluice generate`; the server says where the KV came from and which plan
it took. Writes OUT_DIR/loading_pays.json. Nothing else should run on the machine meanwhile.
"""
import argparse
import datetime
import json
import os
import pathlib
import random
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import urllib.request

import calibration
import collect

BLOCK = 32
TAIL = 32  # new tokens of a request
TOLERANCE = 0.10
PAUSE = threading.Event()  # never set
PREFIX = 2000 // BLOCK * BLOCK  # 1,984: only whole blocks are cached


def ids(seed, count, vocab):
    """`count` token ids drawn from `seed`, without the lowest ones, which tokenizers keep for themselves."""
    draw = random.Random(seed)
    return [draw.randrange(16, vocab) for _ in range(count)]


class Bench:
    """A model and the servers that are started with it."""

    def __init__(self, suites, preset):
        self.suites = suites
        self.sluice = suites.build / "sluice"
        self.preset = preset
        self.model = suites.model(preset)
        self.vocab = json.loads((self.model / "config.json").read_text())["vocab_size"]
        self.fresh = 0

    def calibrate(self):
        self.profile = self.suites.work / f"hardware-{self.preset}.json"
        command = [self.sluice, "calibrate", "--model", self.model, "--out", self.profile]
        collect.say(calibration.shown(command, self.suites.build))
        subprocess.run([str(c) for c in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                       check=True)

    def serve(self, length, *flags):
        """A server whose device pool holds one prompt of `length` tokens and hardly more."""
        blocks = (length + 2 * TAIL) // BLOCK + 4
        command = [self.sluice, "serve", "--model", self.model, "--calibration", self.profile, "--port", 0,
                   "--metrics-port", 0, "--http-port", "off", "--block-size", BLOCK,
                   "--device-kv-blocks", blocks, "--host-kv-blocks", 8 * blocks, "--log-level", "warning",
                   *flags]
        self.command = calibration.shown(command, self.suites.build)
        return calibration.Server(command)

    def send(self, server, prefix, length):
        """One request: `length` tokens of a prefix, and new ones. Returns its record."""
        self.fresh += 1
        prompt = ids(prefix, length, self.vocab) + ids(f"tail {self.fresh}", TAIL, self.vocab)
        command = [self.sluice, "generate", "--endpoint", server.endpoint, "--prompt-ids",
                   ",".join(map(str, prompt)), "--max-tokens", 2, "--ignore-eos", "--temperature", 0, "--json"]
        done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            sys.exit("loading_pays.py: a request failed; the server's last words:\n" + "".join(server.log[-5:]))
        settle(server)
        return json.loads(done.stdout)

    def unseen(self, server, length):
        return self.send(server, f"unseen {self.fresh}", length)


def settle(server):
    """Waits until no copy is under way, also of those that are still to be issued."""
    still, last = 0, None
    while still < 5:
        text = urllib.request.urlopen(server.metrics, timeout=10).read().decode()
        found = re.findall(r"^sluice_kv_(?:transfer_inflight_bytes|spill_pending_bytes|transfer_bytes_total)"
                           r"(?:{.*})? \S+$", text, re.M)
        busy = [line for line in found if "_total" not in line and float(line.split()[-1]) > 0]
        still = still + 1 if found == last and not busy else 0
        last = found
        PAUSE.wait(0.02)


def figures(record):
    usage, timing = record["usage"], record["timing"]
    return {"ttft_s": timing["ttft_s"], "plan": timing["plan"], "load_exposed_s": timing["load_exposed_s"],
            "tokens": {tier: usage[f"cached_{tier}_tokens"] for tier in ("device", "host", "disk", "remote")
                       if usage[f"cached_{tier}_tokens"] > 0} | {"computed": usage["computed_tokens"]}}


def summary(records):
    runs = [figures(r) for r in records]
    return {"ttft_s": round(statistics.median(r["ttft_s"] for r in runs), 4), "runs": runs}


# ---- Tiers -----------------------------------------------------------------------------------------

def fill(bench, server, count, length):
    """Prefixes computed, then met again so that they are worth keeping; returns the computed requests."""
    computed = []
    for p in range(count):
        computed.append(bench.send(server, f"prefix {p}", length))
        bench.send(server, f"prefix {p}", length)
    return computed


def off_device(bench, server, prefix, length, pool):
    """A request with a prefix that another one has driven out of the device pool of `pool` tokens."""
    bench.unseen(server, pool)
    return bench.send(server, prefix, length)


def from_restart(bench, count, *flags):
    """Fills a tier that outlives its server; then, by a new server, what requests take from it."""
    server = bench.serve(PREFIX, *flags)
    try:
        fill(bench, server, count, PREFIX)
    finally:
        server.stop()
    server = bench.serve(PREFIX, *flags)
    try:
        return summary([bench.send(server, f"prefix {p}", PREFIX) for p in range(count)])
    finally:
        server.stop()


def tiers(bench, flags, redis):
    count = flags.repeats
    result = {"model": bench.preset, "cached": PREFIX, "new": TAIL, "sources": {}}
    sources = result["sources"]
    server = bench.serve(PREFIX)
    result["serve"] = bench.command
    try:
        bench.unseen(server, PREFIX)  # first touch of everything
        sources["computed"] = summary(fill(bench, server, count, PREFIX))
        sources["host"] = summary([off_device(bench, server, f"prefix {p}", PREFIX, PREFIX)
                                   for p in range(count)])
    finally:
        server.stop()
    with tempfile.TemporaryDirectory(dir=bench.suites.work) as directory:
        sources["disk"] = from_restart(bench, count, "--kv-disk-dir", directory, "--kv-disk-gib", "4")
    if redis is not None:
        with redis as address:
            sources["redis"] = from_restart(bench, count, "--kv-remote-url", address)
    base = sources["computed"]["ttft_s"]
    for name, source in sources.items():
        source["speedup"] = round(base / source["ttft_s"], 2)
        collect.say(f"{name}: {source['ttft_s']:.3f} s, {source['speedup']} x; {source['runs'][-1]}")
    return result


class Redis:
    """A redis-server of its own, in memory only, for a while."""

    def __init__(self, program):
        self.program = program

    def __enter__(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.process = subprocess.Popen([self.program, "--port", str(port), "--save", "", "--appendonly", "no"],
                                        stdout=subprocess.DEVNULL)
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return f"redis://127.0.0.1:{port}"
            except OSError:
                PAUSE.wait(0.05)
        sys.exit("loading_pays.py: redis-server does not answer")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(20)


def find_redis(flags, suites):
    """None where there is no Redis or the server does not speak to one; says so."""
    program = shutil.which(flags.redis)
    usage = subprocess.run([str(suites.build / "sluice"), "serve", "--help"], stdout=subprocess.PIPE, text=True,
                           check=True).stdout
    if flags.redis == "off" or program is None or "--kv-remote-url" not in usage:
        collect.say("no redis-server, or a server without --kv-remote-url: Redis is left out")
        return None
    return Redis(program)


# ---- Sweep -----------------------------------------------------------------------------------------

def cell(bench, server, length, pool, repeats):
    """TTFT of a prefix that was stored and has left the device."""
    prefix = f"cell {length}"
    computed = [bench.send(server, prefix, length)]
    bench.send(server, prefix, length)
    runs = []
    for _ in range(repeats):
        computed.append(bench.unseen(server, pool))  # takes the whole device pool
        runs.append(bench.send(server, prefix, length))
    return summary(runs), [r for r in computed if r["usage"]["prompt_tokens"] == length + TAIL]


def judge(auto, load, recompute):
    best = min(load, recompute)
    return {"auto_s": auto, "load_s": load, "recompute_s": recompute, "auto_per_best": round(auto / best, 3),
            "faster": "load" if load < recompute else "recompute", "right": auto <= best * (1 + TOLERANCE)}


def sweep(bench, flags):
    lengths = [int(n) // BLOCK * BLOCK for n in flags.lengths.split(",")]
    pool = max(lengths)
    measured = {"slack": {}, "fcfs": {}}
    recompute = {n: [] for n in lengths}
    commands = {}
    for link in map(float, flags.links.split(",")):
        for policy, cells in measured.items():
            server = bench.serve(pool, "--policy", policy, "--link-gbps", link)
            commands[policy] = bench.command
            try:
                bench.unseen(server, 64)
                for length in lengths:
                    cells[link, length], computed = cell(bench, server, length, pool,
                                                           max(1, flags.repeats - 1))
                    recompute[length] += [r["timing"]["ttft_s"] for r in computed]
            finally:
                server.stop()
    rows = []
    for (link, length), auto in measured["slack"].items():
        load = measured["fcfs"][link, length]
        row = {"link_gbps": link, "cached": length,
               **judge(auto["ttft_s"], load["ttft_s"], round(statistics.median(recompute[length]), 4)),
               "plans": [r["plan"] for r in auto["runs"]], "auto": auto["runs"], "load": load["runs"]}
        rows.append(row)
        collect.say(f"{link} GB/s, {length} cached: load {row['load_s']:.3f}, recompute {row['recompute_s']:.3f}, "
                    f"auto {row['auto_s']:.3f} s by {', '.join(row['plans'])}: {row['auto_per_best']} of the best")
    return {"model": bench.preset, "new": TAIL, "tolerance": TOLERANCE, "link_emulated": True, "serve": commands,
            "right": sum(r["right"] for r in rows), "of": len(rows), "cells": rows}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("build")
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--model", default="1b", choices=("1b", "150m"), help="of the table of tiers")
    parser.add_argument("--sweep-model", default="150m", choices=("1b", "150m"))
    parser.add_argument("--only", choices=("tiers", "sweep"))
    parser.add_argument("--repeats", type=int, default=3, help="of the table; the sweep does one less")
    parser.add_argument("--lengths", default="512,1024,1984", help="cached tokens of the sweep")
    parser.add_argument("--links", default="0.008,0.016,0.032,0.1", help="GB/s of the sweep")
    parser.add_argument("--redis", default="redis-server", help="the program, or off")
    flags = parser.parse_args()
    flags.out.mkdir(parents=True, exist_ok=True)
    suites = collect.Suites(flags.build)
    report = {"suite": "loading_pays", "date": datetime.date.today().isoformat(), "machine": collect.machine(),
              "note": "random weights; prompts of random token ids drawn from fixed seeds"}
    benches = {}

    def bench_of(preset):
        if preset not in benches:
            benches[preset] = Bench(suites, preset)
            benches[preset].calibrate()
        return benches[preset]
    if flags.only != "sweep":
        report["tiers"] = tiers(bench_of(flags.model), flags, find_redis(flags, suites))
    if flags.only != "tiers":
        report["sweep"] = sweep(bench_of(flags.sweep_model), flags)
    report["machine"]["load_average_after"] = os.getloadavg()[0]
    (flags.out / "loading_pays.json").write_text(json.dumps(report, indent=1) + "\n")
    collect.say(f"wrote {flags.out / 'loading_pays.json'}")


if __name__ == "__main__":
    main()
