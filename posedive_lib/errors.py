"""Errors that a user of the study can mend."""


class StudyError(ValueError):
    """One clear sentence: what is wrong, where, and how to mend it."""
