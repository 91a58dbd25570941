"""Settings: a wrong value is refused in one line, whatever it is; a wrong key leads to the right one."""

from __future__ import annotations

import functools
import random
import string

import pytest
from in_process import call

from harness.command.help import group_page, help_page
from harness.config.commands import CHOICES, COMMANDS, GROUPS, TrainConfig, keys_of
from harness.config.compose import PATH_KEYS, compose
from harness.config.fields import Declaration, declarations
from harness.config.files import choices
from harness.errors import UserError
from harness.stories.check import check

CHOSEN = (  # what makes every key exist, tried in turns
    "",
    "model=mlp",
    "data=imagenet model=alexnet",
    "data=cifar10 model=resnet20",
    "recipe=finetune weights=DEFAULT",
    "data=folder",
    "data=hub data.repo=a/b",
    "data=hub_photos data.repo=a/b",
    "data=imagenet_v2",
    "data=shards",
)
MISREAD = (
    "",
    "abc",
    "[",
    "'",
    "=1",
    "{a:b}",
    "[a,[b]]",
    "1e400",
    "nan",
    "-inf",
    "???",
    "${seed}",
    "${oc.env:HOME}",
    "1;2",
)


def refused(*words: str) -> str | None:
    """The line that refuses these words; None if they are taken."""
    try:
        check(compose("train", words))
    except UserError as error:
        return str(error)
    return None


@functools.cache
def composed(chosen: str) -> TrainConfig:
    """The config of a choice, which no test changes."""
    return compose("train", chosen.split())


def with_its_choice(key: str) -> tuple[list[str], Declaration]:
    """What has to be chosen for a key to exist, and its declaration there."""
    group, _, leaf = key.rpartition(".")
    for chosen in CHOSEN:
        config = composed(chosen)
        known = declarations(type(getattr(config, group) if group else config))
        if leaf in known:
            return chosen.split(), known[leaf]
    raise AssertionError(f"no choice has {key}")


def wrong_values(declared: Declaration) -> list[str]:
    """Values that a setting may not have, from its own declaration."""
    setting, kind = declared.setting, declared.annotation
    numbers = [setting.least - 1, setting.above, setting.most + 1, setting.below, setting.most * 10]
    outside = [value for value in numbers if abs(value) != float("inf")]
    if "int" in kind:
        outside = [*map(int, outside), 2.5, 1e14 + 0.5]
    if "int" in kind or "float" in kind:
        outside += [float("inf"), float("-inf"), float("nan")]
    if kind.startswith("list"):
        return [f"[{value}]" for value in outside]
    return [str(value) for value in outside] if "dict" not in kind else []


def wrong_overrides(count: int) -> list[tuple[str, ...]]:
    """Overrides of which each is wrong: values out of bounds or of another type, unknown keys, bad grammar."""
    draw = random.Random(0)
    found: list[tuple[str, ...]] = []
    for key in keys_of("train"):
        chosen, declared = with_its_choice(key)
        kind = declared.annotation
        found += [(*chosen, f"{key}={value}") for value in wrong_values(declared)]
        if key not in PATH_KEYS and "str" not in kind and "dict" not in kind:
            found += [(*chosen, f"{key}={value}") for value in draw.sample(MISREAD, 4)]
        if declared.setting.choices:
            found.append((*chosen, f"{key}={''.join(draw.sample(string.ascii_lowercase, 6))}"))
        if "None" not in kind and key not in PATH_KEYS:
            found.append((*chosen, f"{key}=null"))
        found.append((f"{key}{draw.choice(string.ascii_lowercase)}q=1",))
    for group in CHOICES:
        found += [
            (f"{group}={value}",) for value in ("1", "true", "2.5", "../x", "a/b", "null", "[]", "", "x.yaml", "*")
        ]
    while len(found) < count:
        found.append(("".join(draw.choices(string.ascii_letters + string.digits + "=.,:@/[]{}$'\"\\ é~+", k=12)),))
    return found


@pytest.mark.parametrize("every", [8, pytest.param(1, marks=pytest.mark.slow)])
def test_five_hundred_wrong_overrides_are_refused_in_one_line_each(every: int) -> None:
    overrides = wrong_overrides(500)
    assert len(overrides) >= 500
    for words in overrides[::every]:
        line = refused(*words)
        assert line is not None, f"{words}: taken"
        assert line.strip() and "\n" not in line, f"{words}: {line}"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("data.std=[inf]", "data.std=[inf]: each must be a finite number"),
        ("data.mean=[nan]", "data.mean=[nan]: each must be a finite number"),
        ("data.mean=[123.7]", "data.mean=[123.7]: each must be at most 1 (mean of each channel, on the scale 0 to 1)"),
        ("recipe.gamma=inf", "recipe.gamma=inf: must be a finite number"),
        ("recipe.momentum=5", "recipe.momentum=5.0: must be at least 0 and below 1"),
        ("recipe.milestones=[nan]", "recipe.milestones=[nan]: each must be a finite number"),
        ("recipe.milestones=[3,2]", "recipe.milestones=[3.0,2.0]: must rise from the first to the last"),
        ("seed=99999999999999999999", "seed=99999999999999999999: must be at most 9223372036854775807"),
        ("protocol.batch_size=1e14", "could not be converted to Integer; write 100000000000000"),
        (
            "protocol=1",
            "protocol=1: no such choice; the nearest are: center_crop, dense, multi_crop, multi_scale_dense",
        ),
        ("recipe.crop_padding=100000", "recipe.crop_padding=100000: must be at most 256"),
        ("model=mlp model.hidden=[99999999999]", "model.hidden=[99999999999]: each must be at most 100000"),
        ("seed=1e3", "seed: Value '1000.0' of type 'float' could not be converted to Integer; write 1000"),
        ("recipe.epochs=${seed}", "write the value itself; only the files of configs/ may use ${...}"),
        ("recipe.freeze=[c1]", "recipe.freeze: the chosen recipe has no such key; only these have it: recipe=finetune"),
        ("recipe.learning_rates.lenet5=1", "only the files of configs/ can add entries to recipe.learning_rates"),
        ("data.mean=0.5", "data.mean: must be a list, such as [0.5]"),
        ("recipe.epochs=null", "recipe.epochs: may not be null"),
        ("recipe=modern", "recipe=modern does not work with data=digits: it is for images in files"),
        ("overrides=[seed=1]", "overrides: there is no such key"),
    ],
)
def test_the_line_says_what_to_do(words: str, line: str) -> None:
    said = refused(*words.split(" "))
    assert said is not None and line in said


@pytest.mark.parametrize(
    ("alias", "key"),
    [
        ("lr", "recipe.learning_rate"),
        ("recipe.lr", "recipe.learning_rate"),
        ("wd", "recipe.weight_decay"),
        ("bs", "recipe.batch_size"),
        ("num_epochs", "recipe.epochs"),
        ("optimizer", "recipe.optimizer"),
        ("opt", "recipe.optimizer"),
        ("clip_grad", "recipe.clip_norm"),
        ("amp", "recipe.precision"),
        ("gpus", "trainer.devices"),
        ("workers", "trainer.workers"),
        ("num_workers", "trainer.workers"),
        ("pretrained", "weights"),
        ("batch_size", "recipe.batch_size or protocol.batch_size"),
    ],
)
def test_what_other_programs_call_a_setting_leads_to_its_key(alias: str, key: str) -> None:
    assert refused(f"{alias}=1") == f"{alias}: no such key; it is called {key}"


def test_what_others_have_a_key_for_and_here_something_else_says() -> None:
    assert refused("num_classes=3") == (
        "num_classes: no such key; the data set says how many classes there are: data=NAME"
    )


def test_a_far_miss_names_no_strangers() -> None:
    assert refused("zxqv=1") == "zxqv: there is no such key; --help lists the keys"
    assert refused("recipe.zxqv=1") == "recipe.zxqv: there is no such key; --help recipe lists the keys"


def test_no_name_leads_to_two_keys_of_one_group() -> None:
    for command in COMMANDS:
        names: dict[tuple[str, str], str] = {}
        for key, declared in keys_of(command).items():
            group, _, leaf = key.rpartition(".")
            for name in (leaf, *declared.setting.aliases):
                assert names.setdefault((group, name), key) == key


@pytest.mark.parametrize("group", list(GROUPS))
def test_help_explains_every_key_of_a_group_with_type_value_and_bounds(group: str) -> None:
    page = " ".join(group_page("train", [group]).split())
    for key, declared in keys_of("train").items():
        setting = declared.setting
        if key.startswith(f"{group}."):
            assert f"{key}=" in page
            assert setting.meaning in page and setting.bounds in page
            assert all(choice in page for choice in setting.choices)


def test_help_shows_the_values_of_what_is_chosen() -> None:
    assert "recipe.epochs=30 " in group_page("train", ["recipe"])
    page = group_page("train", ["recipe", "recipe=he_2015_cifar"])
    assert "recipe.epochs=164 " in page and "whole number, from 1 to 1000000" in page
    assert "recipe.milestone_steps=[32000,48000] " in page and "list of whole numbers, from 1 to" in page
    assert "weights=null " in group_page("train", ["weights"])


def test_help_of_what_does_not_exist_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("train.py", "--help", "recip") == 2
    assert capsys.readouterr().err == (
        "train.py: --help recip: no such group or key; the nearest are: recipe, recipe.loss, recipe.flip\n"
    )


@pytest.mark.parametrize("command", list(COMMANDS))
def test_help_fits_a_screen(command: str) -> None:
    lines = help_page(command).splitlines()
    assert len(lines) <= 50 and max(map(len, lines)) <= 120


def test_a_group_offers_what_lies_in_its_folder() -> None:
    for group in GROUPS:
        few = f"the nearest are: {', '.join(choices(group))}"
        said = few if group not in ("model", "recipe", "data") else "--help lists the choices"  # which are many
        assert refused(f"{group}=zxqv") == f"{group}=zxqv: no such choice; {said}"
