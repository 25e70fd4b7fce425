"""Speed and memory of the library on the machine at hand: `python -m benchmarks.NAME`; see README.md."""
