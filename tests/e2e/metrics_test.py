#!/usr/bin/env python3
"""What /metrics says is well-formed, complete, and adds up."""

import shutil
import subprocess
import unittest

import exposition
import harness

TIERS = {"device", "host"}
DIRECTIONS = {("device", "host"), ("host", "device")}

# name -> (type, {label: values that must be present})
FAMILIES = {
    "sluice_kv_transfer_bytes_total": ("counter", {"src": TIERS, "dst": TIERS}),
    "sluice_kv_transfer_busy_seconds_total": ("counter", {"src": TIERS, "dst": TIERS}),
    "sluice_kv_transfer_operations_total": (
        "counter", {"src": TIERS, "dst": TIERS, "outcome": {"ok", "failed", "cancelled"}}),
    "sluice_kv_transfer_seconds": ("histogram", {"src": TIERS, "dst": TIERS}),
    "sluice_kv_transfer_size_bytes": ("histogram", {"src": TIERS, "dst": TIERS}),
    "sluice_kv_transfer_queue_seconds": ("histogram", {"src": TIERS, "dst": TIERS}),
    "sluice_kv_transfer_inflight_bytes": ("gauge", {"src": TIERS}),
    "sluice_activity_seconds_total": (
        "counter", {"state": {"compute_only", "transfer_only", "both", "idle"}}),
    "sluice_step_phase_seconds_total": (
        "counter", {"phase": {"prefill", "decode", "mixed", "wait_transfer", "idle"}}),
    "sluice_compute_busy_seconds_total": ("counter", {}),
    "sluice_overlap_seconds_total": ("counter", {}),
    "sluice_transfer_stall_seconds_total": ("counter", {"reason": {"load_wait"}}),
    "sluice_scheduler_decisions_total": ("counter", {}),
    "sluice_kv_tier_capacity_bytes": ("gauge", {"tier": TIERS}),
    "sluice_kv_tier_used_bytes": ("gauge", {"tier": TIERS}),
    "sluice_kv_tier_pinned_bytes": ("gauge", {"tier": TIERS}),
    "sluice_kv_tier_usage_ratio": ("gauge", {"tier": TIERS}),
    "sluice_prompt_tokens_total": (
        "counter", {"source": {"computed", "device", "host", "disk", "remote"}}),
    "sluice_generated_tokens_total": ("counter", {}),
    "sluice_kv_block_evictions_total": ("counter", {"tier": TIERS, "reason": {"capacity"}}),
    "sluice_kv_block_residency_seconds": ("histogram", {"tier": TIERS}),
    "sluice_kv_events_total": ("counter", {}),
    "sluice_kv_event_subscribers": ("gauge", {}),
    "sluice_kv_event_gaps_total": ("counter", {"reason": {"fell_behind", "too_old"}}),
    "sluice_link_bandwidth_bytes_per_second": (
        "gauge", {"src": TIERS, "dst": TIERS, "kind": {"configured", "measured"}}),
    "sluice_scheduler_predicted_ttft_seconds": ("histogram", {}),
    "sluice_requests_running": ("gauge", {}),
    "sluice_requests_waiting": ("gauge", {}),
    "sluice_requests_total": (
        "counter", {"outcome": {"stop", "length", "abort", "rejected", "error"}}),
    "sluice_preemptions_total": ("counter", {"mode": {"swap", "recompute"}}),
    "sluice_time_to_first_token_seconds": ("histogram", {}),
    "sluice_inter_token_latency_seconds": ("histogram", {}),
    "sluice_e2e_request_latency_seconds": ("histogram", {}),
    "sluice_request_queue_seconds": ("histogram", {}),
    "sluice_request_kappa_ratio": ("histogram", {}),
    "sluice_request_slack_seconds": ("histogram", {}),
    "sluice_kappa_critical_ratio": ("gauge", {}),
    "sluice_request_plans_total": (
        "counter", {"plan": {"resident", "load", "split", "in_place", "recompute"}}),
    "sluice_request_time_seconds_total": (
        "counter", {"part": {"queue", "load", "stall", "prefill", "decode"}}),
    "sluice_scheduler_ttft_prediction_error_ratio": ("histogram", {}),
    "sluice_wait_bounds_broken_total": ("counter", {}),
    "sluice_tenant_requests_total": ("counter", {"tenant": {"default"}}),
    "sluice_time_per_output_token_seconds": ("histogram", {}),
    "sluice_step_seconds": ("histogram", {}),
    "process_resident_memory_bytes": ("gauge", {}),
    "process_cpu_seconds_total": ("counter", {}),
    "sluice_build_info": ("gauge", {}),
    "sluice_config_info": ("gauge", {}),
}
# There after the first rpc.
RPC_FAMILIES = {
    "sluice_grpc_server_handled_total": ("counter", {"service": {"Inference"}, "method": {"Generate"}, "code": {"OK"}}),
    "sluice_grpc_server_handling_seconds": ("histogram", {"service": {"Inference"}, "method": {"Generate"}}),
}
# There where the hardware counts.
ENERGY_FAMILIES = {"sluice_energy_joules_total": "counter", "sluice_power_watts": "gauge"}
# What gateways, endpoint pickers and autoscalers made for vLLM look for.
VLLM_NAMES = """num_requests_running num_requests_waiting kv_cache_usage_perc cache_config_info
    time_to_first_token_seconds inter_token_latency_seconds e2e_request_latency_seconds prompt_tokens_total
    generation_tokens_total request_success_total prefix_cache_queries_total prefix_cache_hits_total
    external_prefix_cache_queries_total external_prefix_cache_hits_total kv_offload_load_bytes_total
    kv_offload_store_bytes_total kv_offload_load_time_total kv_offload_store_time_total""".split()


def sample_name(name, kind):
    return name + "_count" if kind == "histogram" else name


class MetricsTest(harness.TestCase):
    def busy_server(self):
        """A server that has loaded, stored and computed."""
        server = self.start_server("--device-kv-blocks=64", "--host-kv-blocks=256",
                                   "--link-gbps=0.05", "--policy=fcfs")
        texts = [text[:1300] for text in harness.demo_texts().values()][:5]
        for _ in range(2):
            self.records = server.generate_all(texts, concurrency=3, max_tokens=16, ignore_eos=True)
        return server

    def check_families(self, metrics, families):
        for name, (kind, labels) in families.items():
            with self.subTest(name):
                self.assertEqual(metrics.types.get(name), kind)
                self.assertTrue(metrics.helps.get(name))
                for label, values in labels.items():
                    self.assertLessEqual(
                        values, metrics.label_values(sample_name(name, kind), label))

    def aliases(self, server):
        with harness.urllib.request.urlopen(
                f"http://127.0.0.1:{server.metrics_port}/metrics/vllm", timeout=20) as response:
            return exposition.parse(response.read().decode())

    def test_every_family_is_there_from_the_start(self):
        server = self.start_server()
        metrics = server.metrics()
        self.check_families(metrics, FAMILIES)
        server.generate("Once", max_tokens=2)
        self.check_families(server.metrics(), RPC_FAMILIES)
        for name, kind in ENERGY_FAMILIES.items():
            self.assertIn(metrics.types.get(name, kind), (kind,))
        aliases = self.aliases(server)
        self.assertEqual([name for name in VLLM_NAMES if f"vllm:{name}" not in aliases.types], [])
        self.assertTrue(all(name.startswith(("sluice_", "exposer_", "process_"))
                            for name in metrics.types))

    def test_numbers_add_up(self):
        server = self.busy_server()
        self.assert_quiet(server)
        metrics = server.metrics()
        prompt_tokens = sum(record["usage"]["prompt_tokens"] for record in self.records) * 2
        self.assertEqual(metrics.value("sluice_prompt_tokens_total"), prompt_tokens)
        self.assertEqual(metrics.value("sluice_generated_tokens_total"), 10 * 16)
        self.assertEqual(metrics.value("sluice_requests_total", outcome="length"), 10)
        self.assertEqual(metrics.value("sluice_e2e_request_latency_seconds_count"), 10)
        self.assertEqual(metrics.value("sluice_time_to_first_token_seconds_count"), 10)
        self.assertEqual(metrics.value("sluice_inter_token_latency_seconds_count"), 10 * 15)
        self.assertEqual(metrics.value("sluice_kv_transfer_inflight_bytes"), 0)
        for src, dst in DIRECTIONS:
            at = {"src": src, "dst": dst}
            self.assertGreater(metrics.value("sluice_kv_transfer_bytes_total", **at), 0)
            self.assertEqual(metrics.value("sluice_kv_transfer_bytes_total", **at),
                             metrics.value("sluice_kv_transfer_size_bytes_sum", **at))
            self.assertEqual(metrics.value("sluice_kv_transfer_operations_total", **at),
                             metrics.value("sluice_kv_transfer_seconds_count", **at))
        for tier in TIERS:
            self.assertLessEqual(metrics.value("sluice_kv_tier_used_bytes", tier=tier),
                                 metrics.value("sluice_kv_tier_capacity_bytes", tier=tier))

    def test_blocks_that_left_a_tier_are_those_that_were_evicted(self):
        server = self.busy_server()
        self.assert_quiet(server)
        metrics = server.metrics()
        for tier in TIERS:
            evicted = metrics.value("sluice_kv_block_evictions_total", tier=tier)
            left = metrics.value("sluice_kv_block_residency_seconds_count", tier=tier)
            self.assertGreaterEqual(left, evicted, tier)
        self.assertGreater(metrics.value("sluice_kv_block_residency_seconds_sum", tier="device"), 0)
        self.assertGreater(metrics.value("sluice_kv_events_total"), 0)

    def test_request_parts_sum_to_the_latency(self):
        metrics = self.busy_server().metrics()
        self.assertAlmostEqual(metrics.value("sluice_request_time_seconds_total"),
                               metrics.value("sluice_e2e_request_latency_seconds_sum"), places=6)
        self.assertGreater(metrics.value("sluice_request_time_seconds_total", part="prefill"), 0)

    def test_tenants_are_told_apart(self):
        server = self.start_server()
        for tenant in ("acme", "acme", "zeta"):
            server.generate("Once", max_tokens=5, ignore_eos=True, tenant=tenant)
        metrics = server.metrics()
        for tenant, requests in (("acme", 2), ("zeta", 1), ("default", 0)):
            at = {"tenant": tenant}
            self.assertEqual(metrics.value("sluice_tenant_requests_total", outcome="finished", **at), requests)
            self.assertEqual(metrics.value("sluice_tenant_tokens_total", kind="output", **at), 5 * requests)

    def test_the_second_page_has_the_names_of_vllm(self):
        server = self.busy_server()
        self.assert_quiet(server)
        native = server.metrics()
        aliases = self.aliases(server)
        self.assertTrue(all(name.startswith(("vllm:", "exposer_")) for name in aliases.types))
        for alias, name, labels in (
                ("vllm:num_requests_waiting", "sluice_requests_waiting", {}),
                ("vllm:generation_tokens_total", "sluice_generated_tokens_total", {}),
                ("vllm:prompt_tokens_total", "sluice_prompt_tokens_total", {}),
                ("vllm:time_to_first_token_seconds_count", "sluice_time_to_first_token_seconds_count", {}),
                ("vllm:prefix_cache_hits_total", "sluice_prompt_tokens_total", {"source": "device"}),
                ("vllm:kv_offload_load_bytes_total", "sluice_kv_transfer_bytes_total", {"dst": "device"})):
            self.assertEqual(aliases.value(alias), native.value(name, **labels), alias)
        self.assertEqual(aliases.label_values("vllm:num_requests_running", "engine"), {"0"})
        self.assertEqual(aliases.label_values("vllm:cache_config_info", "num_gpu_blocks"), {"64"})

    def test_activity_states_sum_to_wall_time(self):
        server = self.busy_server()

        def split():
            metrics = server.metrics()
            return (metrics.value("sluice_activity_seconds_total"),
                    metrics.value("sluice_step_phase_seconds_total"), harness.time.monotonic())

        first = split()
        texts = [text[300:1600] for text in harness.demo_texts().values()][:4]
        server.generate_all(texts, concurrency=4, max_tokens=200, ignore_eos=True)
        harness.time.sleep(1.0)  # some of it idle
        server.generate("x", max_tokens=1)
        last = split()
        wall = last[2] - first[2]
        self.assertAlmostEqual(last[0] - first[0], wall, delta=0.01 * wall + 0.02)
        self.assertAlmostEqual(last[1] - first[1], wall, delta=0.01 * wall + 0.02)
        metrics = server.metrics()
        state = {name: metrics.value("sluice_activity_seconds_total", state=name)
                 for name in ("compute_only", "transfer_only", "both", "idle")}
        self.assertTrue(all(seconds >= 0 for seconds in state.values()), state)
        self.assertGreater(state["compute_only"] + state["both"], 0)
        self.assertGreater(state["idle"], 0.5)

    def test_counters_never_fall(self):
        server = self.busy_server()
        before = server.metrics()
        server.generate("Once", max_tokens=30, ignore_eos=True)
        after = server.metrics()
        for (name, labels), value in before.samples.items():
            if before.types.get(name) == "counter" or name.endswith(("_count", "_bucket")):
                self.assertGreaterEqual(after.samples[(name, labels)], value, (name, labels))

    def test_promtool_has_no_complaint(self):
        promtool = shutil.which("promtool")
        if promtool is None:
            self.skipTest("promtool is not installed (deploy/setup/packages.sh metrics)")
        text = self.busy_server().metrics_text()
        native = "\n".join(line for line in text.split("\n") if "exposer_" not in line) + "\n"
        done = subprocess.run([promtool, "check", "metrics"], input=native, capture_output=True,
                              text=True, timeout=60, check=False)
        self.assertEqual((done.returncode, done.stdout + done.stderr), (0, ""))


class ExpositionTest(unittest.TestCase):
    """The parser itself."""

    def test_values_and_labels(self):
        metrics = exposition.parse('# HELP a_total Things.\n# TYPE a_total counter\n'
                                   'a_total{x="1",y="a\\"b,c"} 2\na_total{x="2",y="z"} 3e0\n'
                                   'b_bucket{le="+Inf"} 4\n')
        self.assertEqual(metrics.value("a_total"), 5)
        self.assertEqual(metrics.value("a_total", x="2"), 3)
        self.assertEqual(metrics.types["a_total"], "counter")
        self.assertEqual(metrics.label_values("a_total", "x"), {"1", "2"})
        with self.assertRaises(KeyError):
            metrics.value("c")

    def test_malformed_text_is_refused(self):
        for text in ("a b c\n", "a{x=1} 2\n", 'a{x="1} 2\n', "a 1\na 2\n",
                     "# TYPE a counter\n# TYPE a gauge\n"):
            with self.subTest(text), self.assertRaises(ValueError):
                exposition.parse(text)


if __name__ == "__main__":
    harness.main()
