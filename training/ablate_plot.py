"""The ablation as one picture: Dice of disc and sac for each variant, and the AUC of what notes teach, with intervals over patients."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training import ablate, ablate_notes

_DOT, _SEED_DOT = "#1f5c99", "#9db8d2"


def draw(path: Path, axial: Sequence[ablate.Result], notes: Sequence[ablate_notes.Result]) -> None:
    """Write the plot (PNG) of the results that are there; what is empty is left out."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    titles = {item["variant"]: item["title"] for item in axial}
    panels = [
        (f"Dice of the {structure}", list(titles.values()), [ablate.figures(axial, name, structure) for name in titles])
        for structure in ("disc", "sac")
        if axial
    ]
    panels += [
        (f"AUC, {name}", [item["title"] for item in notes], [(*measure(item)[:3], []) for item in notes])
        for name, measure in (("herniation against free", ablate_notes.presence), ("side", ablate_notes.side))
        if notes
    ]
    rows = max(1, (len(panels) + 1) // 2)
    figure = Figure(figsize=(12, 3.4 * rows), dpi=90, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, 2, squeeze=False)
    for axis, (title, names, measured) in zip(axes.flat, panels, strict=False):
        _panel(axis, title, names, measured)
    figure.savefig(path, format="png")


def _panel(
    axis: Any, title: str, names: Sequence[str], rows: Sequence[tuple[float, float, float, list[float]]]
) -> None:
    places = list(range(len(rows)))[::-1]
    for place, (mean, low, high, each) in zip(places, rows, strict=True):
        axis.plot([low, high], [place, place], color=_DOT, linewidth=1.5)
        axis.plot(each, [place] * len(each), "|", color=_SEED_DOT, markersize=12, markeredgewidth=2)
        axis.plot(mean, place, "o", color=_DOT)
        axis.annotate(f"{mean:.3f}", (mean, place), xytext=(0, 7), textcoords="offset points", ha="center", fontsize=8)
    axis.axvline(rows[0][0], color="#999999", linewidth=0.8, linestyle=":")
    axis.set_yticks(places, names, fontsize=8)
    axis.set_ylim(-0.6, len(rows) - 0.3)
    axis.set_title(title, fontsize=10)
    axis.tick_params(axis="x", labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
