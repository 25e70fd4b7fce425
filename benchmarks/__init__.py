"""Timings, run as `python -m benchmarks.NAME`: each prints a table and writes it to benchmarks/results/NAME.md."""
