"""Pictures for the documentation from real runs, written by tests that are given SLUICE_PICTURES=FOLDER: a
terminal's screen and the charts of a report page as SVG. Small, and the same bytes for the same run."""

import html
import os
import re

_COLORS = {30: "#3b4252", 31: "#d9544f", 32: "#5fae5f", 33: "#d8a03a", 34: "#5b8fd9", 35: "#b07cc6",
           36: "#4db6b6", 37: "#d8dee9", 90: "#7a8699", 91: "#ef6b66", 92: "#7fcf7f", 93: "#f0c05a",
           94: "#7fb0f5", 95: "#cf9ce0", 96: "#6fd6d6", 97: "#ffffff"}
_BACKGROUND, _INK = "#1b2028", "#d8dee9"
_WIDTH, _HEIGHT = 8.4, 17  # of a character


def _spans(line):
    """[(column, text, colour, bold, dim)] of a line with ANSI colours."""
    spans, column, color, bold, dim, inverse = [], 0, _INK, False, False, False
    for codes, text in re.findall(r"\x1b\[([0-9;]*)m|([^\x1b]+)", line):
        if text:
            spans.append((column, text, _BACKGROUND if inverse else color, bold, dim, inverse))
            column += len(text)
            continue
        for code in (int(c or 0) for c in codes.split(";")):
            if code == 0:
                color, bold, dim, inverse = _INK, False, False, False
            bold, dim, inverse = bold or code == 1, dim or code == 2, inverse or code == 7
            color = _INK if code == 39 else _COLORS.get(code, color)
    return spans


def terminal(screen, columns=80):
    """A screen as `tmux capture-pane -e -p` gives it, as SVG."""
    lines = screen.rstrip("\n").split("\n")
    width, height = columns * _WIDTH + 24, len(lines) * _HEIGHT + 20
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
           f'viewBox="0 0 {width:g} {height:g}" font-family="ui-monospace,Menlo,Consolas,monospace" '
           f'font-size="14"><rect width="100%" height="100%" rx="6" fill="{_BACKGROUND}"/>']
    for row, line in enumerate(lines):
        y = 10 + row * _HEIGHT
        for column, text, color, bold, dim, inverse in _spans(line):
            x, length = 12 + column * _WIDTH, len(text) * _WIDTH
            if inverse:
                out.append(f'<rect x="{x:g}" y="{y:g}" width="{length:g}" height="{_HEIGHT}" fill="{_INK}"/>')
            if not text.strip():
                continue
            style = (' font-weight="bold"' if bold else "") + (' opacity=".6"' if dim else "")
            out.append(f'<text x="{x:g}" y="{y + 13:g}" textLength="{length:g}" xml:space="preserve" '
                       f'fill="{color}"{style}>{html.escape(text)}</text>')
    return "\n".join([*out, "</svg>", ""])


def _top_level_svgs(page):
    """The outermost <svg> elements of a page."""
    found, depth, start = [], 0, 0
    for match in re.finditer(r"<svg\b|</svg>", page):
        if match.group() == "</svg>":
            depth -= 1
            if depth == 0:
                found.append(page[start:match.end()])
        else:
            start = match.start() if depth == 0 else start
            depth += 1
    return found


def charts(page, gap=16):
    """The charts of a report of sluice, side by side in one SVG: of each the wide one, with its title."""
    style = re.search(r"<style>(.*?)</style>", page, re.S).group(1).replace(":root{", "svg{")
    wide = {}
    for svg in _top_level_svgs(page):
        label = re.search(r'aria-label="([^"]*)"', svg).group(1)
        size = [float(re.search(rf'\b{side}="([0-9.]+)"', svg).group(1)) for side in ("width", "height")]
        if label not in wide or size[0] > wide[label][1][0]:
            wide[label] = (svg, size)
    total = max(size[0] for _, size in wide.values()) + 2 * gap
    out, x, y, tallest = [], gap, gap, 0
    for label, (svg, size) in wide.items():
        if x > gap and x + size[0] > total:
            x, y, tallest = gap, y + tallest + 24 + gap, 0
        out.append(f'<text class="t" style="font-weight:600" x="{x:g}" y="{y + 14:g}">{label}</text>')
        out.append(svg.replace("<svg ", f'<svg x="{x:g}" y="{y + 24:g}" ', 1))
        x, tallest = x + size[0] + gap, max(tallest, size[1])
    y += tallest + 24 + gap
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{total:g}" height="{y:g}" '
            f'viewBox="0 0 {total:g} {y:g}"><style>{style}</style>'
            f'<rect width="100%" height="100%" style="fill:var(--card)"/>' + "".join(out) + "</svg>\n")


def keep(name, make):
    """Writes what make() returns to FOLDER/name if pictures are wanted."""
    folder = os.environ.get("SLUICE_PICTURES")
    if folder:
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            file.write(make())
