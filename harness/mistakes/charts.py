"""Charts as SVG that stands in a page: its colours are the page's, and its words are text."""

from __future__ import annotations

from collections.abc import Sequence

from harness.comparison.errors import Bin, Group
from harness.run.printable import markup

WIDTH, HEIGHT = 520, 300
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 12, 52  # margins


def reliability(bins: Sequence[Bin], said: str) -> str:
    """The share that is right over the probability that the network gave; on the dashed line both are equal.

    Args:
        bins: of images.
        said: the chart in words.
    """
    parts = [_axes([i / 5 for i in range(6)], [f"{20 * i}" for i in range(6)], "probability of the answer (%)")]
    parts.append(_levels([i / 5 for i in range(6)], [f"{20 * i}" for i in range(6)], "answers that are right (%)"))
    for one in bins:
        x, width = _x(one.low), (WIDTH - LEFT - RIGHT) * (one.high - one.low)
        words = f"{one.images:,} images: probability {100 * one.confidence:.1f}%, right {100 * one.right:.1f}%"
        parts.append(
            f'<rect class="bar" x="{x + 1:.1f}" y="{_y(one.right):.1f}" width="{width - 2:.1f}" '
            f'height="{_y(0) - _y(one.right):.1f}"><title>{words}</title></rect>'
            f'<circle class="dot" cx="{_x(one.confidence):.1f}" cy="{_y(one.right):.1f}" r="4"><title>{words}</title>'
            "</circle>"
        )
    parts.append(f'<line class="ideal" x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}"/>')
    return _svg(parts, said)


def groups(found: Sequence[Group], what: str, names: Sequence[str], said: str) -> str:
    """The error of each group of pictures, with its 95% interval.

    Args:
        found: groups, in order.
        what: what they have in common, for the axis.
        names: of each.
        said: the chart in words.
    """
    most = max(group.interval[1] for group in found)
    top = next(level for level in (2, 5, 10, 20, 40, 60, 80, 100) if level >= min(most, 100))
    places = [(i + 0.5) / len(found) for i in range(len(found))]
    parts = [_axes(places, names, what)]
    parts.append(_levels([i / 4 for i in range(5)], [f"{top * i / 4:g}" for i in range(5)], "top-1 error (%)"))
    for x, group, name in zip(places, found, names, strict=True):
        error = 100 * group.wrong / group.images
        low, high = group.interval
        words = f"{name}: {error:.1f}% of {group.images:,} images, 95% interval {low:.1f} to {high:.1f}%"
        parts.append(
            f'<line class="whisker" x1="{_x(x):.1f}" x2="{_x(x):.1f}" y1="{_y(low / top):.1f}" '
            f'y2="{_y(high / top):.1f}"/><circle class="dot" cx="{_x(x):.1f}" cy="{_y(error / top):.1f}" r="5">'
            f"<title>{markup(words)}</title></circle>"
        )
    return _svg(parts, said)


def _x(share: float) -> float:
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _y(share: float) -> float:
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def _axes(places: Sequence[float], names: Sequence[str], what: str) -> str:
    ticks = "".join(
        f'<text x="{_x(place):.1f}" y="{HEIGHT - BOTTOM + 17}" text-anchor="middle">{markup(name)}</text>'
        for place, name in zip(places, names, strict=True)
    )
    middle = _x(0.5)
    return f'{ticks}<text x="{middle:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{markup(what)}</text>'


def _levels(places: Sequence[float], names: Sequence[str], what: str) -> str:
    lines = "".join(
        f'<line class="level" x1="{_x(0)}" x2="{_x(1)}" y1="{_y(place):.1f}" y2="{_y(place):.1f}"/>'
        f'<text x="{LEFT - 7}" y="{_y(place) + 4:.1f}" text-anchor="end">{name}</text>'
        for place, name in zip(places, names, strict=True)
    )
    y = _y(0.5)
    return f'{lines}<text transform="translate(14 {y:.1f}) rotate(-90)" text-anchor="middle">{what}</text>'


def _svg(parts: Sequence[str], said: str) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{markup(said)}">'
        f"{''.join(parts)}</svg>"
    )
