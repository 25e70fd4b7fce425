"""Everything from outside comes in here: one module per kind of file, with limits on what it holds.

Nothing in a file is executed. `tests/test_intake.py` finds any other reader.
"""
