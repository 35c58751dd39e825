"""The error of an export that is not possible."""


class CannotExport(Exception):
    """No export is possible. The message is one sentence: why, and what to do.

    detail  a tool's last lines, for the terminal
    """

    def __init__(self, sentence: str, detail: str = "") -> None:
        super().__init__(sentence)
        self.detail = detail
