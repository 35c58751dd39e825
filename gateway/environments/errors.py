"""Errors about environments and runtimes, in words for the person who runs the gateway."""


class EnvironmentUnavailable(Exception):
    """This machine cannot provide an environment. The message is one sentence: why, and what to do.

    It contains no path, because clients see it as the reason in a model's status. `detail` holds a tool's last lines,
    for the log and the terminal only.
    """

    def __init__(self, sentence: str, detail: str = "") -> None:
        super().__init__(sentence)
        self.detail = detail


class BrokenRuntime(Exception):
    """A runtime's folder is unusable. The message is one sentence that names the file and the key."""


class BrokenRequirements(Exception):
    """The packages that a model asks for cannot be installed. The message is one sentence, without paths."""


class CannotLock(Exception):
    """No lock can be made. The message is one sentence, for the terminal."""
