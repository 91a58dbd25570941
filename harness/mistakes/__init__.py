"""The pages on what a network gets wrong, and on what may be wrong with its data.

`harness.comparison` computes from records alone. Here the pictures of a record are found again and made small, and
pages of HTML are written: `errors_page.py` for one record, `pair_page.py` for two, `audit_page.py` for the data.
"""
