"""Training: the LightningModules, losses, schedules, counters and records of a training run."""
