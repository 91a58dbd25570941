"""Every recipe trains: an epoch of a small network, on images of the kind that it is for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from in_process import call, only
from PIL import Image

from harness.config.compose import compose
from harness.run.resume import read_config

RECIPES = sorted(path.stem for path in (ROOT / "configs" / "recipe").glob("*.yaml"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of 20 pictures of 40 x 48 random pixels."""
    root, draw = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for name in ("cat", "dog"):
        (root / name).mkdir()
        for number in range(20):
            Image.fromarray(draw.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(root / name / f"{number}.png")
    return root


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_trains_an_epoch(recipe: str, pictures: Path, trained_run: Path, tmp_path: Path) -> None:
    weights = recipe in ("finetune", "linear_probe")
    known = compose("train", [f"recipe={recipe}", *(["weights=DEFAULT"] if weights else [])]).recipe
    if known.crop_padding is not None or known.trains == "head":
        words = ["data=digits", "model=lenet5", *([f"weights={trained_run}"] if weights else [])]
    else:
        words = ["data=folder", f"data.root={pictures}", "data.image_size=32", "data.resize=36", "model=resnet20"]
        words += [f"recipe.train_size={[24, 32][: len(known.train_size)]}".replace(" ", "")]
    words += [
        f"recipe={recipe}",
        "recipe.epochs=1",
        "recipe.batch_size=8",
        "trainer.max_batches=3",
        "trainer.workers=0",
    ]
    assert call("train.py", *words, "trainer=cpu", "trainer.threads=1", f"runs={tmp_path}") == 0
    run = only(only(tmp_path))
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    assert result["training"]["recipe"]["name"] == recipe and result["seen"] > 0
    assert read_config(run / "config.yaml").recipe.name == recipe
    assert len((run / "metrics.csv").read_text(encoding="utf-8").splitlines()) == 2
