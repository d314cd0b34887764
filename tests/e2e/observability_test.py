#!/usr/bin/env python3
"""A real Prometheus scrapes a real server under load: every question of every dashboard and every recording
rule has an answer, and the four states of the device sum to wall time.

With SLUICE_PICTURES=FOLDER in the environment, the panels are also drawn there as SVG.
"""

import glob
import json
import math
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import unittest
import urllib.error
import urllib.request

import harness

GRAFANA = os.path.join(harness.ROOT, "deploy", "grafana")
PROMETHEUS = os.path.join(harness.ROOT, "deploy", "prometheus")
sys.path[:0] = [GRAFANA, PROMETHEUS]
import make_dashboards  # noqa: E402  pylint: disable=wrong-import-position
import make_prometheusrule  # noqa: E402  pylint: disable=wrong-import-position
import panel_queries  # noqa: E402  pylint: disable=wrong-import-position
import render_panels  # noqa: E402  pylint: disable=wrong-import-position

LOAD_SECONDS = 20
NEEDS = "is not installed (deploy/setup/packages.sh metrics)"
# Rules about hardware that is not everywhere.
RULES_WITHOUT_DATA = {"instance:sluice_joules_per_token:ratio_rate5m"}

SERVER = ("--device-kv-blocks=80", "--host-kv-blocks=512", "--link-gbps=0.05", "--max-num-seqs=8",
          "--policy=fcfs")
LOADS = (
    # Prefixes that do not all fit on the device: they come back from the host.
    ("--concurrency=4", "--prompt-tokens=560", "--shared-prefix-tokens=512", "--num-prefixes=8",
     "--output-tokens=32"),
    # Sessions of several tenants.
    ("--concurrency=4", "--workload=sharegpt", "--scale=8", "--max-input=600", "--tenants=3",
     "--num-requests=100000"),
)


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def rule_names(path):
    with open(path, encoding="utf-8") as file:
        return re.findall(r"^ *- (?:record|alert): (\S+)", file.read(), re.MULTILINE)


class Prometheus:
    """A Prometheus server that scrapes `port` once a second."""

    def __init__(self, folder, port):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [os.path.join(PROMETHEUS, name) for name in ("rules.yml", "alerts.yml")],
            "scrape_configs": [
                {"job_name": "sluice", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]},
                {"job_name": "sluice-vllm", "metrics_path": "/metrics/vllm",
                 "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}]}
        path = os.path.join(folder, "prometheus.yml")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(config, file)  # JSON is YAML
        self.log = open(os.path.join(folder, "prometheus.log"), "w", encoding="utf-8")  # pylint: disable=consider-using-with
        self.process = subprocess.Popen(  # pylint: disable=consider-using-with
            ["prometheus", f"--config.file={path}", f"--storage.tsdb.path={folder}/data",
             f"--web.listen-address=127.0.0.1:{self.port}"], stdout=self.log, stderr=self.log)
        harness.wait_until(self.ready, "Prometheus to be ready", timeout=60)

    def ready(self):
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5):
                return True
        except (urllib.error.URLError, ConnectionError):
            return False

    def ask(self, expression, start, end, legend=""):
        return panel_queries.query_range(self.url, expression, start, end, 1, legend)

    def stop(self):
        self.process.terminate()
        self.process.wait(30)
        self.log.close()


@unittest.skipUnless(shutil.which("prometheus"), f"prometheus {NEEDS}")
class ObservabilityTest(harness.TestCase):
    def run_load(self, server, seconds):
        clients = [subprocess.Popen(
            [harness.SLUICE, "bench", f"--endpoint={server.endpoint}", f"--duration={seconds}", *load],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for load in LOADS]
        for client in clients:
            _, errors = client.communicate(timeout=(seconds + 60) * harness.PATIENCE)
            self.assertEqual(client.returncode, 0, errors)

    def check_panels(self, prometheus, start, end):
        exempt = make_dashboards.exemptions()
        empty, silent = [], []
        for dashboard in panel_queries.load_dashboards().values():
            for query in panel_queries.queries(dashboard):
                expression = panel_queries.expand(query.expression, "5s")
                series = prometheus.ask(expression, start, end)
                if (query.dashboard, query.title) in exempt:
                    continue
                if not series:
                    empty.append(f"{query.dashboard} / {query.title}: {expression}")
                elif not any(one.points for one in series):
                    silent.append(f"{query.dashboard} / {query.title}: {expression}")
        self.assertEqual(empty, [], "panels without any series")
        # 0/0 all the time is allowed only for what did not happen here.
        self.assertEqual(silent, [], "panels with nothing but NaN")

    def check_rules(self, prometheus, start, end):
        for name in rule_names(os.path.join(PROMETHEUS, "rules.yml")):
            series = prometheus.ask(name, start, end)
            if name not in RULES_WITHOUT_DATA:
                self.assertTrue(series and any(one.points for one in series), name)
        with urllib.request.urlopen(f"{prometheus.url}/api/v1/rules", timeout=30) as response:
            groups = json.load(response)["data"]["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        self.assertEqual([rule["lastError"] for rule in rules if rule.get("lastError")], [])
        self.assertEqual({rule["name"] for rule in rules},
                         {name for file in ("rules.yml", "alerts.yml")
                          for name in rule_names(os.path.join(PROMETHEUS, file))})

    def check_wall_time(self, prometheus, start, end):
        """The sum of the four states against the clock of Prometheus, between the first and the last
        scrape in the window."""
        expression = "sum by (device) (sluice_activity_seconds_total)"
        stamps = prometheus.ask("timestamp(sluice_activity_seconds_total{state=\"idle\"})", start, end)
        totals = prometheus.ask(expression, start, end)
        self.assertEqual((len(stamps), len(totals)), (1, 1))
        passed = stamps[0].points[-1][1] - stamps[0].points[0][1]
        counted = totals[0].points[-1][1] - totals[0].points[0][1]
        self.assertGreater(passed, 0.7 * (end - start))
        print(f"states sum to {counted:.3f} s of {passed:.3f} s wall time", file=sys.stderr)
        self.assertLess(abs(counted / passed - 1), 0.01)

    def check_scrapes(self, prometheus, start, end):
        took = prometheus.ask('scrape_duration_seconds{job="sluice"}', start, end)[0].points
        samples = prometheus.ask('scrape_samples_scraped{job="sluice"}', start, end)[0].points
        ordered = sorted(value for _, value in took)
        print(f"scrape: median {ordered[len(ordered) // 2] * 1e3:.2f} ms, most {ordered[-1] * 1e3:.2f} ms, "
              f"{samples[-1][1]:.0f} samples", file=sys.stderr)
        self.assertLess(samples[-1][1], 2000)
        aliases = prometheus.ask('{__name__="vllm:num_requests_running", job="sluice-vllm"}', start, end)
        self.assertEqual(len(aliases), 1)

    def test_every_panel_and_rule_has_data(self):
        server = self.start_server(*SERVER)
        prometheus = Prometheus(self.temp_dir(), server.metrics_port)
        self.addCleanup(prometheus.stop)
        start = time.time()
        self.run_load(server, LOAD_SECONDS)
        self.run_load(server, 1)  # scrapes go on until all counters of the load are in
        end = math.floor(time.time())
        start += 6  # until then rates have one sample
        self.check_panels(prometheus, start, end)
        self.check_rules(prometheus, start, end)
        self.check_wall_time(prometheus, start, end)
        self.check_scrapes(prometheus, start, end)
        if os.environ.get("SLUICE_PICTURES"):
            render_panels.render_all(prometheus.url, start, end, 1, "5s", os.environ["SLUICE_PICTURES"],
                                     "Demo model on CPUs: sluice serve " + " ".join(SERVER))

    def test_an_idle_server_answers_every_question_with_zero_or_nothing(self):
        server = self.start_server(*SERVER)
        prometheus = Prometheus(self.temp_dir(), server.metrics_port)
        self.addCleanup(prometheus.stop)
        start = time.time()
        idle_share = 'sum(rate(sluice_activity_seconds_total{state="idle"}[5s]))'

        def points(expression):
            series = prometheus.ask(expression, start, time.time())
            return series[0].points if series else []

        # The first rates are too small: Prometheus guesses when a counter began.
        harness.wait_until(lambda: any(abs(value - 1) < 0.05 for _, value in points(idle_share)),
                           "a second of idleness per second")
        self.assertEqual({value for _, value in points("sum(sluice_requests_running)")}, {0.0})


class FilesTest(unittest.TestCase):
    """What is committed is complete and consistent; needs no server."""

    def test_the_dashboards_are_what_the_script_makes(self):
        made = make_dashboards.make_all()
        found = {}
        for path in glob.glob(os.path.join(GRAFANA, "dashboards", "*")):
            with open(path, encoding="utf-8") as file:
                found[os.path.basename(path)] = file.read()
        self.assertEqual(found.keys(), made.keys())
        for name, text in made.items():
            self.assertEqual(found[name], text, f"{name}: run deploy/grafana/make_dashboards.py")

    def test_the_operators_rules_are_what_the_script_makes(self):
        with open(os.path.join(PROMETHEUS, "prometheusrule.yaml"), encoding="utf-8") as file:
            self.assertEqual(file.read(), make_prometheusrule.make(),
                             "run deploy/prometheus/make_prometheusrule.py")

    def test_every_dashboard_is_in_the_config_map(self):
        with open(os.path.join(GRAFANA, "kustomization.yaml"), encoding="utf-8") as file:
            listed = re.findall(r"dashboards/\S+", file.read())
        self.assertEqual(listed, sorted(f"dashboards/{name}" for name in make_dashboards.make_all()))

    def test_every_panel_asks_a_question_and_explains_itself(self):
        dashboards = panel_queries.load_dashboards()
        self.assertEqual(len(dashboards), 6)
        for dashboard in dashboards.values():
            titles = [panel["title"] for panel in dashboard["panels"]]
            self.assertEqual(len(titles), len(set(titles)))
            for panel in dashboard["panels"]:
                with self.subTest(f"{dashboard['title']} / {panel['title']}"):
                    self.assertTrue(panel["title"].endswith("?"))
                    self.assertIn(panel["fieldConfig"]["defaults"]["unit"], render_panels.SCALES)
                    self.assertGreater(len(panel["description"]), 20)
                    self.assertTrue(panel["targets"])

    def test_panels_do_not_overlap(self):
        for dashboard in panel_queries.load_dashboards().values():
            taken = set()
            for panel in dashboard["panels"]:
                place = panel["gridPos"]
                cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                         for y in range(place["y"], place["y"] + place["h"])}
                self.assertFalse(taken & cells, panel["title"])
                self.assertLessEqual(place["x"] + place["w"], make_dashboards.COLUMNS)
                taken |= cells

    def test_every_alert_has_a_runbook_entry_and_the_other_way_round(self):
        with open(os.path.join(PROMETHEUS, "alerts.yml"), encoding="utf-8") as file:
            text = file.read()
        alerts = rule_names(os.path.join(PROMETHEUS, "alerts.yml"))
        urls = re.findall(r"runbook_url: (\S+)", text)
        self.assertEqual(urls, [f"deploy/prometheus/RUNBOOK.md#{name.lower()}" for name in alerts])
        with open(os.path.join(PROMETHEUS, "RUNBOOK.md"), encoding="utf-8") as file:
            entries = re.findall(r"^## (\S+)$", file.read(), re.MULTILINE)
        self.assertEqual(sorted(entries), sorted(alerts))

    def test_every_rule_and_alert_is_tested(self):
        for rules, tests in (("rules.yml", "rules_test.yml"), ("alerts.yml", "alerts_test.yml")):
            with open(os.path.join(PROMETHEUS, "tests", tests), encoding="utf-8") as file:
                text = file.read()
            for name in rule_names(os.path.join(PROMETHEUS, rules)):
                self.assertIn(name, text)

    @unittest.skipUnless(shutil.which("promtool"), f"promtool {NEEDS}")
    def test_promtool_accepts_and_tests_the_rules(self):
        folder = os.path.join(PROMETHEUS, "tests")
        for command in (["check", "rules", "../rules.yml", "../alerts.yml"],
                        ["test", "rules", "rules_test.yml", "alerts_test.yml"]):
            done = subprocess.run(["promtool", *command], cwd=folder, capture_output=True, text=True,
                                  timeout=120, check=False)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_numbers_on_pictures_are_short(self):
        for value, unit, text in ((0.5, "percentunit", "50 %"), (0.0123, "s", "12.3 ms"), (2e-5, "s", "20 µs"),
                                  (1.5, "s", "1.5 s"), (3.2e9, "bytes", "3.2 GB"), (0, "short", "0"),
                                  (1500, "reqps", "1.5k/s")):
            self.assertEqual(render_panels.number(value, unit), text)


if __name__ == "__main__":
    harness.main()
