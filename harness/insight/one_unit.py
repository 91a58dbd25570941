"""One unit of a feature map: which one, what it can see, what it does see, and what excites it most."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from harness.config.data import DataConfig
from harness.errors import UserError
from harness.insight.effective_field import effective_field, holding
from harness.insight.feature_maps import strongest_unit
from harness.insight.progress import Progress
from harness.insight.receptive_field import Field, receptive_fields
from harness.insight.searched_set import SearchedSet, search
from harness.insight.stages import Stage
from harness.prediction.network import Loaded
from harness.prediction.own_data import own_data

FORM = re.compile(r"(\w+)(?::(\d+)(?::(\d+),(\d+))?)?", re.ASCII)
GIVE_A_SET = "name one with --data NAME, and where it lies with data.root=FOLDER"


@dataclass(frozen=True)
class Wanted:
    """The unit that the user names; what is None is chosen.

    Attributes:
        stage: its name.
        channel: which of the stage's maps.
        place: row and column in the map.
    """

    stage: str | None = None
    channel: int | None = None
    place: tuple[int, int] | None = None

    @classmethod
    def parsed(cls, text: str | None) -> Wanted:
        """Read `STAGE`, `STAGE:CHANNEL` or `STAGE:CHANNEL:ROW,COLUMN`; `UserError` for anything else."""
        if text is None:
            return cls()
        match = FORM.fullmatch(text)
        if match is None:
            raise UserError(f"unit={text}: write STAGE, STAGE:CHANNEL or STAGE:CHANNEL:ROW,COLUMN")
        stage, channel, row, column = match.groups()
        return cls(stage, int(channel) if channel else None, (int(row), int(column)) if row else None)

    def check(self, stages: Sequence[Stage]) -> Stage | None:
        """Return the stage that is named, None if none is.

        Raises:
            UserError: the network has no such stage, map or place.
        """
        if self.stage is None:
            return None
        names = [stage.name for stage in stages]
        if self.stage not in names:
            known = f"its stages are {', '.join(names)}" if names else "a fully connected network has none"
            raise UserError(f"unit={self.stage}: the network has no stage of that name with feature maps; {known}")
        stage = stages[names.index(self.stage)]
        if self.channel is not None and self.channel >= stage.channels:
            raise UserError(f"unit={self.stage}:{self.channel}: its channels are 0 to {stage.channels - 1}")
        if self.place is not None and (self.place[0] >= stage.height or self.place[1] >= stage.width):
            raise UserError(
                f"unit={self.stage}:{self.channel}:{self.place[0]},{self.place[1]}: its maps have "
                f"{stage.height} rows and {stage.width} columns, counted from 0"
            )
        return stage


@dataclass(frozen=True)
class Unit:
    """What was found out about one unit.

    Attributes:
        stage: that it is in.
        channel: its map.
        row: in the map.
        column: in the map.
        field: its theoretical receptive field.
        effective: how much it depends on each pixel, (H, W).
        central: the pixels that hold 95% of that, bool (H, W).
        searched: the most exciting images of a set; a line that says why there are none.
        fields: the receptive field at the place of each exciting image.
    """

    stage: Stage
    channel: int
    row: int
    column: int
    field: Field
    effective: torch.Tensor
    central: torch.Tensor
    searched: SearchedSet | str
    fields: list[Field]


def look_at_unit(
    loaded: Loaded,
    stage: Stage,
    wanted: Wanted,
    images: torch.Tensor,
    data: DataConfig | None,
    multiply_adds: int,
    progress: Progress,
) -> Unit:
    """Look at a unit; what the user does not name is where the stage is strongest on the first image.

    Args:
        loaded: the network, on its device.
        stage: that the unit is in.
        wanted: the unit, checked.
        images: float32 (N, C, H, W), normalised, on the same device.
        data: the set in which exciting images are looked for; None for that which the network was trained on here.
        multiply_adds: of the network for one image.
        progress: of the search.

    Raises:
        UserError: a set that the user named cannot be read.
    """
    network = loaded.network
    channel, row, column = strongest_unit(network, images[0], stage.name, wanted.channel)
    row, column = wanted.place or (row, column)
    effective = effective_field(network, images, stage.name, channel, row, column).cpu()
    searched = _searched(loaded, stage.name, channel, data, multiply_adds, progress)
    places = [] if isinstance(searched, str) else [(one.row, one.column) for one in searched.excited]
    field, *fields = receptive_fields(network, images[:1], stage.name, [(row, column), *places])
    return Unit(stage, channel, row, column, field, effective, holding(effective), searched, fields)


def _searched(
    loaded: Loaded, stage: str, channel: int, data: DataConfig | None, multiply_adds: int, progress: Progress
) -> SearchedSet | str:
    """The most exciting images; of a set that the user did not name, a line where it is not on this machine."""
    chosen = data or own_data(loaded)
    if chosen is None:
        return f"Nothing says which set to look in: {GIVE_A_SET}."
    try:
        return search(loaded, chosen, stage, channel, multiply_adds, progress)
    except UserError as error:
        if data is not None:
            raise
        return f"The set that the network was trained on could not be read ({error}): {GIVE_A_SET}."
