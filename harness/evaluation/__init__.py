"""Protocols, exact counts, intervals and records: what an error rate is here."""
