"""The study's machinery: run records, notebooks, figures, tables and statistics."""
