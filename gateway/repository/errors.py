"""Why a repository cannot be scanned, or a version's folder has no artifact."""


class UnknownFormat(Exception):
    """No runtime reads the files. The message is one sentence that says what was found and what is supported."""


class RepositoryError(Exception):
    """The repository itself cannot be read. The message is one sentence."""
