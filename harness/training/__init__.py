"""The LightningModule, losses, schedules, checkpoints and progress of a training run."""
