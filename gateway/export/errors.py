"""Why there is no export, in words for the person who wanted one."""


class CannotExport(Exception):
    """One sentence: what is in the way, and what to do. `detail`: a tool's last lines, for the terminal."""

    def __init__(self, sentence: str, detail: str = "") -> None:
        super().__init__(sentence)
        self.detail = detail
