"""Records to rows, paired tests, tables and pictures; nothing here needs torch."""
