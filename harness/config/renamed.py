"""What older versions of this program called otherwise: old files keep loading, and an old word is answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RECIPES = {"modern": "sgd_cosine"}  # in `result.json` below version 4, in checkpoints below version 2
WORDS = {f"recipe={old}": f"recipe={new}" for old, new in RECIPES.items()}


def renamed(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe of an older file, by its name of today."""
    return {**recipe, "name": RECIPES.get(recipe["name"], recipe["name"])}
