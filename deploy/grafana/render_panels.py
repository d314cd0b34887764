#!/usr/bin/env python3
"""Draws the dashboards of this folder as SVG, from what a Prometheus server answers.

    render_panels.py --prometheus URL --start SECONDS --end SECONDS [--step S] [--rate 5s] OUTPUT_FOLDER

The pictures show the same queries, units and titles as the dashboards; they are not screenshots of
Grafana, and say so.
"""

import argparse
import html
import math
import os
import time

import panel_queries

COLORS = ["#3b7dd8", "#e08a2b", "#4aa564", "#c4504b", "#8a63b8", "#2aa7a7", "#b59a1f", "#7a7a7a",
          "#d167a8", "#5b8c2a", "#9c5a32", "#4657a5"]
WIDTH, HEIGHT, GAP, TOP = 380, 220, 12, 58  # of a panel; TOP: the headline of the page
LEFT, RIGHT, HEAD, FOOT = 50, 12, 30, 52    # margins of the plot in a panel
LEGEND_ENTRIES = 6

SCALES = {  # unit: (factor, suffix, prefixes of 1000)
    "percentunit": (100, " %", False), "s": (1, " s", None), "bytes": (1, "B", True), "Bps": (1, "B/s", True),
    "watt": (1, " W", True), "joule": (1, " J", True), "reqps": (1, "/s", True), "ops": (1, "/s", True),
    "short": (1, "", True),
}


def number(value, unit):
    """A short text for a value of a unit."""
    factor, suffix, thousands = SCALES[unit]
    value *= factor
    if thousands is None and value != 0 and abs(value) < 1:  # seconds
        for scale, name in ((1e3, " ms"), (1e6, " µs")):
            if abs(value) * scale >= 1 or scale == 1e6:
                return f"{value * scale:.3g}{name}"
    prefix = ""
    if thousands:
        for name in ("k", "M", "G", "T"):
            if abs(value) < 1000:
                break
            value, prefix = value / 1000, name
    text = f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return f"{text}{' ' if suffix.startswith('B') else ''}{prefix}{suffix}"


def ticks(low, high):
    """Four or so round numbers between two values."""
    raw = (high - low) / 4 or 1
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, int(math.floor(high / step + 1e-9)) + 1)]


def stacked(series):
    """Each series on top of those before: [(name, [(time, low, high)])]."""
    base, layers = {}, []
    for one in series:
        layer = []
        for when, value in one.points:
            low = base.get(when, 0.0)
            base[when] = low + value
            layer.append((when, low, low + value))
        layers.append((one.name, layer))
    return layers


def draw_panel(panel, series, start, end, out):
    unit = panel["fieldConfig"]["defaults"]["unit"]
    is_stack = panel["fieldConfig"]["defaults"]["custom"]["stacking"]["mode"] == "normal"
    layers = stacked(series) if is_stack else [
        (one.name, [(when, None, value) for when, value in one.points]) for one in series]
    values = [point[2] for _, layer in layers for point in layer]
    low = min([0.0, *values])
    high = panel["fieldConfig"]["defaults"].get("max") or max([*values, low]) * 1.05 or 1.0
    if high <= low:
        high = low + 1
    plot_width, plot_height = WIDTH - LEFT - RIGHT, HEIGHT - HEAD - FOOT

    def x(when):
        return LEFT + plot_width * (when - start) / (end - start)

    def y(value):
        return HEAD + plot_height * (1 - (min(value, high) - low) / (high - low))

    out.append(f'<rect width="{WIDTH}" height="{HEIGHT}" rx="4" fill="#fff" stroke="#d5d8dd"/>')
    title = panel["title"]
    size = 12 if len(title) < 52 else 10.5
    out.append(f'<text x="10" y="19" font-size="{size}" font-weight="600">{html.escape(title)}</text>')
    for tick in ticks(low, high):
        out.append(f'<path d="M{LEFT} {y(tick):.1f}H{WIDTH - RIGHT}" stroke="#e6e8eb"/>')
        out.append(f'<text x="{LEFT - 5}" y="{y(tick) + 3:.1f}" font-size="9" text-anchor="end" '
                   f'fill="#555">{number(tick, unit)}</text>')
    for after in ticks(0, end - start):
        out.append(f'<text x="{x(start + after):.1f}" y="{HEAD + plot_height + 13}" font-size="9" '
                   f'text-anchor="middle" fill="#555">{after:g} s</text>')
    for index, (_, layer) in enumerate(layers):
        color = COLORS[index % len(COLORS)]
        if not layer:
            continue
        if is_stack:
            upper = " ".join(f"{x(when):.1f},{y(top):.1f}" for when, _, top in layer)
            lower = " ".join(f"{x(when):.1f},{y(bottom):.1f}" for when, bottom, _ in reversed(layer))
            out.append(f'<polygon points="{upper} {lower}" fill="{color}" fill-opacity="0.75"/>')
        else:
            line = " ".join(f"{x(when):.1f},{y(top):.1f}" for when, _, top in layer)
            out.append(f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="1.6"/>')
    draw_legend(layers, out)
    if not values:
        out.append(f'<text x="{WIDTH / 2}" y="{HEIGHT / 2}" font-size="11" text-anchor="middle" fill="#888">'
                   "no data on this machine</text>")


def draw_legend(layers, out):
    shown = sorted(enumerate(layers), key=lambda item: -max([abs(p[2]) for p in item[1][1]] or [-1]))
    shown = sorted(shown[:LEGEND_ENTRIES])
    column = (WIDTH - 20) / 3
    for place, (index, (name, _)) in enumerate(shown):
        left, top = 10 + column * (place % 3), HEIGHT - 24 + 13 * (place // 3)
        out.append(f'<rect x="{left:.0f}" y="{top - 7}" width="8" height="8" fill="{COLORS[index % len(COLORS)]}"/>')
        text = name if len(name) < 20 else name[:18] + "…"
        out.append(f'<text x="{left + 12:.0f}" y="{top}" font-size="9.5" fill="#333">{html.escape(text)}</text>')


def render(dashboard, answers, start, end, note):
    """The SVG of a dashboard. `answers`: panel id -> its series. `note`: what was measured."""
    panels = dashboard["panels"]
    columns = 3
    rows = (len(panels) + columns - 1) // columns
    width, height = columns * (WIDTH + GAP) + GAP, TOP + rows * (HEIGHT + GAP)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
           f'height="{height}" font-family="sans-serif" fill="#1f2329" role="img">',
           f'<rect width="{width}" height="{height}" fill="#f4f5f7"/>',
           f'<text x="{GAP}" y="25" font-size="18" font-weight="600">{html.escape(dashboard["title"])}</text>',
           f'<text x="{GAP}" y="44" font-size="11" fill="#555">Drawn by render_panels.py from what a real '
           f"Prometheus answered about a real server under load; Grafana itself was not run. {html.escape(note)}"
           "</text>"]
    for index, panel in enumerate(panels):
        left = GAP + (index % columns) * (WIDTH + GAP)
        top = TOP + (index // columns) * (HEIGHT + GAP)
        out.append(f'<g transform="translate({left} {top})">')
        draw_panel(panel, answers.get(panel["id"], []), start, end, out)
        out.append("</g>")
    out.append("</svg>")
    return "\n".join(out) + "\n"


def render_all(url, start, end, step, rate_interval, folder, note=""):
    """Asks `url` for every panel and writes dashboard_NAME.svg files to `folder`."""
    for name, dashboard in panel_queries.load_dashboards().items():
        answers = {}
        for query in panel_queries.queries(dashboard):
            answers.setdefault(query.panel["id"], []).extend(panel_queries.query_range(
                url, panel_queries.expand(query.expression, rate_interval), start, end, step, query.legend))
        path = os.path.join(folder, f"dashboard_{os.path.splitext(name)[0]}.svg")
        with open(path, "w", encoding="utf-8") as file:
            file.write(render(dashboard, answers, start, end, note))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090")
    parser.add_argument("--start", type=float, default=time.time() - 300)
    parser.add_argument("--end", type=float, default=time.time())
    parser.add_argument("--step", type=float, default=1)
    parser.add_argument("--rate", default="5s")
    parser.add_argument("--note", default="", help="what was measured, for the caption")
    parser.add_argument("folder")
    options = parser.parse_args()
    render_all(options.prometheus, options.start, options.end, options.step, options.rate, options.folder,
               options.note)


if __name__ == "__main__":
    main()
