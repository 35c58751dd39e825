"""The error of everything that fetches, unpacks or keeps content."""


class StoreError(Exception):
    """The store failed. The message is one sentence without secrets, whose subject is what is missing or failed."""


class SourceUnreadable(StoreError):
    """A file could not be read now. That says nothing about its content."""
