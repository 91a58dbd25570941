"""What can move the number of a record, but for the seed: rows have it in common, labels show where they differ."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.config.renamed import renamed
from harness.config.weights import LOCAL_FILE

Values = Mapping[str, Any]

OLDER = "older record"  # marks a row: what else may differ from other rows is not known
COMPLETE = 3  # version of `result.json` from which on it holds all of this
RENAMED = 4  # version from which on recipes have their names of today
TABLES = ("learning_rates", "flips")  # of a recipe, in which other keys have looked their value up
CALLED = {"last.ckpt": None, "best_on_validation.ckpt": "best_on_validation"}


@dataclass(frozen=True)
class Settings:
    """What a record says of it.

    Attributes:
        shown: by the name of the setting. That of a part is called `part.key`, such as `recipe.learning_rate`, and is
            compared with rows alone that have the same `part`, such as `recipe`.
        implied: what follows from the rest as a rule.
        rounding: what moves the last bits alone, or nothing.
        older: whether the record is of a version that does not hold all of this.
    """

    shown: Values
    implied: Values
    rounding: Values
    older: bool

    @property
    def key(self) -> str:
        """SHA-256 of what rows have in common; runs that differ in rounding alone are averaged over their seeds."""
        return _sha256([self.older, self.shown, self.implied])

    @property
    def exact_key(self) -> str:
        """SHA-256 of all."""
        return _sha256([self.key, self.rounding])


def settings_of(content: Values) -> Settings:
    """The settings in the content of a `result.json`."""
    older = content["version"] < COMPLETE
    training, data = content["training"], content["data"]
    model, pretrained = content["model"], content.get("pretrained")  # which version 1 had not
    shown = {"model": model["name"], **_part("model", model["options"])}
    implied: dict[str, Any] = {"parameters": model["parameters"]}
    implied |= {key: content.get(key) for key in ("preprocessing", "hash_version")}
    rounding = {f"protocol.{key}": value for key, value in content["protocol"].items() if key not in ("name",)}
    rounding |= {"evaluated.device": content.get("device"), **_part("evaluated", content.get("versions", {}))}
    if training is None:
        shown |= {"torch": content.get("versions", {}).get("torch")}
    else:
        recipe = training["recipe"] if content["version"] >= RENAMED else renamed(training["recipe"])
        folds = "folds" in data
        shown |= {"recipe": recipe["name"], **_part("recipe", recipe, ("name", *TABLES))}
        shown["max_epochs"] = None if training["epochs"] == recipe.get("epochs") else training["epochs"]
        trained_on = content.get("training_data") or {"name": content["trained_on"]}
        own_fold = folds and trained_on.get("fold") == data["fold"]  # which tells folds of one row apart
        shown |= {"data": trained_on["name"], **_part("data", trained_on, ("name", *(["fold"] if own_fold else [])))}
        shown["epoch"] = _epoch(content["weights"], training)
        implied |= {} if folds else {key: training[key] for key in ("images", "fingerprint") if key in training}
        if recipe.get("patience") or recipe.get("trains") == "head":
            implied |= _part("validated", training.get("validated", {}))
        shown |= _joined(training, content, ("device", "devices", "torch", "tf32"))
        rounding |= _joined(training, content, ("threads", "gpu"))
    shown["weights"] = pretrained and _weights(pretrained)
    implied |= _part("weights", {key: pretrained[key] for key in ("sha256", "part", "adapted")} if pretrained else {})
    return Settings(shown, implied, rounding, older)


def _part(name: str, values: Values, left_out: Sequence[str] = ()) -> dict[str, Any]:
    return {f"{name}.{key}": value for key, value in values.items() if key not in left_out}


def _weights(pretrained: Values) -> str:
    local = f":{pretrained['sha256'][:8]}" if pretrained["source"] == LOCAL_FILE else ""
    return f"{pretrained['name']}{local}"


def _epoch(weights: Values, training: Values) -> str | None:
    """None for the last, `best_on_validation`, or how many epochs were done, and steps where these are known."""
    file, epoch = weights.get("file"), weights.get("epoch")
    if file is not None:
        return CALLED[file]
    if "step" in weights:
        return f"{epoch},step={weights['step']}"
    if training["recipe"].get("patience"):
        return CALLED["best_on_validation.ckpt"]
    return None if epoch in (None, training["epochs"]) else str(epoch)


def _joined(training: Values, content: Values, keys: Sequence[str]) -> dict[str, str]:
    """Of the places that a run was trained on, with commas between where it went on elsewhere; unless unknown."""
    places = training.get("places")
    if places is None:  # an older version trained it, and an older record says where it was evaluated
        known = content["version"] < COMPLETE
        places = [{"device": content.get("device"), "torch": content.get("versions", {}).get("torch")} if known else {}]
    found = {key: list(dict.fromkeys(place.get(key) for place in places)) for key in keys}
    return {
        key: ",".join("unknown" if value is None else str(value) for value in values)
        for key, values in found.items()
        if values != [None]
    }


def labels(rows: Sequence[Settings]) -> list[str]:
    """What each row is called: the model, and its values of the settings in which these rows differ.

    What is implied, or moves the last bits alone, is said where rows would be called alike.
    """
    said = [[str(row.shown["model"])] for row in rows]
    for row, words in zip(rows, said, strict=True):
        words += _differing(row, "shown", rows)
    for kind in ("implied", "rounding"):
        before = [(row.older, *words) for row, words in zip(rows, said, strict=True)]
        for row, words, known in zip(rows, said, before, strict=True):
            words += _differing(row, kind, [other for other, its in zip(rows, before, strict=True) if its == known])
    names = [" ".join(words) + (f" ({OLDER})" if row.older else "") for row, words in zip(rows, said, strict=True)]
    return [
        name if names.count(name) == 1 else f"{name} #{row.exact_key[:8]}"
        for name, row in zip(names, rows, strict=True)
    ]


def _differing(row: Settings, kind: str, rows: Sequence[Settings]) -> list[str]:
    """The settings of this kind in which a row differs from others that have them, as `key=value`."""
    words = []
    for name, value in getattr(row, kind).items():
        part, _, key = name.rpartition(".")
        peers = [getattr(other, kind) for other in rows if other.shown.get(part) == row.shown.get(part)]
        if name != "model" and value is not None and any(other.get(name, value) != value for other in peers):
            words.append(f"{key if part in row.shown else name}={_text(value)}")
    return words


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    return text[:12] if len(text) == 64 and set(text) <= set("0123456789abcdef") else text  # of a fingerprint


def _sha256(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
