#!/usr/bin/env python3
"""Writes the Grafana dashboards of this folder.

    make_dashboards.py [FOLDER]     default: dashboards/ beside this file

Each panel asks a question (its title), has a unit and a description, and one or more Prometheus queries.
The files are committed; a test checks that they are what this script makes. In queries, MODEL stands for
the label filter of the chosen models, RATE for the range that suits the resolution of the picture.
"""

import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
COLUMNS = 24  # of Grafana's grid

TIERS = "The tiers are device (where the model computes), host (memory) and disk."
STACKED_SHARES = "The parts sum to 1 by construction."


def panel(title, unit, description, *targets, stack=False, width=8, maximum=None, exempt=None):
    """One time series panel. `targets`: (query, legend). `exempt`: why it may be empty."""
    return {"title": title, "unit": unit, "description": description, "targets": targets,
            "stack": stack, "width": width, "maximum": maximum, "exempt": exempt}


def quantiles(histogram, by="", filters=""):
    """p50, p95 and p99 of a histogram."""
    labels = ", ".join(["le"] + ([by] if by else []))
    legend = " {{%s}}" % by if by else ""
    return [(f"histogram_quantile({q}, sum by ({labels}) (rate({histogram}_bucket{{MODEL{filters}}}[RATE])))",
             f"p{round(q * 100)}{legend}") for q in (0.5, 0.95, 0.99)]


def within(histogram, bound):
    """Share of observations at most `bound`, which is one of the buckets."""
    return (f'sum(rate({histogram}_bucket{{MODEL, le="{bound}"}}[RATE]))'
            f" / sum(rate({histogram}_count{{MODEL}}[RATE]))")


def rate(counter, by, filters=""):
    return f"sum by ({by}) (rate({counter}{{MODEL{filters}}}[RATE]))"


STATES = panel(
    "Is the time spent computing, copying, both, or neither?", "percentunit",
    "Wall time by what the device and the links did. " + STACKED_SHARES + " Much 'transfer_only' means that "
    "copies are not hidden behind compute; much 'idle' with requests waiting means that something else holds "
    "the server back (see 'Why does nobody get in?').",
    (rate("sluice_activity_seconds_total", "state") + " / ignoring(state) group_left "
     "sum(rate(sluice_activity_seconds_total{MODEL}[RATE]))", "{{state}}"), stack=True, maximum=1)
SOURCES = panel(
    "Where do prompt tokens come from?", "short",
    "Prompt tokens per second by where their KV was found; 'computed' was found nowhere. " + TIERS,
    (rate("sluice_prompt_tokens_total", "source"), "{{source}}"), stack=True)
LINK_BUSY = panel(
    "How busy is each link?", "percentunit",
    "Share of the time in which at least one copy of the direction ran. At 1 the link is the bottleneck.",
    ("sum by (src, dst) (rate(sluice_kv_transfer_busy_seconds_total{MODEL}[RATE]))",
     "{{src}} to {{dst}}"), maximum=1)
TTFT = panel(
    "How long until the first token?", "s",
    "Time to first token from the request's acceptance, at three quantiles.",
    *quantiles("sluice_time_to_first_token_seconds"))
ITL = panel(
    "How long between two tokens?", "s",
    "Gap between two output tokens of a request, as they leave the engine.",
    *quantiles("sluice_inter_token_latency_seconds"))
PREDICTION = panel(
    "How far off are predicted first tokens?", "percentunit",
    "(Actual - predicted) / predicted time to first token, at three quantiles. Above 0 the token came later "
    "than clients were told at arrival.",
    *quantiles("sluice_scheduler_ttft_prediction_error_ratio"))

DASHBOARDS = {
    "overview": ("Sluice / Overview", [
        panel("How many requests run, load and wait?", "short",
              "Admitted requests, those of them whose KV is still being loaded, and those not yet admitted.",
              ("sum(sluice_requests_running{MODEL})", "running"),
              ("sum(sluice_requests_loading{MODEL})", "loading"),
              ("sum(sluice_requests_waiting{MODEL})", "waiting")),
        TTFT, ITL, STATES,
        panel("How many tokens per second?", "short",
              "Output tokens, and prompt tokens that were computed or found in a cache.",
              ("sum(rate(sluice_generated_tokens_total{MODEL}[RATE]))", "output"),
              ("sum(rate(sluice_prompt_tokens_total{MODEL}[RATE]))", "prompt")),
        SOURCES,
        panel("What do requests spend their time on?", "percentunit",
              "Time of finished requests by part: queue (until admission), load (until their first step), "
              "stall (steps that waited for their copies), prefill, decode. " + STACKED_SHARES,
              (rate("sluice_request_time_seconds_total", "part") + " / ignoring(part) group_left "
               "sum(rate(sluice_request_time_seconds_total{MODEL}[RATE]))", "{{part}}"),
              stack=True, maximum=1),
        panel("How do requests end?", "reqps",
              "Requests per second by outcome. 'rejected' never got into the queue.",
              (rate("sluice_requests_total", "outcome"), "{{outcome}}"), stack=True),
        panel("Which versions run?", "short",
              "One line per version, backend and number format; its value is the number of servers.",
              ("count by (version, backend, dtype) (sluice_build_info{MODEL})",
               "{{version}} {{backend}} {{dtype}}")),
        panel("How many processors does a server use?", "short",
              "CPU seconds per second of the process.",
              ("sum by (instance) (rate(process_cpu_seconds_total[RATE]) and on (instance) "
               "sluice_build_info{MODEL})", "{{instance}}"), width=12),
        panel("How much memory does a server use?", "bytes",
              "Resident memory; the host tier's pool is part of it.",
              ("process_resident_memory_bytes and on (instance) sluice_build_info{MODEL}",
               "{{instance}}"), width=12),
    ]),
    "transfer": ("Sluice / Transfer vs compute", [
        STATES, LINK_BUSY,
        panel("How much copying is hidden behind compute?", "percentunit",
              "Share of the links' busy time in which the device computed, too. 1: loads cost nothing; 0: every "
              "load is waited for.",
              ("sum(rate(sluice_overlap_seconds_total{MODEL}[RATE])) / sum(rate("
               "sluice_activity_seconds_total{MODEL, state=~\"both|transfer_only\"}[RATE]))", "hidden"),
              maximum=1),
        panel("How fast do the links run?", "Bps", "KV bytes per second by direction, over all the time.",
              ("sum by (src, dst) (rate(sluice_kv_transfer_bytes_total{MODEL}[RATE]))",
               "{{src}} to {{dst}}")),
        panel("Do the links reach their bandwidth?", "Bps",
              "Bytes per second while a copy runs, against the stated bandwidth. 0 stated: none was given. An "
              "emulated link says so in sluice_config_info.",
              ("avg by (src, dst, kind) (sluice_link_bandwidth_bytes_per_second{MODEL})",
               "{{src}} to {{dst}} {{kind}}")),
        panel("How much is queued for the links?", "bytes", "Bytes queued or moving, by direction.",
              ("sum by (src, dst) (sluice_kv_transfer_inflight_bytes{MODEL})", "{{src}} to {{dst}}"),
              stack=True),
        panel("How long does a copy wait for its link?", "s",
              "From being handed to the backend to the first byte, 95th percentile by direction.",
              ("histogram_quantile(0.95, sum by (le, src, dst) (rate("
               "sluice_kv_transfer_queue_seconds_bucket{MODEL}[RATE])))", "{{src}} to {{dst}}")),
        panel("How large are copies?", "bytes", "Mean size of a copy by direction. Small copies waste the link.",
              ("sum by (src, dst) (rate(sluice_kv_transfer_size_bytes_sum{MODEL}[RATE])) / sum by (src, dst) "
               "(rate(sluice_kv_transfer_size_bytes_count{MODEL}[RATE]))", "{{src}} to {{dst}}")),
        panel("How do copies end?", "ops",
              "Copies per second by outcome; 'cancelled' were taken back by the scheduler.",
              (rate("sluice_kv_transfer_operations_total", "outcome"), "{{outcome}}"), stack=True),
        panel("What kind of steps run?", "percentunit",
              "Wall time by kind of step; 'wait_transfer' is the part of steps that waited for copies. "
              + STACKED_SHARES,
              (rate("sluice_step_phase_seconds_total", "phase") + " / ignoring(phase) group_left "
               "sum(rate(sluice_step_phase_seconds_total{MODEL}[RATE]))", "{{phase}}"), stack=True, maximum=1),
        panel("How much of the time do steps wait for copies?", "percentunit",
              "Share of wall time in which a step could not go on without a copy. The alert "
              "SluiceTransferBound fires above 0.2.",
              ("sum(rate(sluice_transfer_stall_seconds_total{MODEL}[RATE])) / sum(rate("
               "sluice_activity_seconds_total{MODEL}[RATE]))", "stall"), maximum=1),
        panel("How long do steps take?", "s", "Duration of a step with its stalls, at three quantiles.",
              *quantiles("sluice_step_seconds")),
    ]),
    "kappa": ("Sluice / κ and scheduling", [
        panel("Is the load on the link's side or on compute's?", "short",
              "κ of finished requests (tokens loaded from off the device per token computed) against κ_crit, "
              "the κ at which link and compute take equally long with the costs as measured. κ above κ_crit: "
              "loads outweigh compute.",
              *quantiles("sluice_request_kappa_ratio")[:2],
              ("avg(sluice_kappa_critical_ratio{MODEL})", "critical")),
        panel("How is κ spread?", "percentunit",
              "Share of requests whose κ is at most 0 (nothing was loaded), 1, 10 and 100.",
              *[(within("sluice_request_kappa_ratio", bound), f"at most {bound}")
                for bound in (0, 1, 10, 100)], maximum=1),
        panel("How much slack do requests have?", "s",
              "Compute time of a request's prompt minus the time its loads kept the link busy. Below 0 the link "
              "takes longer: such requests should run beside compute-heavy ones.",
              *quantiles("sluice_request_slack_seconds")),
        panel("Which plans are chosen?", "reqps",
              "Admissions per second by how cached KV is used: resident (nothing to move), load, split (front "
              "computed while the back is loaded), in_place, recompute.",
              (rate("sluice_request_plans_total", "plan"), "{{plan}}"), stack=True),
        panel("Why does nobody get in?", "ops",
              "Steps per second that admitted nobody although requests waited, by reason.",
              (rate("sluice_scheduler_decisions_total", "action", ', action=~"wait_.*"'), "{{action}}"),
              stack=True),
        panel("What else does the scheduler decide?", "ops",
              "Decisions per second other than admissions and waits: loads joined or revoked, prefetches, "
              "preemptions, stores, refusals.",
              (rate("sluice_scheduler_decisions_total", "action", ', action!~"wait_.*|admit_.*"'),
               "{{action}}"), stack=True),
        PREDICTION,
        panel("How far off are predicted steps and copies?", "percentunit",
              "Recent median of |predicted - measured| / measured. The scheduler decides with these predictions.",
              ("avg(sluice_cost_step_error_ratio_median{MODEL})", "steps"),
              ("avg(sluice_cost_copy_error_ratio_median{MODEL})", "copies")),
        panel("Is the promised longest wait kept?", "reqps",
              "Admissions per second that had a bound on their wait, and those that waited longer. The second "
              "should be 0.",
              ("sum(rate(sluice_wait_bounds_total{MODEL}[RATE]))", "promised"),
              ("sum(rate(sluice_wait_bounds_broken_total{MODEL}[RATE]))", "broken")),
        panel("How full are steps?", "short", "Tokens of a step, at three quantiles.",
              *quantiles("sluice_step_size_tokens")),
        panel("Who is preempted?", "reqps", "Preemptions per second: blocks kept on the host, or lost.",
              (rate("sluice_preemptions_total", "mode"), "{{mode}}"), stack=True),
        panel("How much is computed twice?", "short",
              "Tokens per second computed again after preemption or failed loads.",
              ("sum(rate(sluice_recomputed_tokens_total{MODEL}[RATE]))", "recomputed")),
    ]),
    "tiers": ("Sluice / Tiers and cache", [
        panel("How full is each tier?", "percentunit",
              "Share of a tier that holds KV, reusable or in use. A full tier is normal; look at evictions and at "
              "what is pinned. " + TIERS,
              ("sum by (tier) (sluice_kv_tier_used_bytes{MODEL}) / (sum by (tier) "
               "(sluice_kv_tier_capacity_bytes{MODEL}) > 0)", "{{tier}}"), maximum=1),
        panel("How much of each tier is in use right now?", "percentunit",
              "Share that live requests or copies use and that cannot be evicted. Near 1 on the device: requests "
              "wait for blocks.",
              ("avg by (tier) (sluice_kv_tier_usage_ratio{MODEL})", "{{tier}}"), maximum=1),
        panel("How much KV does each tier hold?", "bytes", "Bytes that hold KV, reusable or in use. " + TIERS,
              ("sum by (tier) (sluice_kv_tier_used_bytes{MODEL})", "{{tier}}"), stack=True),
        SOURCES,
        panel("What share of prompts is found in a cache?", "percentunit",
              "Share of prompt tokens found on each tier; the rest is computed.",
              (rate("sluice_prompt_tokens_total", "source", ', source!="computed"') +
               " / ignoring(source) group_left sum(rate(sluice_prompt_tokens_total{MODEL}[RATE]))",
               "{{source}}"), stack=True, maximum=1),
        panel("How many blocks are evicted?", "ops",
              "Cached blocks per second given up to make room. Rising host evictions with a full host tier: what "
              "was stored is lost before it is used.",
              ("sum by (tier, reason) (rate(sluice_kv_block_evictions_total{MODEL}[RATE]))",
               "{{tier}} {{reason}}")),
        panel("How long do blocks stay?", "s",
              "How long reusable KV stayed on a tier before it left it, median and 95th percentile by tier. Shorter "
              "than the pause between two turns of a conversation: the tier is too small for it.",
              *[(f"histogram_quantile({q}, sum by (le, tier) (rate("
                 "sluice_kv_block_residency_seconds_bucket{MODEL}[RATE])))", f"p{round(q * 100)} {{{{tier}}}}")
                for q in (0.5, 0.95)]),
        panel("What happens to blocks that could be stored?", "ops",
              "Blocks per second: stored, skipped (no room or too many under way), or gated (not seen often "
              "enough, or storing does not pay).",
              (rate("sluice_scheduler_decisions_total", "action", ', action=~"store.*"'), "{{action}}"),
              stack=True),
        panel("How much of the device is promised?", "bytes",
              "Bytes promised to admitted requests and not yet taken.",
              ("sum(sluice_kv_reserved_bytes{MODEL})", "reserved")),
        panel("Is the disk or remote tier well?", "short",
              "Bytes on their way there, blocks that were read and found to be wrong, and 1 while the tier "
              "is left alone after repeated failures.",
              ("sum(sluice_kv_spill_pending_bytes{MODEL})", "bytes on their way"),
              ("sum(sluice_kv_disk_corrupt_blocks_total{MODEL} or sluice_kv_remote_corrupt_blocks_total{MODEL})",
               "corrupt blocks"),
              ("max by (use) (sluice_kv_disk_off{MODEL} or sluice_kv_remote_off{MODEL})", "{{use}} off")),
        panel("Do gateways keep up with what is cached?", "ops",
              "KV events per second, and subscribers per second that missed some and begin anew. The second should "
              "be 0: until then a gateway routes by guesses.",
              ("sum(rate(sluice_kv_events_total{MODEL}[RATE]))", "events"),
              (rate("sluice_kv_event_gaps_total", "reason"), "lost: {{reason}}")),
        panel("Who listens to what is cached?", "short",
              "Open SubscribeKvEvents streams. 0 behind a gateway that routes by cache: it does not, or events are "
              "off (--kv-events).",
              ("sum(sluice_kv_event_subscribers{MODEL})", "subscribers")),
    ]),
    "tenants": ("Sluice / Tenants and SLO", [
        panel("How many first tokens come in time?", "percentunit",
              "Share of requests whose first token came within 1 s and within 2.5 s.",
              (within("sluice_time_to_first_token_seconds", "1"), "within 1 s"),
              (within("sluice_time_to_first_token_seconds", "2.5"), "within 2.5 s"), maximum=1),
        panel("How many tokens come fluently?", "percentunit",
              "Share of gaps between tokens of at most 50 ms and 200 ms.",
              (within("sluice_inter_token_latency_seconds", "0.05"), "within 50 ms"),
              (within("sluice_inter_token_latency_seconds", "0.2"), "within 200 ms"), maximum=1),
        panel("How many requests are refused or late?", "percentunit",
              "Share of ended requests that were rejected, or whose deadline for the first token passed.",
              ('sum(rate(sluice_requests_total{MODEL, outcome="rejected"}[RATE])) / '
               "sum(rate(sluice_requests_total{MODEL}[RATE]))", "rejected"),
              ('sum(rate(sluice_requests_total{MODEL, outcome="deadline"}[RATE])) / '
               "sum(rate(sluice_requests_total{MODEL}[RATE]))", "deadline passed"), maximum=1),
        panel("How long does each tenant wait for its first token?", "s",
              "95th percentile of the time to first token, by tenant. The first 32 tenants have lines of their own, "
              "all others share 'other'.",
              ("histogram_quantile(0.95, sum by (le, tenant) (rate("
               "sluice_tenant_time_to_first_token_seconds_bucket{MODEL}[RATE])))", "{{tenant}}")),
        panel("Who uses the device?", "percentunit",
              "Device seconds per second by tenant, booked when a request ends.",
              (rate("sluice_tenant_device_seconds_total", "tenant"), "{{tenant}}"), stack=True),
        panel("Who uses the link?", "percentunit",
              "Link seconds per second of loads by tenant, booked when a request ends.",
              (rate("sluice_tenant_link_seconds_total", "tenant"), "{{tenant}}"), stack=True),
        panel("Who holds device memory?", "short",
              "Mean number of device KV blocks held by tenant, booked when a request ends.",
              (rate("sluice_tenant_kv_block_seconds_total", "tenant"), "{{tenant}}"), stack=True),
        panel("Who gets the tokens?", "short", "Tokens of finished requests per second, by tenant and kind.",
              ("sum by (tenant, kind) (rate(sluice_tenant_tokens_total{MODEL}[RATE]))",
               "{{tenant}} {{kind}}")),
        panel("Whose requests end, and how?", "reqps", "Requests per second by tenant, finished or rejected.",
              ("sum by (tenant, outcome) (rate(sluice_tenant_requests_total{MODEL}[RATE]))",
               "{{tenant}} {{outcome}}")),
        TTFT, ITL,
        panel("How long do whole requests take?", "s", "From acceptance to the end, at three quantiles.",
              *quantiles("sluice_e2e_request_latency_seconds")),
    ]),
    "power": ("Sluice / Power", [
        panel("How much power is drawn?", "watt",
              "By device, as the hardware counts it: GPUs by NVML, processors and their memory by RAPL. Empty where "
              "neither can be read.",
              ("sum by (device) (sluice_power_watts)", "{{device}}"), stack=True, exempt="power"),
        panel("What does a token cost?", "joule",
              "Energy of all devices per output token.",
              ("sum(rate(sluice_energy_joules_total[RATE])) / sum(rate(sluice_generated_tokens_total[RATE]))",
               "J per output token"), exempt="power"),
        panel("How much energy does an hour take?", "joule", "By device, over the last hour.",
              ("sum by (device) (increase(sluice_energy_joules_total[1h]))", "{{device}}"), stack=True,
              exempt="power"),
        panel("What do other counters say?", "watt",
              "Power by NVIDIA's DCGM exporter, as a second source.",
              ("sum by (gpu) (DCGM_FI_DEV_POWER_USAGE)", "GPU {{gpu}}"), exempt="power"),
        panel("How many tokens per second, for comparison?", "short", "Output tokens per second.",
              ("sum(rate(sluice_generated_tokens_total{MODEL}[RATE]))", "output")),
        panel("Is power drawn for nothing?", "percentunit",
              "Share of the time in which neither device nor links did anything.",
              ('sum(rate(sluice_activity_seconds_total{MODEL, state="idle"}[RATE])) / '
               "sum(rate(sluice_activity_seconds_total{MODEL}[RATE]))", "idle"), maximum=1),
    ]),
}


def expand(query):
    return query.replace("MODEL", 'model=~"$model"').replace("RATE", "$__rate_interval")


def make_panel(number, spec, x, y):
    """One panel as Grafana wants it."""
    source = {"type": "prometheus", "uid": "${datasource}"}
    custom = {"drawStyle": "line", "lineWidth": 1, "fillOpacity": 30 if spec["stack"] else 8,
              "showPoints": "never", "spanNulls": False,
              "stacking": {"mode": "normal" if spec["stack"] else "none", "group": "A"}}
    defaults = {"unit": spec["unit"], "custom": custom}
    if spec["unit"] != "s" or "slack" not in spec["title"]:
        defaults["min"] = 0
    if spec["title"].startswith("How far off are predicted first"):
        del defaults["min"]
    if spec["maximum"] is not None:
        defaults["max"] = spec["maximum"]
    return {
        "id": number, "type": "timeseries", "title": spec["title"], "description": spec["description"],
        "datasource": source, "gridPos": {"x": x, "y": y, "w": spec["width"], "h": 8},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
                    "tooltip": {"mode": "multi", "sort": "desc"}},
        "targets": [{"refId": chr(ord("A") + i), "datasource": source, "expr": expand(query),
                     "legendFormat": legend} for i, (query, legend) in enumerate(spec["targets"])],
    }


def variable(name, kind, query, **more):
    return {"name": name, "type": kind, "query": query, **more}


def make_dashboard(name, title, specs):
    panels, x, y = [], 0, 0
    for number, spec in enumerate(specs, 1):
        if x + spec["width"] > COLUMNS:
            x, y = 0, y + 8
        panels.append(make_panel(number, spec, x, y))
        x += spec["width"]
    return {
        "uid": f"sluice-{name}", "title": title, "tags": ["sluice"], "schemaVersion": 39, "version": 1,
        "editable": True, "refresh": "10s", "time": {"from": "now-30m", "to": "now"}, "timezone": "browser",
        "graphTooltip": 1, "annotations": {"list": []},
        "links": [{"type": "dashboards", "tags": ["sluice"], "title": "Sluice", "asDropdown": True,
                   "includeVars": True, "keepTime": True, "targetBlank": False, "icon": "dashboard",
                   "tooltip": "", "url": ""}],
        "templating": {"list": [
            variable("datasource", "datasource", "prometheus", label="Data source"),
            variable("model", "query", "label_values(sluice_build_info, model)", label="Model",
                     datasource={"type": "prometheus", "uid": "${datasource}"}, refresh=2, multi=True,
                     includeAll=True, allValue=".*", current={"text": "All", "value": "$__all"}),
        ]},
        "panels": panels,
    }


def make_all():
    """File name -> text."""
    return {f"{name}.json": json.dumps(make_dashboard(name, title, specs), indent=1, ensure_ascii=False) + "\n"
            for name, (title, specs) in DASHBOARDS.items()}


def exemptions():
    """Dashboard and panel titles that may be empty, and why: hardware that is not everywhere."""
    return {(title, spec["title"]): spec["exempt"]
            for title, specs in DASHBOARDS.values() for spec in specs if spec["exempt"]}


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "dashboards")
    os.makedirs(folder, exist_ok=True)
    for name, text in make_all().items():
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            file.write(text)


if __name__ == "__main__":
    main()
