"""Speed and memory of the library here: `python -m benchmarks.NAME`; see README.md."""
