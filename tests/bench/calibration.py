#!/usr/bin/env python3
"""How well the server predicts its own steps and copies after `sluice calibrate`.

usage: calibration.py BUILD_DIR OUT_DIR [--link-gbps X] [--quick]

Calibrates this machine, serves the random model of 150 M parameters with a device pool too small for
its prefixes and a link paced to X GB/s, runs mixed loads with `sluice bench`, and reads the median
|predicted - actual| / actual of the last 256 steps and copies from /metrics twice a second. Writes
OUT_DIR/calibration.json. Nothing else should run on the machine meanwhile.
"""
import argparse
import datetime
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import threading
import time
import urllib.request

import collect

STEP = "sluice_cost_step_error_ratio_median"
COPY = "sluice_cost_copy_error_ratio_median"
TARGETS = {STEP: 0.15, COPY: 0.10}
# 24 prefixes of 640 tokens are 480 blocks: more than the device pool, less than the host pool.
SERVE = ["--port", "0", "--metrics-port", "0", "--device-kv-blocks", "320", "--host-kv-blocks", "1024",
         "--max-model-len", "4096"]
SHARED = ["--prompt-tokens", "768", "--shared-prefix-tokens", "640", "--num-prefixes", "24",
          "--output-tokens", "32"]
# Prefill chunks, decode batches, loads and stores, beside each other; then each kind of step alone.
PHASES = [("mixed", [*SHARED, "--concurrency", "6", "--num-requests", "240"]),
          ("decode", ["--prompt-tokens", "64", "--output-tokens", "160", "--concurrency", "16",
                      "--num-requests", "48"]),
          ("prefill", ["--prompt-tokens", "3000", "--output-tokens", "2", "--concurrency", "2",
                       "--num-requests", "16"]),
          ("mixed again", [*SHARED, "--concurrency", "6", "--num-requests", "240", "--seed", "2"])]


class Server:
    def __init__(self, command):
        self.process = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        match = re.match(r"sluice: serving .* on (\S+), metrics on? ?(\S+)", line)
        if match is None:
            sys.exit(f"the server did not start: {line}{self.process.stderr.read()}")
        self.endpoint, self.metrics = match.groups()
        self.log = []
        threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True).start()

    def read(self):
        """The cost model's metrics by name."""
        text = urllib.request.urlopen(self.metrics, timeout=10).read().decode()
        found = re.findall(r"^(sluice_cost_[a-z_]+)(?:{.*})? (\S+)$", text, re.M)
        return {name: float(value) for name, value in found}

    def stop(self):
        self.process.terminate()
        self.process.wait(60)


class Sampler:
    """Reads the two gauges until stopped."""

    def __init__(self, server):
        self.server = server
        self.samples = []
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.thread.join()

    def run(self):
        while not self.stopping.wait(0.5):
            self.samples.append(self.server.read())

    def summary(self):
        """Of the samples' second half: the first half still remembers the phase before."""
        result = {}
        for name in (STEP, COPY):
            values = [s[name] for s in self.samples[len(self.samples) // 2:] if s.get(name, 0) > 0]
            if values:
                result[name] = {"end": round(values[-1], 4), "median": round(statistics.median(values), 4),
                                "worst": round(max(values), 4), "samples": len(values)}
        return result


def shown(command, build):
    return " ".join(str(c).replace(str(build) + "/", "build/release/") for c in command)


def run_phase(name, flags, server, sluice, build):
    command = [sluice, "bench", "--endpoint", server.endpoint, "--json", "-", *flags]
    collect.say(f"{name}: {shown(command, build)}")
    with Sampler(server) as sampler:
        done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        sys.exit("calibration.py: the load failed; the server's last words:\n" + "".join(server.log[-5:]))
    results = json.loads(done.stdout)["results"]
    collect.say(f"  {json.dumps(sampler.summary())}")
    return {"phase": name, "command": shown(command, build).replace(server.endpoint, "HOST:PORT"),
            "errors": sampler.summary(), "bench": results}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("build")
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--link-gbps", type=float, default=0.5)
    parser.add_argument("--quick", action="store_true", help="the first phase only, after a quick calibration")
    flags = parser.parse_args()
    suites = collect.Suites(flags.build)
    sluice, model = suites.build / "sluice", suites.model("150m")
    profile = suites.work / "hardware.json"
    head = {"suite": "calibration", "date": datetime.date.today().isoformat(), "machine": collect.machine(),
            "seed": 1, "link_gbps": flags.link_gbps}

    calibrate = [sluice, "calibrate", "--model", model, "--out", profile, *(["--quick"] if flags.quick else [])]
    collect.say(shown(calibrate, suites.build))
    start = time.monotonic()
    subprocess.run([str(c) for c in calibrate], check=True, stdout=subprocess.DEVNULL)
    seconds = round(time.monotonic() - start, 1)

    serve = [sluice, "serve", "--model", model, "--calibration", profile, "--link-gbps", flags.link_gbps, *SERVE]
    server = Server(serve)
    try:
        phases = [run_phase(name, args, server, sluice, suites.build)
                  for name, args in (PHASES[:1] if flags.quick else PHASES)]
        metrics = server.read()
    finally:
        server.stop()
    head["machine"]["load_average_after"] = os.getloadavg()[0]
    mixed = phases[-1]["errors"]
    verdict = {name: {"target": target, "median": mixed.get(name, {}).get("median"),
                      "met": name in mixed and mixed[name]["median"] <= target}
               for name, target in TARGETS.items()}
    report = {**head, "calibrate": {"command": shown(calibrate, suites.build), "seconds": seconds,
                                    "profile": json.loads(profile.read_text())},
              "serve": shown(serve, suites.build), "acceptance": verdict, "cost_metrics": metrics,
              "phases": phases}
    flags.out.mkdir(parents=True, exist_ok=True)
    target = flags.out / "calibration.json"
    target.write_text(json.dumps(report, indent=1) + "\n")
    collect.say(f"wrote {target}: {json.dumps(verdict)}")


if __name__ == "__main__":
    main()
