"""Comparison of runs: from records to rows, paired tests, tables and charts. No torch."""
