"""One page of HTML that shows a report: it needs no network and no other file."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

from harness.insight import drawing
from harness.insight.filters import as_pictures
from harness.insight.layers import Layer
from harness.insight.one_picture import Picture
from harness.insight.one_unit import Unit
from harness.insight.report import Report
from harness.insight.searched_set import SearchedSet
from harness.prediction.output import Names
from harness.run.files import atomic, write_text
from harness.run.printable import markup

INDEX = "index.html"
FILTERS = 96  # shown at most
LEAST_CHANGE = 1e-4  # of a probability, that the colours of an occlusion stand for: 0.01 percentage points
OPEN = 3  # pictures that are not folded, if there are no more
STYLE = """
body { margin: 0 auto; max-width: 70rem; padding: 0 1rem 4rem; background: #fff; color: #1c1c1c;
       font: 16px/1.5 system-ui, sans-serif; }
h1 { margin-bottom: 0.2rem; } h2 { margin-top: 3rem; border-bottom: 1px solid #ccc; } h3 { margin: 1.5rem 0 0; }
.row { display: flex; flex-wrap: wrap; gap: 1rem 1.2rem; margin: 0.8rem 0; }
figure { margin: 0 0 0.6rem; } .row > * { width: min(14rem, 46%); } h4 { margin: 0 0 0.3rem; overflow-wrap: anywhere; }
.maps figure { margin: 0.6rem 0; }
img { display: block; max-width: 100%; height: auto; image-rendering: pixelated; } .row img { width: 100%; }
figcaption { font-size: 0.85rem; color: #444; margin-top: 0.2rem; overflow-wrap: anywhere; }
p { max-width: 48rem; } .scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: 0.9rem; }
th, td { padding: 0.15rem 0.8rem 0.15rem 0; text-align: right; border-bottom: 1px solid #eee; }
th:first-child, td:first-child, th:nth-child(2), td:nth-child(2) { text-align: left; }
summary { cursor: pointer; font-weight: 600; padding: 0.4rem 0; overflow-wrap: anywhere; }
details.picture { border-top: 1px solid #ddd; } code { font-size: 0.9em; } a { color: #0b57a4; }
nav a { margin-right: 1rem; }
"""
SOURCES = (
    ("Grad-CAM", "Selvaraju et al. 2017, Grad-CAM: Visual Explanations from Deep Networks, arXiv 1610.02391"),
    (
        "Occlusion, and images that excite a map",
        "Zeiler, Fergus 2014, Visualizing and Understanding Convolutional Networks, arXiv 1311.2901",
    ),
    (
        "Effective receptive field",
        "Luo et al. 2016, Understanding the Effective Receptive Field in Deep Convolutional Neural Networks, "
        "arXiv 1701.04128",
    ),
)


class Figures:
    """The pictures of a page: each stands in it, and becomes a file beside it."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def figure(self, name: str, colours: drawing.Colours, alt: str, caption: str, photo: bool = False) -> str:
        """Add a picture; return its HTML. The caption is HTML, the other words are text; a photo keeps its colours."""
        content = drawing.png(colours, all_colours=photo)
        self.files[f"{name}.png"] = content
        height, width = colours.shape[:2]
        data = base64.b64encode(content).decode("ascii")
        return (
            f'<figure><img src="data:image/png;base64,{data}" width="{width}" height="{height}" '
            f'alt="{markup(alt)}"><figcaption>{caption}</figcaption></figure>'
        )


def write(report: Report, names: Names, folder: Path) -> None:
    """Write the page and its pictures into an empty folder."""
    figures = Figures()
    text = page(report, names, figures)
    for name, content in figures.files.items():
        with atomic(folder / name) as file:
            file.write(content)
    write_text(folder / INDEX, text)


def page(report: Report, names: Names, figures: Figures) -> str:
    """Return the page's HTML; the pictures are added to `figures`."""
    trained = report.loaded.trained
    title = f"What {trained.model} sees"
    sections = [
        ("filters", "The first layer's filters", _filters(report, figures)),
        ("pictures", "Pictures", _pictures(report, names, figures)),
        ("unit", "One unit", _unit(report, names, figures)),
        ("layers", "Layers", _layers(report)),
        ("sources", "Sources", _sources()),
    ]
    links = "".join(f'<a href="#{anchor}">{heading}</a>' for anchor, heading, _ in sections)
    content = "".join(
        f'<section id="{anchor}"><h2>{heading}</h2>{html}</section>\n' for anchor, heading, html in sections
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{markup(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<style>{STYLE}</style></head>\n<body><h1>{markup(title)}</h1>\n{_about(report)}<nav>{links}</nav>\n"
        f"{content}</body></html>\n"
    )


def _about(report: Report) -> str:
    trained, how = report.loaded.trained, report.loaded.trained.preprocessing
    colours = "grey" if how.channels == 1 else "RGB"
    unnamed = "" if report.loaded.named else " The names of its classes are not known: they are called by number."
    return (
        f"<p><b>{markup(trained.model)}</b>, {len(trained.class_names):,} classes, images of {how.size} x {how.size} "
        f"pixels, {colours}. Its weights: {markup(report.loaded.source.removeprefix('weights='))}.{unnamed}</p>\n"
    )


def _filters(report: Report, figures: Figures) -> str:
    name, weights = report.filters
    order = weights.flatten(1).norm(dim=1).argsort(descending=True, stable=True)[:FILTERS]
    count, channels, height, width = weights.shape
    shown = "all of them" if len(order) == count else f"the {len(order)} of the largest norm"
    text = (
        f"The {count:,} filters of <code>{markup(name)}</code>, {height} x {width} pixels each; {shown}, the largest "
        "norm first. Each is on its own scale: grey is a weight of zero, brighter is positive, darker negative"
        + ("; red, green and blue are the weights of the three channels." if channels == 3 else ".")
        + (" A unit of a fully connected layer looks at the whole image." if report.attention_stage is None else "")
    )
    return figures.figure(
        "filters", drawing.filters(as_pictures(weights[order].cpu())), f"Filters of {name} as small pictures", text
    )


# ------------------------------------------------------------------------------------------------------------- pictures


def _pictures(report: Report, names: Names, figures: Figures) -> str:
    side, step = report.window
    if report.attention_stage is None:
        attention = "A fully connected network has no feature maps, so there is no Grad-CAM and no map to show."
    else:
        attention = (
            f"<b>Grad-CAM</b> of a class weighs the maps of <code>{report.attention_stage}</code> by how much each "
            "raises the class's score: the brighter, the more that place speaks for the class. Each picture is on its "
            "own scale, and its detail is that of the maps, enlarged."
        )
    text = (
        f"<p>{attention}</p><p><b>Occlusion</b> hides a square of {side} x {side} pixels behind the data's mean "
        f"colour, moves it by {step}, and follows the class's probability: red where it falls, blue where it rises. "
        "The colours of a picture end at its largest change, which stands below it. Both show what this network's "
        "answer rests on, and not whether it is right.</p>"
    )
    if report.attention_stage is not None:
        text += (
            "<p><b>Feature maps</b> are what the next layer gets from a stage. The strongest come first, by their "
            "largest value; the maps of a row share one scale, from dark blue, its least value, to yellow.</p>"
        )
    unfolded = len(report.pictures) <= OPEN
    return text + "".join(
        _picture(report, picture, f"{number:02d}", unfolded or number == 1, names, figures)
        for number, picture in enumerate(report.pictures, start=1)
    )


def _picture(report: Report, found: Picture, number: str, unfolded: bool, names: Names, figures: Figures) -> str:
    colours = drawing.picture(found.image, report.loaded.trained.preprocessing)
    spoken = [names.readable_name(position) for position in found.classes]
    as_given = figures.figure(
        f"{number}_input",
        drawing.enlarged(colours),
        f"{found.name}, as the network gets it",
        "The picture as the network gets it",
        photo=True,
    )
    columns = [f"<div><h4>Input</h4>{as_given}</div>"]
    for place, (name, probability) in enumerate(zip(spoken, found.probabilities, strict=True)):
        column = f"<div><h4>{markup(name)}, {100 * probability:.1f}%</h4>"
        if found.attention is not None:
            column += figures.figure(
                f"{number}_grad_cam_{place + 1}",
                drawing.enlarged(drawing.with_heat(colours, found.attention[place])),
                f"Grad-CAM of {name} on {found.name}",
                "Grad-CAM",
            )
        falls = found.falls[place]
        largest = float(falls.abs().max())
        change = f"{100 * largest:.2g}" if largest > LEAST_CHANGE else "less than 0.01"
        column += figures.figure(
            f"{number}_occlusion_{place + 1}",
            drawing.enlarged(drawing.with_signs(colours, falls, max(largest, LEAST_CHANGE))),
            f"Occlusion of {name} on {found.name}",
            f"Occlusion; largest change {change} percentage points",
        )
        columns.append(f"{column}</div>")
    maps = [
        figures.figure(
            f"{number}_maps_{stage}",
            drawing.maps(strongest.maps),
            f"The strongest feature maps of {stage} on {found.name}",
            f"<code>{stage}</code>: {strongest.of} maps of {strongest.maps.shape[1]} x {strongest.maps.shape[2]}; here "
            f"channel {', '.join(map(str, strongest.channels.tolist()))}; values {float(strongest.maps.min()):.3g} to "
            f"{float(strongest.maps.max()):.3g}",
        )
        for stage, strongest in found.maps.items()
    ]
    return (
        f'<details class="picture"{" open" if unfolded else ""}><summary>{markup(found.name)}: {markup(spoken[0])}, '
        f'{100 * found.probabilities[0]:.1f}%</summary><div class="row">{"".join(columns)}</div>'
        f'<div class="maps">{"".join(maps)}</div></details>\n'
    )


# ------------------------------------------------------------------------------------------------------------- one unit


def _unit(report: Report, names: Names, figures: Figures) -> str:
    unit = report.unit
    if unit is None:
        return (
            "<p>A fully connected network has no feature maps: a unit of its first layer sees the whole image, through "
            "its filter above.</p>"
        )
    first = report.pictures[0]
    colours = drawing.picture(first.image, report.loaded.trained.preprocessing)
    height, width = colours.shape[:2]
    field, inside = unit.field, unit.field.inside(height, width)
    beyond = "" if inside == field else ", beyond the picture's edges, where it is cut off here"
    pixels, whole = int(unit.central.sum()), inside.rows.length * inside.columns.length
    largest = float(unit.effective.max())
    averaged = "this picture" if len(report.pictures) == 1 else f"the {len(report.pictures)} pictures"
    row = [
        figures.figure(
            "unit_theoretical",
            drawing.framed(colours, field),
            f"The theoretical receptive field as a frame on {first.name}",
            f"Theoretical field: the {field.rows.length} x {field.columns.length} pixels that the unit can depend "
            f"on{beyond}.",
        )
    ]
    if largest > 0:
        row += [
            figures.figure(
                "unit_effective",
                drawing.enlarged(drawing.with_heat(colours, unit.effective / largest)),
                f"The effective receptive field as heat on {first.name}",
                f"Effective field: the magnitude of the unit's gradient at each pixel, the mean over {averaged}.",
            ),
            figures.figure(
                "unit_effective_95",
                drawing.framed(drawing.only(colours, unit.central), field),
                f"The pixels of {first.name} that hold 95% of the effective receptive field",
                f"The {pixels:,} pixels that hold 95% of it: {100 * pixels / whole:.0f}% of the theoretical field's "
                f"{whole:,} on the picture.",
            ),
        ]
    off = "" if largest > 0 else f"<p>The unit is off on {averaged}: it has no gradient, and no effective field.</p>"
    return (
        f"<p>Channel {unit.channel} of <code>{unit.stage.name}</code> ({unit.stage.channels} maps of "
        f"{unit.stage.height} x {unit.stage.width}), at row {unit.row}, column {unit.column}. <code>--unit "
        f"{unit.stage.name}:{unit.channel}:{unit.row},{unit.column}</code> names it; other units are named in the same "
        f'way.</p><div class="row">{"".join(row)}</div>{off}<h3>The pictures of a set that excite it most</h3>'
        f"{_exciting(report, unit, names, figures)}"
    )


def _exciting(report: Report, unit: Unit, names: Names, figures: Figures) -> str:
    searched = unit.searched
    if not isinstance(searched, SearchedSet):
        return f"<p>{markup(searched)}</p>"
    among = f"all {searched.of:,}" if searched.images == searched.of else f"{searched.images:,} of the {searched.of:,}"
    how = "" if searched.images == searched.of else ", evenly spread"
    row = [
        figures.figure(
            f"unit_excited_{place + 1}",
            drawing.framed(drawing.picture(one.image, report.loaded.trained.preprocessing), field),
            f"A picture of {searched.name} that excites the unit, with its receptive field",
            f"class {markup(_spoken(label, names))}; value {one.value:.4g}",
            photo=True,
        )
        for place, (one, field, label) in enumerate(zip(searched.excited, unit.fields, searched.labels, strict=True))
    ]
    return (
        f"<p>Where channel {unit.channel} is largest at any place, among {among} test images of "
        f"{markup(searched.name)}{how}. The frame is what the unit at that place can see; below stand the image's "
        f'class and the largest value.</p><div class="row">{"".join(row)}</div>'
    )


def _spoken(label: str, names: Names) -> str:
    """The class of an image of a set, which may have other classes than the network, for a person to read."""
    return f"{names.readable[label]} ({label})" if label in names.readable else label


# --------------------------------------------------------------------------------------------------------------- layers


def _layers(report: Report) -> str:
    own = [layer for layer in report.layers if not layer.depth]
    inner = [layer for layer in report.layers if not layer.holds_others]
    total = sum(layer.multiply_adds for layer in own)
    parameters = sum(layer.parameters for layer in own)
    text = (
        f"<p>{parameters:,} parameters and {total:,} multiply-adds for one image, of convolutions and fully connected "
        f"layers, without biases. Times are medians for one image on {markup(report.device.type)}, with whatever else "
        "this machine did; what stands between the layers, such as activation functions, is in none of them.</p>"
    )
    every = ""
    if any(layer.depth for layer in inner):
        every = f"<details><summary>All {len(inner):,} layers</summary>{_table(inner)}</details>"
    return text + _table(own) + every


def _table(layers: Sequence[Layer]) -> str:
    rows = "".join(
        f"<tr><td><code>{markup(layer.name)}</code></td><td>{markup(layer.kind)}</td>"
        f"<td>{' x '.join(map(str, layer.shape))}</td><td>{layer.parameters:,}</td><td>{layer.multiply_adds:,}</td>"
        f"<td>{layer.milliseconds:.3f}</td></tr>"
        for layer in layers
    )
    heads = "".join(f"<th>{head}</th>" for head in ("layer", "kind", "output", "parameters", "multiply-adds", "ms"))
    return f'<div class="scroll"><table><tr>{heads}</tr>{rows}</table></div>'


def _sources() -> str:
    return "<ul>" + "".join(f"<li>{markup(what)}: {markup(source)}</li>" for what, source in SOURCES) + "</ul>"
