#!/usr/bin/env python3
"""Does the cache tell one tenant, or one salt, about the prompts of another? By its numbers: never. By its
times: medians of interleaved requests are compared, with a margin that noise does not reach."""

import json
import statistics
import sys
import time

import harness
from openai_client import Connection
from secured import ACME, COMPLETIONS, ZETA, SecurityTest


class CacheProbingTest(SecurityTest):
    ROUNDS = 9
    LENGTH = 1500  # tokens: a miss takes several times as long as a hit

    def fresh(self, number):
        """A prompt that shares no block with others."""
        return [300 + (number * 7919 + i * i * 31 + i * (number + 3)) % 700 for i in range(self.LENGTH)]

    def ask_http(self, server, ids, token=None, salt=""):
        """(seconds to the first token, cached tokens)."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        body = {"prompt": ids, "max_tokens": 1, "temperature": 0, "stream": True, "ignore_eos": True,
                "stream_options": {"include_usage": True}} | ({"cache_salt": salt} if salt else {})
        start = time.monotonic()
        with Connection(server.http_port) as connection:
            connection.send_request("POST", COMPLETIONS, body, **headers)
            self.assertEqual(connection.read_head()[0], 200)
            data = connection.read_chunk()
            took = time.monotonic() - start
            while chunk := connection.read_chunk():
                data += chunk
        events = [event.removeprefix("data: ") for event in data.decode().split("\n\n") if event]
        return took, json.loads(events[-2])["usage"]["prompt_tokens_details"]["cached_tokens"]

    def ask_grpc(self, server, ids, token=None, salt=""):
        more = {"token_file": self.write("token", token)} if token else {}
        if salt:
            more["cache_salt"] = salt
        done = server.client("generate", "--prompt-ids=" + ",".join(map(str, ids)), max_tokens=1,
                             temperature=0, json=True, ignore_eos=True, **more)
        self.assertEqual(done.returncode, 0, done.stderr)
        record = harness.last_json(done.stdout)
        usage = record["usage"]
        return record["timing"]["ttft_s"], usage["prompt_tokens"] - usage["computed_tokens"]

    def probe(self, ask, owner, prober):
        """`owner` and `prober`: keyword arguments of `ask`."""
        miss, hit, probe, prober_miss = [], [], [], []
        for i in range(self.ROUNDS):
            ids = self.fresh(2 * i)
            for times, who, prompt in ((miss, owner, ids), (hit, owner, ids), (probe, prober, ids),
                                       (prober_miss, prober, self.fresh(2 * i + 1))):
                took, cached = ask(prompt, **who)
                times.append(took)
                self.assertEqual(cached > 0, times is hit, f"cached tokens of round {i}: {cached}")
        medians = {name: statistics.median(times) for name, times in
                   (("miss", miss), ("hit", hit), ("probe", probe), ("prober's miss", prober_miss))}
        print("; ".join(f"{name} {took * 1e3:.1f} ms" for name, took in medians.items()), file=sys.stderr)
        # There is something to be seen,
        self.assertLess(medians["hit"], 0.7 * medians["miss"])
        # and it is not seen.
        self.assertGreater(medians["probe"], 0.8 * medians["prober's miss"])
        self.assertGreater(medians["probe"], 1.2 * medians["hit"])

    def test_another_tenant_learns_nothing(self):
        server = self.start_guarded()
        for ask in (self.ask_http, self.ask_grpc):
            self.probe(lambda ids, ask=ask, **who: ask(server, ids, **who), {"token": ACME}, {"token": ZETA})
            server.stop()
            server = self.start_guarded()

    def test_another_salt_learns_nothing(self):
        for ask in (self.ask_http, self.ask_grpc):
            server = self.start_server()
            self.probe(lambda ids, ask=ask, server=server, **who: ask(server, ids, **who), {"salt": "one"},
                       {"salt": "two"})
            server.stop()

    def test_not_even_with_the_owners_salt(self):
        server = self.start_guarded()
        ids = self.fresh(1)
        self.assertEqual(self.ask_http(server, ids, ACME, "salt")[1], 0)
        self.assertEqual(self.ask_http(server, ids, ZETA, "salt")[1], 0)
        self.assertGreater(self.ask_http(server, ids, ACME, "salt")[1], 0)

    def test_who_shares_on_purpose_shares(self):
        server = self.start_guarded("--no-isolate-tenants")
        ids = self.fresh(1)
        self.assertEqual(self.ask_http(server, ids, ACME)[1], 0)
        self.assertGreater(self.ask_http(server, ids, ZETA)[1], 0)


if __name__ == "__main__":
    harness.main()
