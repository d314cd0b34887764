#!/usr/bin/env python3
"""How well the simulator predicts a real server, and `slack` against `fcfs` on it.

usage: live_check.py BUILD_DIR OUT_DIR [--rates A,B] [--requests N] [--runs N]

Calibrates this machine, serves the random model of 150 M parameters with the CPU backend from a device
pool too small for the workload over an emulated link (paced copies), once under each policy, sends it
the κ mix, and simulates the same requests on the calibrated profile. Writes OUT_DIR/live_check.json.
Nothing else should run on the machine meanwhile.
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


def simulated(flags, suites, model, profile, rate, out):
    sluice = suites.build / "sluice"
    command = [sluice, "simulate", "--model", model / "config.json", "--hardware", profile,
               "--link", LINK_GBPS, "--block-size", 32, "--device-kv-gib", DEVICE_GIB,
               "--host-kv-gib", HOST_GIB, "--max-num-batched-tokens", STEP_TOKENS, "--exact-outputs",
               "--policy", ",".join(POLICIES), "--requests", flags.requests, *workload(flags, rate),
               "--json", out]
    subprocess.run([str(c) for c in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    results = json.loads(out.read_text())["policies"]
    keys = ("ttft_s", "makespan_s", "device_busy_s", "link_busy_s", "exposed_link_s")
    return calibration.shown(command, suites.build), {
        name: {k: results[name][k] for k in keys} for name in POLICIES}


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
    parser.add_argument("--rates", default="3,4.5", help="requests per second, with commas between them")
    parser.add_argument("--requests", type=int, default=240)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--profile", type=pathlib.Path, help="use this one instead of calibrating")
    flags = parser.parse_args()
    flags.out.mkdir(parents=True, exist_ok=True)
    suites = collect.Suites(flags.build)
    model = suites.model("150m")
    report = {"suite": "live_check", "date": datetime.date.today().isoformat(), "machine": collect.machine(),
              "seed": flags.seed, "link_gbps": LINK_GBPS, "link_emulated": True, "tolerance": TOLERANCE}
    profile = flags.profile
    if profile is None:
        profile = suites.work / "hardware.json"
        calibrate = [suites.build / "sluice", "calibrate", "--model", model, "--threads", THREADS, "--out", profile]
        report["calibrate"] = calibration.shown(calibrate, suites.build)
        collect.say(report["calibrate"])
        subprocess.run([str(c) for c in calibrate], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    report["cells"] = []
    for rate in flags.rates.split(","):
        command, sims = simulated(flags, suites, model, profile, rate, flags.out / "simulated.json")
        cell = {"rate": float(rate), "simulate": command, "policies": {}}
        for policy in POLICIES:
            run = live(flags, suites, model, profile, policy, rate)
            verdict = compare(run, sims[policy])
            cell["policies"][policy] = {"live": run, "simulated": sims[policy], "verdict": verdict}
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
