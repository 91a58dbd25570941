"""Write predictions as a table, CSV or JSON lines. Classes stand there by name, never by position."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import UserError
from harness.run.console import show_table
from harness.run.files import csv_text, write_text
from harness.run.printable import harmless, json_line, printable, say

if TYPE_CHECKING:
    from harness.prediction.predict import Prediction


@dataclass(frozen=True)
class Names:
    """The names of the classes.

    Attributes:
        classes: names in label order.
        readable: plainer words for some of these names, such as `tench` for `n01440764`.
    """

    classes: Sequence[str]
    readable: Mapping[str, str]

    def readable_name(self, position: int) -> str:
        """Return the name of a class for a person to read: `tench (n01440764)`."""
        name = self.classes[position]
        return printable(f"{self.readable[name]} ({name})" if name in self.readable else name)


def show(predictions: Iterable[Prediction], names: Names) -> None:
    """Print a table of the pictures that have an answer, with the likeliest classes of each below each other."""
    rows = [
        (
            prediction.image,
            [names.readable_name(position) for position in prediction.classes],
            [f"{100 * probability:.2f}" for probability in prediction.probabilities],
        )
        for prediction in predictions
        if prediction.problem is None
    ]
    show_table(None, ("image", "class", "%"), rows, right=("%",))


def as_csv(predictions: Sequence[Prediction], names: Names) -> str:
    """Write a line a picture: `image,class_1,probability_1,...,problem`; wnids have `name_1` behind `class_1`.

    What a spreadsheet would compute has an apostrophe before it; programs read JSON lines, which have none.
    """
    answers = max((len(prediction.classes) for prediction in predictions), default=0)
    kinds = ("class", "name", "probability") if names.readable else ("class", "probability")
    columns = ["image", *(f"{kind}_{k + 1}" for k in range(answers) for kind in kinds), "problem"]
    rows = []
    for prediction in predictions:
        fields = [
            f"{field:.6f}" if isinstance(field, float) else harmless(field)
            for answer in _answers(prediction, names)
            for field in answer.values()
        ]
        fields += [""] * (answers * len(kinds) - len(fields))
        rows.append([harmless(prediction.image), *fields, harmless(prediction.problem or "")])
    return csv_text(columns, rows)


def as_json_lines(predictions: Iterable[Prediction], names: Names) -> str:
    """Write a line a picture: `{"image": ..., "classes": [{"class": ..., "probability": ...}, ...]}`, or a problem."""
    lines = [
        {"image": prediction.image, "problem": prediction.problem}
        if prediction.problem
        else {"image": prediction.image, "classes": list(_answers(prediction, names))}
        for prediction in predictions
    ]
    return "".join(json_line(line) + "\n" for line in lines)


def _answers(prediction: Prediction, names: Names) -> Iterable[dict[str, str | float]]:
    """Yield class, readable name if any class has one, and probability to six digits; best first."""
    for position, probability in zip(prediction.classes, prediction.probabilities, strict=True):
        name = names.classes[position]
        readable = {"name": names.readable.get(name, "")} if names.readable else {}
        yield {"class": name, **readable, "probability": round(probability, 6)}


WRITERS = {".csv": as_csv, ".jsonl": as_json_lines}


def check_out(out: Path) -> None:
    """Raise `UserError` if predictions cannot be written to this file: it exists, or its ending names no format."""
    if out.suffix not in WRITERS:
        raise UserError(f"out={out}: ends in none of {', '.join(WRITERS)}, which say the format")
    if out.exists():
        raise UserError(f"out={out}: this file exists; name a new one")
    if not out.parent.is_dir():
        raise UserError(f"out={out}: there is no folder {out.parent}")


def report(predictions: Sequence[Prediction], names: Names, out: Path | None) -> None:
    """Print a table of the answers, or write them to `out`; then list the pictures without an answer, and why."""
    answered = [prediction for prediction in predictions if prediction.problem is None]
    if out is not None:
        write_text(out, WRITERS[out.suffix](predictions, names))
        say(f"{len(answered):,} of {len(predictions):,} pictures: {out}")
    elif answered:
        show(answered, names)
    for prediction in predictions:
        if prediction.problem is not None:
            say(f"{prediction.image}: not predicted: {prediction.problem}", sys.stderr)
