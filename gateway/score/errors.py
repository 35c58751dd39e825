"""Why a run of modelport score ends, apart from rows that are bad."""


class CannotScore(Exception):
    """The message is one sentence for the user."""
