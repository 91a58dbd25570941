"""What `tools/benchmark.py` measures; `results/` holds committed records."""
