"""Everything around a network: config, data, training, evaluation and the run folder."""
