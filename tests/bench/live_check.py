#!/usr/bin/env python3
"""slack against fcfs on the CPU backend with an emulated link, and the simulator's prediction of both.

    live_check.py BUILD_DIR OUT.json

Serves the 150 M random model (BUILD_DIR/bench/150m, made by collect.py) once per policy, sends the same
kappa-mix workload, then simulates the same requests with the costs that `sluice calibrate` measured
(BUILD_DIR/bench/hardware.json). The link is EMULATED. Nothing else should run on the machine.
"""

import json
import pathlib
import signal
import subprocess
import sys
import urllib.request

MODEL_FLAGS = ["--device-kv-gib", "96MiB", "--host-kv-gib", "2GiB", "--link-gbps", "0.5",
               "--max-model-len", "8192"]
LOAD = ["--workload", "kappa-mix", "--scale", "16", "--max-input", "4000", "--num-requests", "160",
        "--rate", "3", "--seed", "1"]


def serve_and_bench(sluice, model, calibration, policy):
    server = subprocess.Popen(
        [sluice, "serve", "--model", model, "--port", "0", "--metrics-port", "0", "--policy", policy,
         "--calibration", calibration, *MODEL_FLAGS], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True)
    try:
        words = server.stdout.readline().split()
        endpoint = words[words.index("on") + 1].rstrip(",")
        metrics = next(w for w in words if w.startswith("http://"))
        done = subprocess.run([sluice, "bench", "--endpoint", endpoint, *LOAD, "--json", "-"],
                              check=True, capture_output=True, text=True)
        text = urllib.request.urlopen(metrics).read().decode()
        keep = [line for line in text.splitlines() if line.startswith(
            ("sluice_activity_seconds_total", "sluice_kv_transfer_busy", "sluice_cost_"))]
        return {"bench": json.loads(done.stdout), "metrics": keep}
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)


def main():
    build, out = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2])
    sluice, model = str(build / "sluice"), str(build / "bench/150m")
    calibration = str(build / "bench/hardware.json")
    subprocess.run([sluice, "calibrate", "--model", model, "--out", calibration], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    result = {"benchmark": "live_check", "link": "emulated", "seed": 1, "load": LOAD,
              "serve": MODEL_FLAGS}
    for policy in ("fcfs", "slack"):
        result[policy] = serve_and_bench(sluice, model, calibration, policy)
        print(policy, json.dumps(result[policy]["bench"].get("ttft_s", result[policy]["bench"]))[:300],
              file=sys.stderr)
    out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
