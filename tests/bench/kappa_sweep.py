#!/usr/bin/env python3
"""κ x load: where loading, computing and device memory are the bottleneck, and what a policy makes of it.

    kappa_sweep.py BUILD_DIR OUT.json [--requests N]

Every request asks P new tokens about one of 200 documents of C = 16,384 tokens, so that κ = C / P where
the document is not on the device: more documents than the device holds, fewer than the host does. Arrivals
are at 0.3 to 1.5 of what `fcfs` can serve. All figures are of simulated machines.
"""

import argparse
import json
import pathlib
import random
import sys
import tempfile

import simulating

CACHED, DOCUMENTS, OUTPUT, BLOCK = 16384, 200, 64, 512
KAPPAS = (1, 10, 100, 1000, 10000)
LOADS = (0.3, 0.6, 0.9, 1.2, 1.5)
POLICIES = ("fcfs", "slack", "slack@offload-off", "slack@all-resident")
MACHINE = ["--model", "llama-3.1-8b", "--hardware", "h100-pcie5", "--link", "15", "--host-kv-gib", "1024"]
KEEP = ("ttft_s", "slowdown", "itl_s", "makespan_s", "bound_s", "link_busy_s", "device_busy_s", "exposed_link_s",
        "max_wait_s", "wait_bound_s", "beyond_wait_bound", "jain", "energy_j", "output_tokens", "cached_tokens",
        "computed_tokens", "decisions")


def write_trace(path, kappa, requests):
    """Poisson arrivals at one a second; `--utilization` scales them."""
    rng = random.Random(1)
    fresh = max(1, CACHED // kappa)
    now, next_block = 0.0, DOCUMENTS * (CACHED // BLOCK)
    with path.open("w") as out:
        for _ in range(requests):
            now += rng.expovariate(1.0)
            document = rng.randrange(DOCUMENTS)
            own = -(-fresh // BLOCK)
            blocks = [document * (CACHED // BLOCK) + i for i in range(CACHED // BLOCK)]
            blocks += [next_block + i for i in range(own)]
            next_block += own
            print(json.dumps({"arrival_ms": int(now * 1000), "input_tokens": CACHED + fresh,
                              "output_tokens": OUTPUT, "block_tokens": BLOCK, "block_hashes": blocks}), file=out)


def cell(sluice, kappa, load, requests):
    with tempfile.TemporaryDirectory() as folder:
        trace = pathlib.Path(folder) / "kappa.jsonl"
        write_trace(trace, kappa, requests)
        return simulating.simulate(sluice, ["--trace", trace, *MACHINE, "--utilization", load, "--policy",
                                            ",".join(POLICIES)])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--requests", type=int, default=600)
    flags = parser.parse_args()
    cells = []
    for kappa in KAPPAS:
        for load in LOADS:
            result = cell(flags.build / "sluice", kappa, load, flags.requests)
            policies = {n: {k: p[k] for k in KEEP} for n, p in result["policies"].items()}
            for p in policies.values():
                p["decisions"] = {k: v for k, v in p["decisions"].items() if v}
                p["joules_per_token"] = p["energy_j"] / p["output_tokens"]
            mean = {n: p["ttft_s"]["mean"] for n, p in policies.items()}
            cells.append({"kappa": kappa, "load": load, "rate_scale": result["rate_scale"], "policies": policies})
            print(f"kappa {kappa:5} load {load}: mean TTFT", *(f"{n} {mean[n]:.3f}" for n in POLICIES),
                  "link busy %.2f device busy %.2f" % tuple(
                      policies["slack"][k] / policies["slack"]["makespan_s"] for k in ("link_busy_s", "device_busy_s")),
                  file=sys.stderr, flush=True)
    head = {"benchmark": "kappa_sweep", "simulated": True, "seed": 1, "requests": flags.requests,
            "command": "tests/bench/kappa_sweep.py BUILD OUT", "machine": " ".join(MACHINE),
            "cached_tokens": CACHED, "documents": DOCUMENTS, "output_tokens": OUTPUT}
    simulating.write(flags.out, head, {"cells": cells})


if __name__ == "__main__":
    main()
