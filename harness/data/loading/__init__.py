"""Many images: order, draws, batches, workers, waiting."""
