"""Names that older versions of this program used: old files still load, and an old word gets its new name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RECIPES = {"modern": "sgd_cosine"}  # in `result.json` below version 4, in checkpoints below version 2
WORDS = {f"recipe={old}": f"recipe={new}" for old, new in RECIPES.items()}


def renamed(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe from an older file with its present name."""
    return {**recipe, "name": RECIPES.get(recipe["name"], recipe["name"])}
