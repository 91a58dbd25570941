"""Train a network and report its error on the test split: `python train.py --help`."""

from harness.run.interruption import listen

if __name__ == "__main__":
    listen("train.py")  # before the imports below, which take their time

from harness.command.cli import main
from harness.config import TrainConfig
from harness.stories.train import train

if __name__ == "__main__":
    main("train", TrainConfig, train)
