"""Small pictures as SVG text: a confusion matrix and a map of embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

PALETTE = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#8c6d00", "#4d4d4d")
WITH_NUMBERS = 12  # classes up to which cells carry their number
MAP_WIDTH, MAP_HEIGHT = 640, 480


def colours(count: int) -> list[str]:
    """As many colours, well apart: a palette for the colour-blind first, then steps of the golden angle."""
    return [PALETTE[i] if count <= len(PALETTE) else f"hsl({i * 137.5 % 360:.0f} 65% 45%)" for i in range(count)]


def confusion_svg(counts_CC: Sequence[Sequence[int]], labels: Sequence[str]) -> str:
    """Rows are true classes, columns predicted ones; the darker, the larger the share of the row."""
    counts = np.asarray(counts_CC)
    share = counts / np.maximum(1, counts.sum(1, keepdims=True))
    n, longest = len(labels), max(map(len, labels))
    cell = 34 if n <= WITH_NUMBERS else 13
    font = 12 if n <= WITH_NUMBERS else 10
    left = top = 16 + round(longest * font * 0.58)
    out = []
    for i, label in enumerate(labels):
        y, x, text = top + (i + 0.5) * cell + font / 3, left + (i + 0.5) * cell + font / 3, escape(label)
        out.append(f'<text x="{left - 6}" y="{y:.0f}" text-anchor="end">{text}</text>')
        out.append(f'<text transform="translate({x:.0f} {top - 6}) rotate(-90)">{text}</text>')
        for j in np.flatnonzero(counts[i]):
            light = 97 - 62 * share[i, j]
            at = f'x="{left + j * cell}" y="{top + i * cell}"'
            tip = f"<title>{text} → {escape(labels[j])}: {counts[i, j]} of {counts[i].sum()}</title>"
            out.append(f'<rect {at} width="{cell}" height="{cell}" fill="hsl(205 70% {light:.0f}%)">{tip}</rect>')
            if n <= WITH_NUMBERS:
                ink = "#fff" if light < 60 else "#222"
                at = f'x="{left + (j + 0.5) * cell}" y="{top + (i + 0.5) * cell + 4}"'
                out.append(f'<text {at} text-anchor="middle" fill="{ink}">{counts[i, j]}</text>')
    frame = f'<rect x="{left}" y="{top}" width="{n * cell}" height="{n * cell}" fill="none" stroke="#999"/>'
    return _svg(left + n * cell + 12, top + n * cell + 12, font, [*out, frame])


def map_svg(places_N2: np.ndarray, labels: Sequence[str]) -> str:
    """Dots coloured by label, with a legend; hovering tells the label."""
    names = sorted(set(labels))
    colour = dict(zip(names, colours(len(names))))
    low, high = places_N2.min(0), places_N2.max(0)
    at = (places_N2 - low) / np.maximum(high - low, 1e-9) * (MAP_WIDTH - 24, MAP_HEIGHT - 24) + 12
    out = [
        f'<circle cx="{x:.1f}" cy="{MAP_HEIGHT - y:.1f}" r="3" fill="{colour[k]}" fill-opacity="0.75">'
        f"<title>{escape(k)}</title></circle>"
        for (x, y), k in zip(at, labels)
    ]
    rows = MAP_HEIGHT // 17
    width = 20 + round(max(map(len, names)) * 7)
    for i, name in enumerate(names):
        x, y = MAP_WIDTH + 16 + i // rows * width, 14 + i % rows * 17
        out.append(f'<circle cx="{x}" cy="{y}" r="5" fill="{colour[name]}"/>')
        out.append(f'<text x="{x + 10}" y="{y + 4}">{escape(name)}</text>')
    frame = f'<rect width="{MAP_WIDTH}" height="{MAP_HEIGHT}" fill="none" stroke="#ccc"/>'
    return _svg(MAP_WIDTH + 16 + (len(names) - 1) // rows * width + width, MAP_HEIGHT, 12, [frame, *out])


def _svg(width: int, height: int, font: int, parts: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    return f'{head} font-family="sans-serif" font-size="{font}">{"".join(parts)}</svg>'
