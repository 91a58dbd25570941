"""Draw results as LeCun 1998 drew Figure 9: a row for each network, our error and the published one as bars.

What is drawn is also in the picture's text, so that a picture can be compared with the records without its pixels.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from PIL import Image

from harness.comparison.experiments import Section
from harness.evaluation.published import NOT_COMPARABLE
from harness.run.printable import printable

OURS, THEIRS, INK, FAINT = "#0072b2", "#e69f00", "#222222", "#767676"  # blue and orange of Okabe and Ito
WIDTH = 30  # most characters in a line of a label
HEIGHT = 0.38  # of a bar; rows are 1 apart
DRAWN = "Drawn"  # key of the picture's text


def drawn(section: Section) -> list[dict[str, Any]]:
    """Return what is drawn of a section, from top to bottom: for each network, numbers in percent and what is said."""
    rows = []
    for line in section.lines:
        row, published = line.row, line.published or {}
        low, high = row.top1_interval if row else (None, None)
        rows.append(
            {
                "network": line.label,
                "error": row.top1_error if row else None,
                "deviation": row.top1_deviation if row else None,
                "low": low,
                "high": high,
                "published": published.get("top1_error"),
                "comparable": published.get("verdict") != NOT_COMPARABLE,
                "state": line.state,
            }
        )
    nothing = dict.fromkeys(("error", "deviation", "low", "high"))
    for paper in section.not_run:
        name = paper.source.partition(": ")[2]
        rows.append(
            {"network": name, **nothing, "published": paper.top1_error, "comparable": True, "state": "not run here"}
        )
    return rows


def drawn_in(path: Path) -> list[dict[str, Any]] | None:
    """Return what is drawn in a picture, as `drawn` gave it; None if there is no such picture."""
    if not path.exists():
        return None
    with Image.open(path) as picture:
        rows: list[dict[str, Any]] | None = json.loads(picture.info.get(DRAWN, "null"))
    return rows


def draw(path: Path, rows: Sequence[dict[str, Any]], title: str) -> None:
    """Draw what `drawn` gave into a PNG file."""
    compared = any(row["published"] is not None for row in rows)
    figure = Figure(figsize=(9.0, 1.5 + (0.5 if compared else 0.36) * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    _legend(figure, title, compared)
    axes = figure.subplots()
    for place, row in enumerate(rows):
        _draw_ours(axes, place - (HEIGHT / 2 if row["published"] is not None else 0), row)
        if row["published"] is not None:
            _draw_theirs(axes, place + HEIGHT / 2, row)
    ends = [row[key] for row in rows for key in ("high", "published") if row[key] is not None]
    axes.set_xlim(0, 1.16 * max(ends, default=1.0))
    axes.set_ylim(len(rows) - 0.4, -0.6)
    names = [fill(printable(row["network"]), WIDTH) for row in rows]
    axes.set_yticks(range(len(rows)), names, fontsize=9.5, color=INK, parse_math=False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("test error (%)", color=INK)
    axes.grid(axis="x", color="#e4e4e4", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.savefig(path, dpi=150, metadata={DRAWN: json.dumps(rows), "Software": None})


def _draw_ours(axes: Axes, place: float, row: dict[str, Any]) -> None:
    if row["error"] is None:
        _say(axes, 0, place, row["state"], FAINT, style="italic")
        return
    around = ([max(0.0, row["error"] - row["low"])], [max(0.0, row["high"] - row["error"])])
    axes.barh(place, row["error"], HEIGHT, color=OURS)
    axes.errorbar(row["error"], place, xerr=around, color=INK, linewidth=1.1, capsize=2.5)
    spread = "" if row["deviation"] is None else f" ± {row['deviation']:.2f}"
    seeds = f"  ({row['state']})" if row["state"] else ""
    _say(axes, row["high"], place, f"{row['error']:.2f}{spread}{seeds}", OURS, weight="bold")


def _draw_theirs(axes: Axes, place: float, row: dict[str, Any]) -> None:
    fill_of: dict[str, Any] = {"facecolor": THEIRS} if row["comparable"] else {"facecolor": "white", "hatch": "////"}
    axes.barh(place, row["published"], 0.8 * HEIGHT, edgecolor=THEIRS, linewidth=0.8, **fill_of)
    _say(axes, row["published"], place, f"{row['published']:g}", INK)


def _say(axes: Axes, x: float, y: float, text: str, color: str, **font: Any) -> None:
    place: dict[str, Any] = {"xytext": (5, 0), "textcoords": "offset points", "va": "center"}
    axes.annotate(printable(text), (x, y), fontsize=8.5, color=color, parse_math=False, **place, **font)


def _legend(figure: Figure, title: str, compared: bool) -> None:
    handles: list[Any] = [
        Patch(color=OURS, label="ours: mean ± deviation over seeds"),
        Line2D([], [], color=INK, linewidth=1.1, marker="|", label="95% interval"),
    ]
    if compared:
        handles += [
            Patch(color=THEIRS, label="published"),
            Patch(facecolor="white", edgecolor=THEIRS, hatch="////", label="published, under other conditions"),
        ]
    look: dict[str, Any] = {"ncols": len(handles), "fontsize": 9, "frameon": False, "handlelength": 1.6}
    look |= {"title": title, "title_fontsize": 13, "alignment": "left"}
    figure.legend(handles=handles, loc="outside upper left", **look)
