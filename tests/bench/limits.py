#!/usr/bin/env python3
"""Two limits of `slack`, simulated: what a host tier costs where it cannot pay, and how near a full
machine comes to the least time for its work.

    limits.py BUILD_DIR TRACE_DIR OUT.json [--requests N]

regret      mean TTFT with a host tier over that without one, on links down to 0.2 GB/s
saturation  all requests at once: makespan over the bound (all link or all prefill and decode work, in
            steps as full as limits allow), and over that of a machine with all KV on the device
"""

import argparse
import json
import pathlib
import statistics
import sys

import simulating

WORKLOADS = ("kappa-mix", "sharegpt", "uniform", "agentic", "narrativeqa")
LINKS = (0.2, 1, 5, 15, 55)
LOADS = (0.5, 0.92)
SEEDS = (1, 2, 3)  # of regret; saturation has the first
MACHINE = ["--model", "llama-3.1-8b", "--hardware", "h100-pcie5"]


def policies(sluice, flags):
    return simulating.simulate(sluice, [*MACHINE, *flags])["policies"]


def regret(sluice, requests):
    """One cell per workload, link and load: each seed's ratio, and their geometric mean. Which requests
    meet is chance, so that single runs differ by a few percent either way."""
    for workload in WORKLOADS:
        for link in LINKS:
            for load in LOADS:
                runs = [policies(sluice, ["--workload", workload, "--requests", requests, "--max-input", 120000,
                                          "--utilization", load, "--host-kv-gib", 256, "--link", link,
                                          "--seed", seed, "--policy", "slack,slack@offload-off"]) for seed in SEEDS]
                ttft = [(p["slack"]["ttft_s"], p["slack@offload-off"]["ttft_s"]) for p in runs]
                ratios = [with_tier["mean"] / without["mean"] for with_tier, without in ttft]
                yield {"workload": workload, "link_gbps": link, "load": load,
                       "ratio": statistics.geometric_mean(ratios), "ratios": ratios,
                       "p99_ratio": statistics.geometric_mean([a["p99"] / b["p99"] for a, b in ttft])}


def saturation(sluice, traces, requests):
    loads = {"agentic": ["--trace", traces / "agentic-coding.dev.jsonl.gz", "--max-input", 131072],
             "mooncake": ["--trace", traces / "mooncake-conversation.dev.jsonl.gz"],
             "kappa-mix": ["--workload", "kappa-mix"]}
    for name, flags in loads.items():
        for link in (15, 55):
            p = policies(sluice, [*flags, "--requests", requests, "--rate-scale", 0, "--host-kv-gib", 1024,
                                  "--link", link, "--policy", "fcfs,slack,slack@all-resident"])
            yield {"load": name, "link_gbps": link, **{
                policy: {"makespan_s": r["makespan_s"], "bound_s": r["bound_s"],
                         "to_bound": r["makespan_s"] / r["bound_s"],
                         "device_busy": r["device_busy_s"] / r["makespan_s"]} for policy, r in p.items()},
                   "slack_to_all_resident": p["slack"]["makespan_s"] / p["slack@all-resident"]["makespan_s"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("traces", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--requests", type=int, default=800)
    flags = parser.parse_args()
    sections = {"regret": [], "saturation": []}
    for name, cells in (("regret", regret(flags.build / "sluice", flags.requests)),
                        ("saturation", saturation(flags.build / "sluice", flags.traces, flags.requests))):
        for cell in cells:
            sections[name].append(cell)
            print(name, json.dumps(cell), file=sys.stderr, flush=True)
    worst = max(sections["regret"], key=lambda c: c["ratio"])
    head = {"benchmark": "limits", "simulated": True, "seeds": SEEDS, "requests": flags.requests,
            "command": "tests/bench/limits.py BUILD TRACES OUT", "machine": " ".join(MACHINE),
            "worst_regret": worst, "worst_regret_of_one_run": max(max(c["ratios"]) for c in sections["regret"])}
    simulating.write(flags.out, head, sections)
    print("worst regret", worst, file=sys.stderr)


if __name__ == "__main__":
    main()
