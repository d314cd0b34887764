#!/usr/bin/env python3
"""`sluice plan` from outside: figures, errors, and a page that needs nothing but itself."""

import json
import os
import re
import unittest
import xml.etree.ElementTree as ElementTree

import harness
import pictures

LLAMA = ("--model=llama-3.1-70b", "--hardware=h100-pcie5")
XHTML = "{http://www.w3.org/1999/xhtml}"
SVG = "{http://www.w3.org/2000/svg}"
# Elements and attributes that fetch or run something.
FETCHING = {"script", "link", "img", "iframe", "object", "embed", "image", "use", "audio", "video"}


class PlanTest(harness.TestCase):
    def plan(self, *arguments):
        done = harness.run_sluice("plan", *arguments)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def refused(self, *arguments):
        """What a refused command said."""
        done = harness.run_sluice("plan", *arguments)
        self.assertEqual(done.returncode, 2, done.stdout + done.stderr)
        self.assertEqual(done.stdout, "")
        self.assertEqual(len(done.stderr.strip().split("\n")), 1, done.stderr)
        return done.stderr

    def page(self, *arguments):
        path = os.path.join(self.temp_dir(), "plan.html")
        self.plan("--report", path, *arguments)
        with open(path, encoding="utf-8") as file:
            return file.read()

    def test_the_page_has_charts_that_stand_alone(self):
        page = self.page("--model=llama-3.1-70b", "--hardware=h100-pcie5", "--link=15GB/s", "--workload=kappa-mix",
                         "--what-if=link=55GB/s", "--what-if=kv-offload-dtype=fp8", "--what-if=hardware=gh200")
        picture = pictures.charts(page)
        ElementTree.fromstring(picture)
        self.assertIn("Which plan is fastest where", picture)
        self.assertLess(len(picture), 150 << 10)
        pictures.keep("plan_report.svg", lambda: picture)

    def test_kappa_crit_of_the_paper(self):
        plan = json.loads(self.plan("--paper", "--json", *LLAMA))
        self.assertAlmostEqual(plan["kappa_crit"], 14.3, delta=0.03 * 14.3)

    def test_the_papers_worst_case_is_nearly_all_transfers(self):
        plan = json.loads(self.plan("--json", "--cached=65536", "--new=64", "--link=15GB/s",
                                    "--paper", *LLAMA))
        self.assertGreater(plan["transfer_share"], 0.99)
        self.assertAlmostEqual(plan["load_s"], 65536 * 327680 / 15e9, places=3)
        self.assertLess(plan["ttft_s"]["overlapped"], plan["ttft_s"]["serial"])

    def test_a_smaller_cache_or_a_faster_link_loads_sooner(self):
        plan = json.loads(self.plan("--json", "--cached=65536", "--new=64", "--tp=8",
                                    "--what-if=kv-dtype=fp8", "--what-if=hardware=gh200", *LLAMA))
        fp8, gh200 = plan["what_if"]
        self.assertLess(fp8["load_s"], 0.51 * plan["load_s"])
        self.assertLess(gh200["load_s"], plan["load_s"])
        self.assertGreater(gh200["kappa_crit"], plan["kappa_crit"])

    def test_text_for_people(self):
        text = self.plan("--workload=narrativeqa", *LLAMA)
        for words in ("κ_crit", "link-bound by slack", "What if", "Offload: "):
            self.assertIn(words, text)
        self.assertLess(max(len(line) for line in text.split("\n")[:-2]), 121)
        self.assertIn("h100-pcie5", self.plan("--list"))
        self.assertIn("printed", self.plan("--paper"))

    def test_every_built_in_pair_has_an_answer(self):
        known = json.loads(self.plan("--list", "--json"))
        self.assertGreaterEqual(len(known["models"]), 17)
        for model in known["models"]:
            plan = json.loads(self.plan("--json", "--model", model["name"], "--cached=8192",
                                        "--new=128", "--hardware=b200", "--what-if=none"))
            self.assertGreater(plan["ttft_s"]["best"], 0, model["name"])
        for hardware in known["hardware"]:
            plan = json.loads(self.plan("--json", "--model=llama-3.2-1b", "--cached=8192",
                                        "--new=128", "--hardware", hardware["name"],
                                        "--what-if=none"))
            self.assertGreater(plan["kappa_crit"], 0, hardware["name"])

    def test_a_checkpoint_can_be_planned_with(self):
        plan = json.loads(self.plan("--json", "--model", harness.DEMO_MODEL,
                                    "--hardware=cpu-default"))
        self.assertGreater(plan["kv_bytes_per_token"], 0)

    def test_the_page_needs_nothing_but_itself(self):
        html = self.page("--workload=sharegpt", *LLAMA)
        root = ElementTree.fromstring(html.replace("<!DOCTYPE html>", "", 1))
        self.assertEqual(root.tag, XHTML + "html")
        names = {element.tag.split("}")[-1] for element in root.iter()}
        self.assertFalse(names & FETCHING)
        for element in root.iter():
            for attribute in element.attrib:
                self.assertNotIn(attribute.split("}")[-1], ("src", "href", "onload", "onclick"))
        self.assertNotRegex(html, r"url\(|@import|javascript:")
        self.assertEqual(set(re.findall(r"https?://[\w./]+", html)),
                         {"http://www.w3.org/1999/xhtml", "http://www.w3.org/2000/svg"})
        drawings = [svg for svg in root.iter(SVG + "svg") if svg.get("role") == "img"]
        self.assertGreaterEqual(len(drawings), 14)  # seven plots, each for two sizes or more
        self.assertNotRegex(html, r'"(nan|-?inf)"')

    def test_the_same_question_gives_the_same_bytes(self):
        arguments = ("--workload=agentic", "--requests=200", *LLAMA)
        self.assertEqual(self.plan("--json", *arguments), self.plan("--json", *arguments))
        pages = [self.page(*arguments) for _ in range(2)]
        # The command in the small print names the file.
        pages = [re.sub(r"--report \S+", "", page) for page in pages]
        self.assertEqual(pages[0], pages[1])

    def test_bad_input_names_what_is_wrong_and_what_is_allowed(self):
        self.assertIn("did you mean llama-3.1-70b?",
                      self.refused("--model=llama-3.1-70", "--hardware=h100-pcie5"))
        self.assertIn("did you mean --workload?", self.refused("--worklod=sharegpt", *LLAMA))
        self.assertIn('--link: "15" has no unit', self.refused("--link=15", *LLAMA))
        self.assertIn("--cached: -1 is not in", self.refused("--cached=-1", "--new=1", *LLAMA))
        self.assertIn("--what-if: unknown key", self.refused("--what-if=lnk=1GB/s", *LLAMA))
        self.assertIn("--hardware: is required", self.refused("--model=llama-3.1-8b"))

    def test_a_users_file_is_never_filled_in(self):
        folder = self.temp_dir()
        path = os.path.join(folder, "hardware.json")
        profile = os.path.join(harness.ROOT, "deploy", "profiles", "hardware", "h100-pcie5.json")
        with open(profile, encoding="utf-8") as file:
            good = json.load(file)
        del good["memory"]["size"]
        with open(path, "w", encoding="utf-8") as file:
            json.dump(good, file)
        said = self.refused("--model=llama-3.1-8b", "--hardware", path)
        self.assertIn(path, said)
        self.assertIn("memory.size", said)
        good["memory"]["size"] = "80"
        with open(path, "w", encoding="utf-8") as file:
            json.dump(good, file)
        said = self.refused("--model=llama-3.1-8b", "--hardware", path)
        self.assertIn('"80"', said)
        self.assertIn("GB", said)


if __name__ == "__main__":
    harness.main()
