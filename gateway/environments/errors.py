"""Why there is no environment, in words for the person who runs the gateway."""


class Cannot(Exception):
    """This machine cannot have an environment as it is: one sentence that says why and what to do.

    It holds no path, since it becomes the reason that a model's status shows to clients. `detail` holds a tool's last
    lines, for the log and the terminal only.
    """

    def __init__(self, sentence: str, detail: str = "") -> None:
        super().__init__(sentence)
        self.detail = detail


class BrokenRuntime(Exception):
    """A runtime's folder that cannot be used: one sentence that names the file and the key."""
