"""Names that older versions of this program used, with which their files still load.

An old name may have a new meaning: `modern` is another recipe by now.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RECIPES = {"modern": "sgd_cosine"}  # in `result.json` below version 4, in checkpoints below version 2


def renamed(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe from an older file with its present name."""
    return {**recipe, "name": RECIPES.get(recipe["name"], recipe["name"])}
