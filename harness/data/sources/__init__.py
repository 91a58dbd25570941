"""Which images: one file for each source, and `table.py`, which names them all.

A source describes a data set before anything of it is read (`describe`: facts, without torch) and loads it (`load`,
`load_test`). `splits.py` has what all of them share; `torchvision_files.py`, `parquet_files.py` and `hub_cache.py`
have what some do.
"""
