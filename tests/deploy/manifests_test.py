"""Renders deploy/kubernetes and checks what comes out; proves first that each check can fail.

Rendering needs kubectl (1.27 or later) and python3-yaml: without them those tests are skipped, with a message.
By hand: python3 tests/deploy/manifests_test.py --sluice build/release/sluice
"""

import argparse
import copy
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import checks
from good_cluster import good_cluster

try:
    import yaml
except ImportError:
    yaml = None

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
KUBERNETES = os.path.join(ROOT, "deploy", "kubernetes")
SLUICE = ""

# Components that need one another, or a model, to make sense on their own.
PARTNERS = {"inferencepool": ["gateway-smg"]}


def flags_of(command):
    """The flags that `sluice COMMAND --help` lists."""
    text = subprocess.run([SLUICE, command, "--help"], capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"^ +(--[a-z0-9-]+)", text, re.M)) | set(re.findall(r", (--[a-z0-9-]+)", text))


def exported_metrics():
    """Names of metrics, from the source that exports them."""
    names = set()
    for path in glob.glob(os.path.join(ROOT, "service", "telemetry", "*.cc")) + glob.glob(
            os.path.join(ROOT, "service", "telemetry", "*.h")):
        with open(path, encoding="utf-8") as file:
            text = file.read()
        names |= set(re.findall(r'"((?:sluice_|vllm:)\w+)"', text))
        for begin, end in re.findall(r'"(sluice_\w+_)", TierName\([^)]*\),\s*"(_\w+)"', text):
            names |= {begin + tier + end for tier in ("disk", "remote")}
    return names


def refusal(arguments):
    """What `sluice serve` says about these arguments if it calls them wrong usage, else "". The model is one
    that does not exist, so that nothing is ever served."""
    with tempfile.TemporaryDirectory() as nothing:
        words = [f"--model={nothing}" if a.startswith("--model=") else a for a in arguments]
        done = subprocess.run([SLUICE, "serve", *words], capture_output=True, text=True, timeout=60, check=False)
    return done.stderr.strip().split("\n")[-1] if done.returncode == 2 else ""


def real_facts():
    return checks.Facts(flags_of("serve"), flags_of("health"), exported_metrics(), refusal)


def errors_of(documents, facts):
    return [error for check in checks.CHECKS for error in check(documents, facts)]


def render(path):
    done = subprocess.run(["kubectl", "kustomize", path], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        raise AssertionError(f"kubectl kustomize {path}: {done.stderr}")
    return [d for d in yaml.safe_load_all(done.stdout) if d]


def components():
    return sorted(os.listdir(os.path.join(KUBERNETES, "components")))


def render_component(name):
    """The base with one component, and with a model, for otherwise the server would refuse to start."""
    with tempfile.TemporaryDirectory() as folder:
        relative = os.path.relpath(KUBERNETES, folder)
        parts = [name, *PARTNERS.get(name, [])]
        kustomization = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "namespace": "sluice",
            "resources": [f"{relative}/base"],
            "components": [f"{relative}/components/{part}" for part in parts],
            "patches": [{"target": {"kind": "Deployment", "name": "sluice"}, "patch": yaml.safe_dump([
                {"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": argument}
                for argument in ("--model=/models/demo", "--threads=2")])}]}
        with open(os.path.join(folder, "kustomization.yaml"), "w", encoding="utf-8") as file:
            yaml.safe_dump(kustomization, file)
        return render(folder)


def kubectl_version():
    if shutil.which("kubectl") is None:
        return None
    text = subprocess.run(["kubectl", "kustomize", "--help"], capture_output=True, text=True, check=False).stdout
    return "present" if text else None


@unittest.skipIf(yaml is None, "python3-yaml is not installed: nothing is rendered")
@unittest.skipIf(kubectl_version() is None, "kubectl is not installed: nothing is rendered")
class RenderingTest(unittest.TestCase):
    maxDiff = None

    def check(self, documents):
        self.assertGreater(len(documents), 3)
        self.assertEqual(errors_of(documents, real_facts()), [])

    def test_every_overlay_passes_every_check(self):
        overlays = sorted(os.listdir(os.path.join(KUBERNETES, "overlays")))
        self.assertEqual(overlays, ["cpu-demo", "fleet", "single-gpu"])
        for overlay in overlays:
            with self.subTest(overlay=overlay):
                self.check(render(os.path.join(KUBERNETES, "overlays", overlay)))

    def test_every_component_passes_every_check_on_the_base_alone(self):
        for name in components():
            with self.subTest(component=name):
                self.check(render_component(name))

    def test_the_pools_of_the_fleet_do_not_select_each_other(self):
        documents = render(os.path.join(KUBERNETES, "overlays", "fleet"))
        engines = [d for d in documents if d["kind"] == "Deployment" and d["metadata"]["name"] == "sluice"]
        spaces = [d["metadata"]["namespace"] for d in engines]
        self.assertEqual(sorted(spaces), ["sluice-cheap-compute", "sluice-high-bandwidth"])


def fake_facts():
    flags = {"--host", "--port", "--metrics-port", "--http-port", "--model", "--threads", "--shutdown-timeout",
             "--host-kv-gib", "--device-kv-gib", "--kv-disk-dir", "--kv-disk-gib", "--tls-cert"}
    return checks.Facts(flags, {"--endpoint", "--service"}, {"sluice_requests_waiting"}, lambda _: "")


def _engine(documents):
    return next(d for d in documents if d["kind"] == "Deployment")


def _spec(documents):
    return _engine(documents)["spec"]["template"]["spec"]


def _container(documents):
    return _spec(documents)["containers"][0]


def _of(documents, kind):
    return next(d for d in documents if d["kind"] == kind)


def _put(pick, *path):
    """A mutation: sets, or with REMOVE deletes, what `path` leads to; the last item is the value."""
    *way, key, value = path

    def mutate(documents):
        place = pick(documents)
        for step in way:
            place = place[step]
        if value is REMOVE:
            del place[key]
        elif key is None:
            place.append(value)
        else:
            place[key] = value
    return mutate


REMOVE = object()


def _kind(kind):
    return lambda documents: _of(documents, kind)


# One change each that Kubernetes would accept, and what is said about it.
MUTATIONS = (
    (_put(_engine, "spec", "selector", {"matchLabels": {"app": "x"}}), "does not match its own pods"),
    (_put(_kind("Service"), "spec", "selector", "app", "x"), "Service .*selects no pod"),
    (_put(_kind("PodDisruptionBudget"), "spec", "selector", "matchLabels", "app", "x"), "selects no pod"),
    (_put(_kind("Service"), "spec", "ports", 0, "targetPort", "gprc"), "no port gprc"),
    (_put(_kind("NetworkPolicy"), "spec", "ingress", 0, "ports", 0, "port", "web"), "no port web"),
    (_put(_container, "args", 2, "--port=50052"), "--port=50052, but port grpc is 50051"),
    (_put(_container, "args", 1, "--host=127.0.0.1"), "listens on loopback only"),
    (_put(_container, "livenessProbe", "grpc", "port", 50052), "asks port 50052, which is not there"),
    (_put(_container, "readinessProbe", REMOVE), "has no readinessProbe"),
    (_put(_container, "startupProbe", REMOVE), "no startupProbe"),
    (_put(_container, "livenessProbe", "failureThreshold", 1), "kills a server that is busy"),
    (_put(_container, "livenessProbe", "grpc", "service", "sluice.v1.Inference"), "draining server would be killed"),
    (_put(_container, "readinessProbe", {"exec": {"command": ["sluice", "health", "--nope=1"]}}), "has no --nope"),
    (_put(_container, "args", None, "--tls-cert=/models/x"), "kubelet speaks no TLS"),
    (_put(_container, "args", None, "--no-such-flag=1"), "has no --no-such-flag"),
    (_put(_container, "args", None, "--port=50051"), "--port is given twice"),
    (_put(_kind("PodDisruptionBudget"), "spec", {"selector": {"matchLabels": {"app": "e"}}, "minAvailable": 2}),
     "minAvailable 2 of 2"),
    (_put(_kind("PodDisruptionBudget"), "spec", "maxUnavailable", 0), "no node can be drained"),
    (_put(_engine, "spec", "replicas", 3), "sets replicas, which"),
    (_put(_kind("HorizontalPodAutoscaler"), "spec", "scaleTargetRef", "name", "x"), "no x to scale"),
    (_put(_kind("HorizontalPodAutoscaler"), "spec", "minReplicas", 9), "least 9 > most 8"),
    (_put(_spec, "terminationGracePeriodSeconds", 60), "terminationGracePeriodSeconds 60 < preStop 15"),
    (_put(_container, "lifecycle", REMOVE), "no preStop"),
    (_put(_container, "resources", "limits", "memory", "5Gi"), "memory requests 4Gi != limits 5Gi"),
    (_put(_container, "resources", {"requests": {"cpu": "1500m", "memory": "4Gi"},
                                    "limits": {"cpu": "1500m", "memory": "4Gi"}}), "only whole ones"),
    (_put(_container, "args", None, "--host-kv-gib=3GiB"), "leave less than a tenth"),
    (_put(_container, "args", 5, "--threads=8"), "--threads=8 with 2 CPUs"),
    (_put(_container, "image", "sluice"), "has no tag"),
    (_put(_container, "image", "r:5000/sluice:latest"), "has no tag"),
    (_put(_container, "securityContext", "readOnlyRootFilesystem", False), "is not restricted"),
    (_put(_container, "securityContext", "capabilities", "add", ["IPC_LOCK"]), "is not restricted"),
    (_put(_spec, "securityContext", "runAsNonRoot", False), "runAsNonRoot is not True"),
    (_put(_spec, "securityContext", "runAsUser", 0), "no runAsUser other than 0"),
    (_put(_spec, "hostNetwork", True), "hostNetwork"),
    (_put(_container, "volumeMounts", 0, "name", "x"), "mounts x, which is no volume"),
    (_put(_spec, "volumes", 0, "emptyDir", {}), "has no sizeLimit"),
    (_put(_spec, "volumes", 0, "emptyDir", {"sizeLimit": "9Gi"}), "more than the limit of ephemeral-storage"),
    (_put(_container, "args", None, "--kv-disk-dir=/data"), "is not a writable volume"),
    (_put(_container, "args", 4, "--model=/elsewhere"), "is on no volume"),
    (_put(_kind("NetworkPolicy"), "spec", "policyTypes", ["Ingress"]), "limits where it may call"),
    (_put(_kind("NetworkPolicy"), "spec", "ingress", 0, "from", []), "lets everybody in"),
    (_put(_spec, "automountServiceAccountToken", REMOVE), "mounts a token"),
    (_put(_container, "env", [{"name": "API_TOKEN", "value": "x"}]), "the secret API_TOKEN in clear"),
    (_put(_kind("Role"), "rules", 0, "verbs", ["*"]), "a wildcard"),
    (_put(_kind("HTTPRoute"), "spec", "rules", 0, "backendRefs", 0, "name", "x"), "there is no Service x"),
    (_put(_kind("HTTPRoute"), "spec", "rules", 0, "backendRefs", 0, "port", 1), "has no port 1"),
    (_put(_kind("HTTPRoute"), "spec", "parentRefs", 0, "name", "x"), "there is no Gateway"),
    (_put(_kind("Namespace"), "metadata", "labels", "pool", "no"), "does not admit routes"),
    (_put(_kind("HorizontalPodAutoscaler"), "spec", "metrics", 0, "pods", "metric", "name", "sluice_nope"),
     "exports no sluice_nope"),
    (_put(_kind("PrometheusRule"), "spec", "groups", 0, "rules", 0, "expr", "rate(sluice_nope_bucket[5m])"),
     "exports no sluice_nope_bucket"),
    (_put(_kind("PrometheusRule"), "spec", "groups", 0, "rules", 1, "expr", "model:sluice_nope:sum > 1"),
     "there is no rule model:sluice_nope:sum"),
    (_put(_kind("PrometheusRule"), "spec", "groups", 0, "rules", 1, "annotations", {}), "no runbook_url"),
    (_put(_kind("ConfigMap"), "metadata", "labels", {}), "not the label that Grafana's sidecar looks for"),
    (_put(_kind("ConfigMap"), "data", "a.json", '{"panels": []}' + " " * (1 << 20)), "holds 1 MiB at most"),
    (_put(_kind("Service"), "metadata", "namespace", "other"), "in no namespace of this rendering"),
    (_put(_kind("Namespace"), "metadata", "labels", "pod-security.kubernetes.io/enforce", "baseline"),
     "does not enforce the restricted standard"),
)


class CheckTest(unittest.TestCase):
    def test_a_good_cluster_has_no_errors(self):
        self.assertEqual(errors_of(good_cluster(), fake_facts()), [])

    def test_each_mistake_is_named(self):
        for mutate, message in MUTATIONS:
            with self.subTest(message=message):
                documents = copy.deepcopy(good_cluster())
                mutate(documents)
                self.assertRegex("\n".join(errors_of(documents, fake_facts())), message)

    def test_an_announced_flag_may_be_missing(self):
        documents = good_cluster()
        _container(documents)["args"].append("--kv-remote-url=redis://r:6379")
        self.assertRegex("\n".join(errors_of(documents, fake_facts())), "has no --kv-remote-url")
        _engine(documents)["metadata"]["annotations"] = {"needs.sluice.io/redis-tier": "--kv-remote-url"}
        self.assertEqual(errors_of(documents, fake_facts()), [])

    def test_what_serve_refuses_is_an_error(self):
        facts = fake_facts()
        facts.refusal = lambda arguments: "--port: x" if "--port=50051" in arguments else ""
        self.assertRegex("\n".join(errors_of(good_cluster(), facts)), "--port: x")


class ProgramTest(unittest.TestCase):
    def test_serve_refuses_a_wrong_value_and_not_a_right_one(self):
        self.assertRegex(refusal(["--model=/x", "--block-size=17"]), "block-size")
        self.assertEqual(refusal(["--model=/x", "--block-size=32"]), "")

    def test_flags_are_read_from_the_help(self):
        self.assertLess({"--host", "--model", "--shutdown-timeout"}, flags_of("serve"))
        self.assertIn("--service", flags_of("health"))
        self.assertIn("sluice_requests_waiting", exported_metrics())


def main():
    global SLUICE  # pylint: disable=global-statement
    parser = argparse.ArgumentParser()
    parser.add_argument("--sluice", required=True)
    options, rest = parser.parse_known_args()
    SLUICE = os.path.abspath(options.sluice)
    unittest.main(argv=[sys.argv[0], *rest], verbosity=2)


if __name__ == "__main__":
    main()
