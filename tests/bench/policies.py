#!/usr/bin/env python3
"""Compares all scheduling policies in the simulator; writes one JSON with machine, commands and seed.

    policies.py BUILD_DIR TRACE_DIR OUT.json [--requests N]

TRACE_DIR holds agentic-coding.dev.jsonl.gz and mooncake-conversation.dev.jsonl.gz: the traces of
callanjfox/kv-cache-tester and kvcache-ai/Mooncake (FAST25-release), brought into the format that
service/workload/trace_reader.h describes. All figures are of simulated machines: the cost model stands in for the device.
"""

import argparse
import math
import pathlib
import sys

import simulating

MODELS = {
    "8b": ["--model", "llama-3.1-8b", "--host-kv-gib", "1024"],
    "70b": ["--model", "llama-3.1-70b", "--tp", "4", "--host-kv-gib", "2048"],
}
LINKS = {"55": [], "15": ["--link", "15"]}
LOADS = {
    "agentic": ["--trace", "agentic-coding.dev.jsonl.gz", "--max-input", "131072"],
    "mooncake": ["--trace", "mooncake-conversation.dev.jsonl.gz"],
    "kappa-mix": ["--workload", "kappa-mix"],
}
REFERENCES = ("offload-off", "all-resident")
RATIOS = ("slack_to_best", "slack_to_fcfs", "p99_to_fcfs", "slack_to_offload_off",
          "makespan_to_all_resident")
KEEP = ("requests", "completed", "rejected", "ttft_s", "slowdown", "itl_s", "makespan_s", "bound_s",
        "link_busy_s", "device_busy_s", "exposed_link_s", "max_wait_s", "wait_bound_s",
        "beyond_wait_bound", "jain", "energy_j", "cached_tokens", "computed_tokens",
        "recomputed_tokens", "decisions")


def simulate(sluice, traces, flags, requests):
    flags = [str(traces / f) if f.endswith(".gz") else f for f in flags]
    return simulating.simulate(sluice, [*flags, "--hardware", "h100-pcie5", "--requests", requests,
                                        "--utilization", "0.92", "--tenants", "4", "--policy", "all"])


def geomean(values):
    return math.exp(sum(map(math.log, values)) / len(values))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("traces", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--requests", type=int, default=1500)
    args = parser.parse_args()
    cells = []
    for load, load_flags in LOADS.items():
        for model, model_flags in MODELS.items():
            for link, link_flags in LINKS.items():
                result = simulate(pathlib.Path(args.build) / "sluice", args.traces,
                                  load_flags + model_flags + link_flags, args.requests)
                policies = {n: {k: p[k] for k in KEEP} for n, p in result["policies"].items()}
                for p in policies.values():
                    p["decisions"] = {k: v for k, v in p["decisions"].items() if v}
                ttft = {n: p["ttft_s"]["mean"] for n, p in policies.items()}
                others = [n for n in ttft if n not in ("slack", *REFERENCES)]
                best = min(others, key=ttft.get)
                cells.append({"load": load, "model": model, "link_gbps": link,
                              "machine": result["machine"], "rate_scale": result["rate_scale"],
                              "best_baseline": best, "slack_to_best": ttft["slack"] / ttft[best],
                              "slack_to_fcfs": ttft["slack"] / ttft["fcfs"],
                              "p99_to_fcfs": policies["slack"]["ttft_s"]["p99"] /
                                             policies["fcfs"]["ttft_s"]["p99"],
                              "slack_to_offload_off": ttft["slack"] / ttft["offload-off"],
                              "makespan_to_all_resident": policies["slack"]["makespan_s"] /
                                                          policies["all-resident"]["makespan_s"],
                              "policies": policies})
                print(load, model, link, best, *(f"{k} {cells[-1][k]:.2f}" for k in RATIOS),
                      file=sys.stderr, flush=True)
    summary = {k: geomean([c[k] for c in cells]) for k in RATIOS}
    head = {"benchmark": "policies", "simulated": True, "seed": 1, "requests": args.requests,
            "command": "tests/bench/policies.py BUILD TRACES OUT", "geomean": summary}
    simulating.write(args.out, head, {"cells": cells})
    print(summary, file=sys.stderr)


if __name__ == "__main__":
    main()
