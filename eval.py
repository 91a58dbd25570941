"""Evaluate a trained network on a test split: `python eval.py --help`."""

from harness.run.interruption import listen

if __name__ == "__main__":
    listen("eval.py")  # before the imports below, which take their time

from harness.command.cli import main
from harness.config import EvalConfig
from harness.stories.evaluate import evaluate_network

if __name__ == "__main__":
    main("eval", EvalConfig, evaluate_network)
