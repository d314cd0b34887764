#!/usr/bin/env python3
"""How well the simulator predicts a real server, and `slack` against `fcfs` on it.

usage: live_check.py BUILD_DIR OUT_DIR [--rates A,B] [--requests N] [--runs N]

Serves the random model of 150 M parameters with the CPU backend from a device pool too small for the
workload over an emulated link (paced copies), once under each policy, sends it the κ mix, and simulates
the same requests. The machine is calibrated right before each run, because shared machines change their
speed by 10 % within minutes, and each run is simulated on its own calibration. Writes
OUT_DIR/live_check.json. Nothing else should run on the machine meanwhile.
"""
import argparse
import datetime
import json
import os
import pathlib
import re
import subprocess
import sys
import urllib.request

import calibration
import collect

LINK_GBPS = 0.05
THREADS = 1  # of compute: the other core is left to gRPC and to the load
DEVICE_GIB, HOST_GIB = 0.1, 4
SCALE, MAX_INPUT, STEP_TOKENS = 16, 7500, 512
POLICIES = ("fcfs", "slack")
TOLERANCE = 0.20


def totals(server):
    """Busy seconds since start: of the device and of the link towards it."""
    text = urllib.request.urlopen(server.metrics, timeout=10).read().decode()

    def value(pattern):
        return sum(float(v) for v in re.findall(rf"^{pattern} (\S+)$", text, re.M))
    return {"device_busy_s": value(r"sluice_compute_busy_seconds_total{.*}"),
            "link_busy_s": value(r'sluice_kv_transfer_busy_seconds_total{.*dst="device",src="host".*}'),
            "exposed_link_s": value(r'sluice_transfer_stall_seconds_total{.*}')}


def workload(flags, rate):
    return ["--workload", "kappa-mix", "--scale", SCALE, "--max-input", MAX_INPUT, "--rate", rate,
            "--seed", flags.seed]


def live(flags, suites, model, profile, policy, rate):
    """Serves and loads; the figures of the run."""
    sluice = suites.build / "sluice"
    serve = [sluice, "serve", "--model", model, "--calibration", profile, "--policy", policy,
             "--threads", THREADS,
             "--port", 0, "--metrics-port", 0, "--link-gbps", LINK_GBPS, "--block-size", 32,
             "--device-kv-gib", DEVICE_GIB, "--host-kv-gib", HOST_GIB,
             "--max-num-batched-tokens", STEP_TOKENS]
    server = calibration.Server(serve)
    try:
        before = totals(server)
        bench = [sluice, "bench", "--endpoint", server.endpoint, "--json", "-", "--num-requests",
                 flags.requests, "--max-in-flight", 1024, *workload(flags, rate)]
        done = subprocess.run([str(c) for c in bench], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              text=True, check=False)
        if done.returncode != 0:
            sys.exit("live_check.py: the load failed; the server's last words:\n" + "".join(server.log[-5:]))
        after = totals(server)
    finally:
        server.stop()
    results = json.loads(done.stdout)["results"]
    return {"serve": calibration.shown(serve, suites.build), "bench": calibration.shown(bench, suites.build),
            "ttft_s": {k: v / 1000 for k, v in results["ttft_ms"].items() if k != "count"},
            "makespan_s": results["duration_s"], "failed": results["failed"],
            **{k: round(after[k] - before[k], 4) for k in after}}


def calibrated(suites, model):
    """The machine as it is now; also the command."""
    profile = suites.work / "hardware.json"
    command = [suites.build / "sluice", "calibrate", "--model", model, "--threads", THREADS, "--out", profile]
    subprocess.run([str(c) for c in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return profile, calibration.shown(command, suites.build)


def simulated(flags, suites, model, profile, policy, rate, out):
    sluice = suites.build / "sluice"
    command = [sluice, "simulate", "--model", model / "config.json", "--hardware", profile,
               "--link", LINK_GBPS, "--block-size", 32, "--device-kv-gib", DEVICE_GIB,
               "--host-kv-gib", HOST_GIB, "--max-num-batched-tokens", STEP_TOKENS, "--exact-outputs",
               "--policy", policy, "--requests", flags.requests, *workload(flags, rate),
               "--json", out]
    subprocess.run([str(c) for c in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    results = json.loads(out.read_text())["policies"][policy]
    keys = ("ttft_s", "makespan_s", "device_busy_s", "link_busy_s", "exposed_link_s")
    return {"simulate": calibration.shown(command, suites.build), **{k: results[k] for k in keys}}


def compare(live_run, sim):
    """Simulated / live of what is predicted, and whether each is within the tolerance."""
    pairs = {"ttft_mean": (live_run["ttft_s"]["mean"], sim["ttft_s"]["mean"]),
             "ttft_p99": (live_run["ttft_s"]["p99"], sim["ttft_s"]["p99"]),
             "device_busy": (live_run["device_busy_s"], sim["device_busy_s"]),
             "link_busy": (live_run["link_busy_s"], sim["link_busy_s"])}
    return {name: {"live": round(a, 4), "simulated": round(b, 4), "simulated_per_live": round(b / a, 3),
                   "within_tolerance": abs(b / a - 1) <= TOLERANCE} for name, (a, b) in pairs.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("build")
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--rates", default="2,3", help="requests per second, with commas between them")
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    flags = parser.parse_args()
    flags.out.mkdir(parents=True, exist_ok=True)
    suites = collect.Suites(flags.build)
    model = suites.model("150m")
    report = {"suite": "live_check", "date": datetime.date.today().isoformat(), "machine": collect.machine(),
              "seed": flags.seed, "link_gbps": LINK_GBPS, "link_emulated": True, "tolerance": TOLERANCE}
    report["cells"] = []
    for rate in flags.rates.split(","):
        cell = {"rate": float(rate), "policies": {}}
        for policy in POLICIES:
            profile, report["calibrate"] = calibrated(suites, model)
            run = live(flags, suites, model, profile, policy, rate)
            sim = simulated(flags, suites, model, profile, policy, rate, flags.out / "simulated.json")
            verdict = compare(run, sim)
            cell["policies"][policy] = {"live": run, "simulated": sim, "verdict": verdict}
            collect.say(f"{rate}/s {policy}: " + ", ".join(
                f"{n} {v['live']} live, {v['simulated']} simulated ({v['simulated_per_live']})"
                for n, v in verdict.items()))
        fcfs, slack = (cell["policies"][p]["live"]["ttft_s"] for p in POLICIES)
        cell["slack_per_fcfs_live"] = {k: round(slack[k] / fcfs[k], 3) for k in ("mean", "p50", "p99")}
        report["cells"].append(cell)
    (flags.out / "simulated.json").unlink()
    report["machine"]["load_average_after"] = os.getloadavg()[0]
    (flags.out / "live_check.json").write_text(json.dumps(report, indent=1) + "\n")
    collect.say(f"wrote {flags.out / 'live_check.json'}")


if __name__ == "__main__":
    main()
