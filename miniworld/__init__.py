"""The mini world: rendered people in the real data sets' formats, with complete ground truth."""
