"""The frame of a page: its looks, tables that sort, pictures with captions, and a filter by class. No other file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from harness.mistakes.pictures import Pictures
from harness.mistakes.thumbnails import thumbnail
from harness.prediction.output import Names
from harness.run.files import write_text
from harness.run.printable import markup

INDEX = "index.html"
SHOWN = 48  # pictures of a gallery before a class is chosen
MOST_PICTURES = 2_400  # of a page
MOST_BYTES = 10_000_000  # of the pictures of a page, as they stand in it
STYLE = """
:root { color-scheme: light dark; --page: #fff; --text: #1c1c1c; --quiet: #555; --line: #d5d5d5; --link: #0b57a4;
        --bar: #9dbbe0; --mark: #1f5fa8; --wrong: 200, 60, 30; --right: 30, 130, 90; --raised: #f4f5f7; }
@media (prefers-color-scheme: dark) { :root { --page: #15171a; --text: #e6e6e6; --quiet: #a9adb3; --line: #3a3e44;
        --link: #8ab8f0; --bar: #375a87; --mark: #9cc3f5; --wrong: 235, 110, 80; --right: 70, 180, 130;
        --raised: #202429; } }
* { box-sizing: border-box; }
html { scroll-padding-top: 5rem; }
body { margin: 0 auto; max-width: 76rem; padding: 0 1rem 4rem; background: var(--page); color: var(--text);
       font: 16px/1.5 system-ui, sans-serif; }
h1 { margin-bottom: 0.2rem; overflow-wrap: anywhere; } h2 { margin-top: 3rem; border-bottom: 1px solid var(--line); }
p, li { max-width: 50rem; overflow-wrap: anywhere; } a { color: var(--link); } nav a { margin-right: 1rem; }
.quiet, figcaption, caption { color: var(--quiet); } .scroll { overflow-x: auto; max-height: 36rem; overflow-y: auto; }
:focus-visible { outline: 3px solid var(--mark); outline-offset: 2px; }
table { border-collapse: collapse; font-size: 0.9rem; margin-bottom: 1.5rem; }
caption { text-align: left; padding-bottom: 0.4rem; }
th, td { padding: 0.2rem 0.8rem 0.2rem 0; text-align: right; border-bottom: 1px solid var(--line); }
th.text, td.text { text-align: left; overflow-wrap: anywhere; min-width: 7rem; }
tbody th { font-weight: normal; }
thead th { vertical-align: bottom; position: sticky; top: 0; background: var(--page); }
button { font: inherit; color: inherit; background: none; border: 0; padding: 0; cursor: pointer; text-align: inherit; }
thead button { font-weight: 600; } thead button::after { content: "\\2195"; color: var(--quiet); padding-left: 0.3rem; }
th[aria-sort=ascending] button::after { content: "\\2191"; color: inherit; }
th[aria-sort=descending] button::after { content: "\\2193"; color: inherit; }
tbody button, .filter button { color: var(--link); text-decoration: underline; }
.filter { position: sticky; top: 0; z-index: 2; background: var(--raised); border: 1px solid var(--line);
          border-radius: 0.4rem; padding: 0.5rem 0.8rem; margin: 1rem 0;
          display: flex; flex-wrap: wrap; gap: 0.3rem 0.8rem; }
.filter select { font: inherit; max-width: 16rem; color: inherit; background: var(--page);
                 border: 1px solid var(--line); }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: 1.2rem 1rem;
           list-style: none; padding: 0; }
.gallery.pairs { grid-template-columns: repeat(auto-fill, minmax(18rem, 1fr)); }
.gallery li { font-size: 0.85rem; line-height: 1.35; overflow-wrap: anywhere; }
[hidden] { display: none !important; }
.gallery img { display: block; max-width: 100%; height: 7rem; width: auto; object-fit: contain;
               background: var(--raised); border-radius: 0.2rem; margin-bottom: 0.3rem; }
.two { display: flex; gap: 0.4rem; } .two > * { flex: 1; min-width: 0; } img.small { image-rendering: pixelated; }
caption span { display: block; position: sticky; left: 0; max-width: min(50rem, calc(100vw - 2rem)); }
.matrix td, .matrix th { padding: 0.15rem 0.45rem; min-width: 2.4rem; max-width: 7rem; text-align: right; }
.matrix td { font-variant-numeric: tabular-nums; } .matrix .none { color: var(--quiet); }
.matrix tbody th.text { min-width: 0; max-width: 12rem; white-space: nowrap; overflow: hidden;
                        text-overflow: ellipsis; }
.matrix tbody th { position: sticky; left: 0; background: var(--page); }
.charts { display: flex; flex-wrap: wrap; gap: 1.5rem; }
.charts figure { margin: 0; flex: 1 1 22rem; max-width: 36rem; }
.chart { width: 100%; height: auto; display: block; } .chart text { fill: currentColor; font-size: 12.5px; }
.chart .level { stroke: var(--line); } .chart .bar { fill: var(--bar); } .chart .dot { fill: var(--mark); }
.chart .whisker { stroke: var(--mark); stroke-width: 2; } .chart .ideal { stroke: currentColor; stroke-dasharray: 5 4; }
"""
SCRIPT = """
"use strict";
const cells = (row, column) => row.children[column];
const value = cell => cell.dataset.value === undefined ? cell.textContent : cell.dataset.value;
function sort(head) {
  const table = head.closest("table"), column = [...head.parentNode.children].indexOf(head);
  const down = head.getAttribute("aria-sort") !== "descending" && (head.dataset.first === "down"
    || head.getAttribute("aria-sort") === "ascending");
  const numbers = head.dataset.kind === "number", rows = [...table.tBodies[0].rows];
  rows.sort((one, other) => {
    const a = value(cells(one, column)), b = value(cells(other, column));
    if (!numbers) return down ? b.localeCompare(a) : a.localeCompare(b);
    if (a === "" || b === "") return (a === "") - (b === "");
    return down ? b - a : a - b;
  });
  table.tBodies[0].append(...rows);
  for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
}
for (const button of document.querySelectorAll("th button[data-sort]"))
  button.addEventListener("click", () => sort(button.closest("th")));
const choice = document.getElementById("class"), told = document.getElementById("told");
function filter() {
  const wanted = choice.value;
  let shown = 0;
  for (const one of document.querySelectorAll("[data-classes]")) {
    const hit = wanted === "" ? one.dataset.later === undefined : one.dataset.classes.split(" ").includes(wanted);
    one.hidden = !hit;
    shown += hit && one.tagName === "LI";
  }
  for (const gallery of document.querySelectorAll(".gallery")) {
    const empty = document.getElementById(gallery.id + "-empty");
    if (empty) empty.hidden = gallery.querySelector(":scope > :not([hidden])") !== null;
  }
  const name = wanted === "" ? "all classes" : choice.selectedOptions[0].textContent;
  told.textContent = `${name}: ${shown} ${shown === 1 ? "picture" : "pictures"} shown`;
  document.getElementById("all").hidden = wanted === "";
}
if (choice) {
  choice.addEventListener("change", filter);
  document.getElementById("all").addEventListener("click", () => { choice.value = ""; filter(); choice.focus(); });
  document.addEventListener("click", event => {
    const button = event.target.closest("button[data-class]");
    if (!button) return;
    choice.value = button.dataset.class;
    filter();
    const section = document.querySelector(".gallery");
    if (section) section.closest("section").scrollIntoView();
    choice.focus({preventScroll: true});
  });
  filter();
}
"""


class Column(NamedTuple):
    """A column of a table: its head, whether it holds text, and whether its largest values come first."""

    head: str
    text: bool = False
    largest_first: bool = True


class Cell(NamedTuple):
    """A cell: its HTML, and the number it is sorted by; None sorts by its text, or last among numbers."""

    html: str
    number: float | None = None


@dataclass
class Room:
    """How much more a page may hold of pictures."""

    pictures: int = MOST_PICTURES
    bytes: int = MOST_BYTES


def short(names: Names) -> Names:
    """The same names as a page says them: `tench` alone for `tench (n01440764)`, where no other class is called so."""
    said = [names.readable.get(name, name) for name in names.classes]
    times = Counter(said)
    return Names([one if times[one] == 1 else names.readable_name(label) for label, one in enumerate(said)], {})


def document(
    title: str, about: str, sections: Sequence[tuple[str, str, str]], names: Names, classes: Iterable[int]
) -> str:
    """Return a page of HTML.

    Args:
        title: as text.
        about: what stands above the sections, as HTML.
        sections: anchor, heading and content, as HTML.
        names: of the classes.
        classes: those that can be chosen.
    """
    links = "".join(f'<a href="#{anchor}">{heading}</a>' for anchor, heading, _ in sections)
    content = "".join(
        f'<section id="{anchor}"><h2>{heading}</h2>{html}</section>\n' for anchor, heading, html in sections
    )
    options = "".join(f'<option value="{label}">{markup(names.readable_name(label))}</option>' for label in classes)
    chooser = (
        '<div class="filter"><label for="class">Class</label><select id="class" autocomplete="off">'
        f'<option value="">all classes</option>{options}</select><button id="all" type="button" hidden>show all '
        '</button><span id="told" role="status"></span></div>'
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{markup(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<style>{STYLE}</style></head>\n<body><h1>{markup(title)}</h1>\n{about}<nav>{links}</nav>\n{chooser}\n<main>"
        f"{content}</main><script>{SCRIPT}</script></body></html>\n"
    )


def table(caption: str, columns: Sequence[Column], rows: Sequence[tuple[Sequence[int], Sequence[Cell]]]) -> str:
    """Return a table whose heads sort it.

    Args:
        caption: as HTML.
        columns: its columns.
        rows: of each the classes that it belongs to, by which it is filtered, and its cells; the first one names it.
    """
    heads = "".join(
        f'<th scope="col" data-kind="{"text" if column.text else "number"}"{" class=text" if column.text else ""}'
        f"{' data-first=down' if column.largest_first and not column.text else ''}>"
        f'<button type="button" data-sort>{column.head}</button></th>'
        for column in columns
    )
    lines = "".join(
        f"<tr{_classes(classes)}>"
        + "".join(
            _cell(cell, column, place == 0) for place, (cell, column) in enumerate(zip(cells, columns, strict=True))
        )
        + "</tr>\n"
        for classes, cells in rows
    )
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="table"><table>'
        f"<caption><span>{caption}</span></caption><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def _cell(cell: Cell, column: Column, first: bool) -> str:
    value = "" if column.text else f' data-value="{"" if cell.number is None else f"{cell.number:.10g}"}"'
    kind = ' class="text"' if column.text else ""
    return f'<th scope="row"{kind}{value}>{cell.html}</th>' if first else f"<td{kind}{value}>{cell.html}</td>"


def _classes(classes: Sequence[int]) -> str:
    return f' data-classes="{" ".join(str(label) for label in dict.fromkeys(classes))}"' if classes else ""


def chosen(label: int, names: Names) -> str:
    """Return the name of a class as a button that chooses it."""
    return f'<button type="button" data-class="{label}">{markup(names.readable_name(label))}</button>'


class Card(NamedTuple):
    """A picture of a gallery.

    Attributes:
        image: its id.
        classes: those by which it is filtered.
        caption: as HTML.
        said: in words, for who does not see it.
        later: whether it is shown only when its class is chosen.
        place: in the order of the gallery.
    """

    image: str
    classes: tuple[int, ...]
    caption: str
    said: str
    later: bool
    place: int


def in_turns(order: Sequence[int], key: Callable[[int], int], first: int) -> list[tuple[int, bool]]:
    """Return which of many pictures a page shows: the first ones, then in turns one more of every class.

    Args:
        order: positions of the pictures, the most telling first.
        key: class of a picture.
        first: how many are shown before a class is chosen.

    Returns:
        Positions in the order in which they are worth room, and whether each is shown only with its class.
    """
    turn: dict[int, int] = {}
    ranked = []
    for place, position in enumerate(order):
        rank = turn[key(position)] = turn.get(key(position), -1) + 1
        ranked.append((0 if place < first else 1, 0 if place < first else rank, place, position))
    return [(position, bool(later)) for later, _, _, position in sorted(ranked)]


def gallery(name: str, cards: Iterable[Card], pictures: Pictures, room: Room, none: str) -> str:
    """Return pictures with captions, the first ones first, as many as there is room for.

    Args:
        name: of the element.
        cards: in the order in which they are worth room.
        pictures: where they come from.
        room: what is left; it gets less.
        none: what to say, as HTML, where none is shown.
    """
    made = []
    for card in cards:
        if room.pictures <= 0 or room.bytes <= 0:
            break
        html = f"{picture(card.image, card.said, pictures, room)}{card.caption}{place_of(card.image, pictures)}"
        later = " data-later" if card.later else ""
        made.append((card.place, f"<li{_classes(card.classes)}{later}{' hidden' if card.later else ''}>{html}</li>\n"))
        room.pictures -= 1
    hidden = " hidden" if made else ""
    items = "".join(html for _, html in sorted(made))
    return f'<ul class="gallery" id="{name}">{items}</ul><p class="quiet" id="{name}-empty"{hidden}>{none}</p>'


def picture(image: str, said: str, pictures: Pictures, room: Room) -> str:
    """Return a picture as HTML; empty where there is none."""
    pixels = pictures.pixels(image)
    if pixels is None:
        return ""
    small = thumbnail(pixels)
    room.bytes -= len(small.address)
    kind = ' class="small"' if small.address.startswith("data:image/png") else ""
    return f'<img{kind} src="{small.address}" width="{small.width}" height="{small.height}" alt="{markup(said)}">'


def place_of(image: str, pictures: Pictures) -> str:
    """Return the id of an image as HTML, a link that opens its file where it has one."""
    link, name = pictures.link(image), markup(image.rpartition("/")[2])
    if link is None:
        return f'<span class="quiet">{markup(image)}</span>'
    return f'<a href="{markup(link)}" title="{markup(image)}">{name}</a>'


def write(folder: Path, text: str, tables: dict[str, str]) -> None:
    """Write the tables and, last of all, the page into an empty folder."""
    for name, content in tables.items():
        write_text(folder / name, content)
    write_text(folder / INDEX, text)
