#!/usr/bin/env python3
"""Runs benchmark suites and writes their results, with machine, command and date, as JSON.

usage: collect.py BUILD_DIR OUT_DIR [SUITE...]     suites: scheduler grpc cpu peer kv_host kv_codec (default: the first four)

`cpu` and `peer` make random checkpoints (seed 1) under BUILD_DIR/bench. `peer` measures llama.cpp through
the npm package node-llama-cpp on the same weights, alternating with Sluice; it needs npm, a registry and
python3-numpy, and is skipped without them. Nothing else should run on the machine meanwhile.
"""
import datetime
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
PEER_PACKAGES = ["node-llama-cpp", "@node-llama-cpp/linux-x64"]

# (model, threads, batch, prompt tokens, repeats). 1B with 16 prompts of 4,096 tokens would take a quarter
# of an hour and is left out.
CPU_CASES = [("150m", t, b, p, 1 if b * p > 10000 else 3)
             for t in (1, 2) for b in (1, 16) for p in (512, 4096)]
CPU_CASES += [("1b", t, b, p, 1) for t in (1, 2) for b, p in ((1, 512), (1, 4096), (16, 512), (16, 4096))]
PEER_CASES = [("150m", t, b, p, 3 if b * p <= 512 else 1)
              for t in (1, 2) for b, p in ((1, 512), (16, 512), (1, 4096))]
PEER_CASES += [("1b", t, 1, 512, 1) for t in (1, 2)]
DECODE_TOKENS = 32


def say(text):
    print(text, file=sys.stderr, flush=True)


def machine():
    """What the figures depend on."""
    cpuinfo = pathlib.Path("/proc/cpuinfo").read_text()
    names = [line.split(":", 1)[1].strip() for line in cpuinfo.splitlines() if line.startswith("model name")]
    memory = pathlib.Path("/proc/meminfo").read_text().split()[1]
    flags = next(line for line in cpuinfo.splitlines() if line.startswith("flags"))
    wanted = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_int8")
    return {"cpu": names[0], "cpus": len(names), "memory_gib": round(int(memory) / 2**20, 1),
            "kernel": platform.release(), "isa": [f for f in wanted if f in flags.split()],
            "load_average_before": os.getloadavg()[0]}


class Suites:
    def __init__(self, build):
        self.build = pathlib.Path(build).resolve()
        self.work = self.build / "bench"
        self.work.mkdir(exist_ok=True)
        self.runs = []

    def run(self, command, parse=json.loads, cwd=None):
        """Runs `command`; keeps its output, parsed, beside the command as a person would type it."""
        shown = " ".join(str(c).replace(str(self.build) + "/", "build/release/") for c in command)
        say(shown)
        output = subprocess.run([str(c) for c in command], check=True, stdout=subprocess.PIPE, text=True,
                                cwd=cwd).stdout
        result = parse(output)
        self.runs.append({"command": shown, "result": result})
        return result

    def model(self, preset):
        path = self.work / preset
        if not (path / "config.json").exists():
            subprocess.run([self.build / "tests/support/make_random_checkpoint", "--preset", preset,
                            "--out", path], check=True, stdout=subprocess.DEVNULL)
        return path

    def forward(self, model, threads, batch, prompt, repeats):
        return self.run([self.build / "tests/bench/cpu_forward_bench", "--model", self.model(model),
                         "--threads", threads, "--batch", batch, "--prompt", prompt,
                         "--decode", DECODE_TOKENS, "--repeat", repeats])

    def scheduler(self):
        self.run([self.build / "tests/bench/scheduler_bench", "--benchmark_format=json"],
                 parse=lambda text: json.loads(text)["benchmarks"])

    def grpc(self):
        self.run([self.build / "tests/service/grpc/grpc_bench"],
                 parse=lambda text: [json.loads(line) for line in text.splitlines()])

    def kv_host(self):
        out = self.work / "kv_host.json"
        self.run([self.build / "tests/bench/kv_host_bench", "--json", out],
                 parse=lambda _: json.loads(out.read_text()))

    def kv_codec(self):
        self.run([self.build / "tests/bench/kv_codec_bench", "--benchmark_format=json"],
                 parse=lambda text: json.loads(text)["benchmarks"])

    def cpu(self):
        for case in CPU_CASES:
            self.forward(*case)

    def peer(self):
        if not shutil.which("npm"):
            sys.exit("collect.py: no npm; the peer suite needs it")
        where = self.work / "peer"
        where.mkdir(exist_ok=True)
        (where / "package.json").write_text("{}")
        subprocess.run(["npm", "install", "--ignore-scripts", "--omit=optional", *PEER_PACKAGES],
                       check=True, cwd=where, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        shutil.copy(HERE / "peer/llama_bench.mjs", where)
        for model, threads, batch, prompt, repeats in PEER_CASES:
            self.forward(model, threads, batch, prompt, repeats)
            for kind in ("bf16", "q8_0"):
                self.run(["node", "llama_bench.mjs", self.gguf(model, kind), threads, batch, prompt,
                          DECODE_TOKENS, repeats], cwd=where)

    def gguf(self, model, kind):
        path = self.work / f"{model}-{kind}.gguf"
        if not path.exists():
            subprocess.run(["/usr/bin/python3", HERE / "peer/to_gguf.py", self.model(model), path, kind],
                           check=True)
        return path


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    build, out = sys.argv[1], pathlib.Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[3:] or ["scheduler", "grpc", "cpu", "peer"]:
        suites = Suites(build)
        head = {"suite": name, "date": datetime.date.today().isoformat(), "machine": machine(), "seed": 1}
        getattr(suites, name)()
        head["machine"]["load_average_after"] = os.getloadavg()[0]
        (out / f"{name}.json").write_text(json.dumps({**head, "runs": suites.runs}, indent=1) + "\n")
        say(f"wrote {out / name}.json")


if __name__ == "__main__":
    main()
