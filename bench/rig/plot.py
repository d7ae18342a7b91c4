"""Plots as SVG text: horizontal bars on a logarithmic scale, and curves."""

import math
from collections.abc import Sequence
from html import escape

FONT = "font-family='system-ui, sans-serif' font-size='13'"
OURS, OTHERS, INK, FAINT = "#c2410c", "#64748b", "#1e293b", "#cbd5e1"
COLOURS = ("#c2410c", "#0369a1", "#15803d", "#7e22ce")


def _svg(width: int, height: int, parts: Sequence[str], title: str) -> str:
    head = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' height='{height}' role='img' {FONT}>"
    return "\n".join([head, f"<title>{escape(title)}</title>", f"<rect width='{width}' height='{height}' fill='white'/>", *parts, "</svg>"]) + "\n"


def _text(x: float, y: float, words: str, anchor: str = "start", weight: str = "normal") -> str:
    return f"<text x='{x:.0f}' y='{y:.0f}' text-anchor='{anchor}' font-weight='{weight}' fill='{INK}'>{escape(words)}</text>"


Bar = tuple[str, float, float, float]  # name, lowest, median, highest


def bars(panels: Sequence[tuple[str, Sequence[Bar]]], ours: str) -> str:
    """A panel for each figure; names that begin with `ours` stand out. A thin line goes from the lowest to the highest of the passes."""
    parts: list[str] = []
    left, right, row, y = 250, 620, 24, 10.0
    for title, rows in panels:
        if not rows:
            continue
        low = math.floor(math.log10(max(1e-9, min(row_[1] for row_ in rows))))
        high = math.log10(max(row_[3] for row_ in rows))
        scale = (right - left) / max(1e-9, high - low)
        parts.append(_text(20, y + 18, title, weight="bold"))
        y += 32
        for name, least, middle, most in rows:
            ends = [left + (math.log10(max(value, 10**low)) - low) * scale for value in (least, middle, most)]
            colour = OURS if name.startswith(ours) else OTHERS
            parts += [
                _text(left - 10, y + 13, name, "end"),
                f"<rect x='{left}' y='{y:.0f}' width='{max(1.0, ends[1] - left):.1f}' height='16' fill='{colour}'/>",
                f"<line x1='{ends[0]:.1f}' x2='{ends[2]:.1f}' y1='{y + 8:.0f}' y2='{y + 8:.0f}' stroke='{INK}'/>",
                _text(max(ends) + 8, y + 13, f"{middle:,.0f}" if middle >= 10 else f"{middle:.2f}"),
            ]
            y += row
        y += 14
    return _svg(720, int(y), parts, "; ".join(title for title, _ in panels))


Curve = tuple[str, Sequence[tuple[float, float]]]  # name, points


def curves(title: str, across: str, up: str, lines: Sequence[Curve]) -> str:
    """Both axes from 0 upwards; the horizontal one is logarithmic, with 0 at its begin."""
    left, right, top, bottom = 70, 620, 54, 280
    places = sorted({x for _, points in lines for x, _ in points})
    tall = max((y for _, points in lines for _, y in points), default=1) * 1.15 or 1
    far = math.log10(max(1.0, *places) + 1)

    def at(x: float, y: float) -> tuple[float, float]:
        return left + (right - left) * math.log10(x + 1) / far, bottom - (bottom - top) * y / tall

    parts = [_text(20, 22, title, weight="bold"), _text((left + right) / 2, bottom + 40, across, "middle"), _text(left, top - 4, up)]
    for part in range(5):
        value = tall * part / 4
        y = at(0, value)[1]
        parts += [f"<line x1='{left}' x2='{right}' y1='{y:.1f}' y2='{y:.1f}' stroke='{FAINT}'/>", _text(left - 8, y + 4, f"{value:,.3g}", "end")]
    parts += [_text(at(x, 0)[0], bottom + 18, f"{x:,.0f}", "middle") for x in places]
    for number, (name, points) in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        spots = [at(x, y) for x, y in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
        parts.append(f"<polyline fill='none' stroke='{colour}' stroke-width='2' points='{path}'/>")
        parts += [f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3' fill='{colour}'/>" for x, y in spots]
        parts += [
            f"<rect x='{right - 180}' y='{top + 18 * number}' width='12' height='12' fill='{colour}'/>",
            _text(right - 162, top + 11 + 18 * number, name),
        ]
    return _svg(680, 340, parts, title)
