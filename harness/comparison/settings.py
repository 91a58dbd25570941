"""Settings of a record: everything except the seed that can change its error. Runs of one row have equal settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import MISSING

from harness.config.fields import declarations
from harness.config.protocol import ProtocolConfig
from harness.config.recipe import FineTuneConfig, RecipeConfig
from harness.config.renamed import renamed
from harness.config.weights import LOCAL_FILE

Values = Mapping[str, Any]

OLDER = "older record"  # marks a row of an older version, which may differ from other rows in unknown settings
COMPLETE = 3  # first version of `result.json` that holds all settings
RENAMED = 4  # first version with the present names of recipes
BATCH = "validated.batch_size"  # like protocol.batch_size it changes at most the last bits
TABLES = ("learning_rates", "warmups", "flips")  # keys of a recipe from which other keys have taken their values
USUAL = {"accumulate": 1}  # what a machine's keys have in a record that leaves them out
CALLED = {"last.ckpt": None, "best_on_validation.ckpt": "best_on_validation"}


@dataclass(frozen=True)
class Settings:
    """The settings in a record.

    Attributes:
        shown: settings by name. A setting of a part is called `part.key`, such as `recipe.learning_rate`, and is
            compared only with rows that have the same `part`, such as `recipe`.
        implied: settings that usually follow from the others.
        rounding: settings that change at most the last bits.
        older: whether the version of the record is too old to hold all settings.
    """

    shown: Values
    implied: Values
    rounding: Values
    older: bool

    @property
    def key(self) -> str:
        """SHA-256 of the settings without `rounding`; runs with the same key are one row, averaged over seeds."""
        return _sha256([self.older, self.shown, self.implied])

    @property
    def exact_key(self) -> str:
        """SHA-256 of all settings."""
        return _sha256([self.key, self.rounding])


def settings_of(content: Values) -> Settings:
    """Return the settings in the content of a `result.json`."""
    older = content["version"] < COMPLETE
    training, data = content["training"], content["data"]
    model, pretrained = content["model"], content.get("pretrained")  # version 1 lacks it
    shown = {"model": model["name"], **_part("model", model["options"])}
    implied: dict[str, Any] = {"parameters": model["parameters"]}
    implied |= {key: content.get(key) for key in ("preprocessing", "hash_version")}
    rounding = _part("protocol", content["protocol"], ("name", "scales"))  # which the comparison's name says
    rounding |= {"evaluated.device": content.get("device"), **_part("evaluated", content.get("versions", {}))}
    if training is None:
        shown |= {"torch": content.get("versions", {}).get("torch")}
    else:
        recipe = training["recipe"] if content["version"] >= RENAMED else renamed(training["recipe"])
        recipe = {**_defaults(FineTuneConfig if "backbone_rate" in recipe else RecipeConfig), **recipe}
        folds = "folds" in data
        shown |= {"recipe": recipe["name"], **_part("recipe", recipe, ("name", *TABLES))}
        shown["max_epochs"] = None if training["epochs"] == recipe.get("epochs") else training["epochs"]
        trained_on = content.get("training_data") or {"name": content["trained_on"]}
        own_fold = folds and trained_on.get("fold") == data["fold"]  # would tell the folds of one row apart
        shown |= {"data": trained_on["name"], **_part("data", trained_on, ("name", *(["fold"] if own_fold else [])))}
        shown["epoch"] = reported_epoch(content["weights"], training)
        implied |= {} if folds else {key: training[key] for key in ("images", "fingerprint") if key in training}
        if recipe.get("patience") or recipe.get("trains") == "head" or recipe.get("schedule") == "plateau":
            own = training.get("validated")  # older records lack it, or newer settings in it
            validated = _part("validated", {**_defaults(ProtocolConfig), **own} if own else {})
            rounding |= {key: value for key, value in validated.items() if key == BATCH}
            implied |= {key: value for key, value in validated.items() if key != BATCH}
        shown |= _joined(training, content, ("device", "devices", "accumulate", "torch", "tf32"))
        rounding |= _joined(training, content, ("threads", "gpu"))
    shown["weights"] = pretrained and _weights(pretrained)
    implied |= _part("weights", {key: pretrained[key] for key in ("sha256", "part", "adapted")} if pretrained else {})
    return Settings(shown, implied, rounding, older)


def _defaults(schema: type[Any]) -> dict[str, Any]:
    """Return the values that a record means by settings which are newer than it: those of old, the defaults."""
    known = {name: declared.default for name, declared in declarations(schema).items()}
    return {name: default for name, default in known.items() if default != MISSING}


def _part(name: str, values: Values, left_out: Sequence[str] = ()) -> dict[str, Any]:
    return {f"{name}.{key}": value for key, value in values.items() if key not in left_out}


def _weights(pretrained: Values) -> str:
    local = f":{pretrained['sha256'][:8]}" if pretrained["source"] == LOCAL_FILE else ""
    return f"{pretrained['name']}{local}"


def reported_epoch(weights: Values, training: Values) -> str | None:
    """Return None for the last epoch, `best_on_validation`, or the number of epochs, with the step if it is known."""
    file, epoch = weights.get("file"), weights.get("epoch")
    if file is not None:
        return CALLED[file]
    if "step" in weights:
        return f"{epoch},step={weights['step']}"
    if training["recipe"].get("patience"):
        return CALLED["best_on_validation.ckpt"]
    return None if epoch in (None, training["epochs"]) else str(epoch)


def _joined(training: Values, content: Values, keys: Sequence[str]) -> dict[str, str]:
    """Return these keys of the machines that trained a run, joined by commas; leave out what is unknown."""
    places = training.get("places")
    if places is None:  # an older version trained it, and an older record says where it was evaluated
        known = content["version"] < COMPLETE
        places = [{"device": content.get("device"), "torch": content.get("versions", {}).get("torch")} if known else {}]
    found = {key: list(dict.fromkeys(place.get(key, USUAL.get(key)) for place in places)) for key in keys}
    return {
        key: ",".join("unknown" if value is None else str(value) for value in values)
        for key, values in found.items()
        if values != [None]
    }


def labels(rows: Sequence[Settings]) -> list[str]:
    """Return a label for each row: the model, and its values of the settings in which these rows differ.

    Implied settings and those that change only the last bits are added if rows would otherwise have equal labels.
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
    """Return as `key=value` the settings of this kind in which a row differs from others that have them."""
    words = []
    for name, value in getattr(row, kind).items():
        part, _, key = name.rpartition(".")
        peers = [getattr(other, kind) for other in rows if other.shown.get(part) == row.shown.get(part)]
        if name != "model" and value is not None and any(other.get(name, value) != value for other in peers):
            words.append(f"{key if part in row.shown else name}={_text(value)}")
    return words


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    return text[:12] if len(text) == 64 and set(text) <= set("0123456789abcdef") else text  # shortens fingerprints


def _sha256(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
