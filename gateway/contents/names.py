"""Which names of objects, and of an archive's entries, may become files of this machine."""

from gateway.contents.errors import StoreError

# Functions that create, list and delete folders call themselves for each one in another.
_MAX_DEPTH = 100


def check_name(name: str) -> str:
    """Return a name that stays in the folder that it is put into. Raises StoreError for any other."""
    parts = name.split("/")
    if any(part in ("", ".", "..") or len(part.encode(errors="replace")) > 255 for part in parts):
        raise StoreError(
            f"the name {shown(name)} is refused: it is absolute, has an empty part, '.' or '..', or is too long"
        )
    if len(parts) > _MAX_DEPTH:
        raise StoreError(f"the name {shown(name)} is refused: it has more than {_MAX_DEPTH} folders in each other")
    if "\\" in name or not name.isprintable():
        raise StoreError(f"the name {shown(name)} is refused: it contains a backslash or a control character")
    return name


def is_name(name: str) -> bool:
    """Return whether `check_name` accepts a name."""
    try:
        return bool(check_name(name))
    except StoreError:
        return False


def is_hidden(name: str) -> bool:
    """Return whether a name is not part of a model, like .git/config. A name with '..' is not hidden, but refused."""
    return any(is_foreign(part) for part in name.split("/") if part not in (".", ".."))


# Files and folders that operating systems, NAS devices, archivers and Python create on their own.
_FOREIGN = {"lost+found", "@eaDir", "#recycle", "__MACOSX", "$RECYCLE.BIN", "System Volume Information"}
_FOREIGN |= {"Thumbs.db", "desktop.ini", "__pycache__"}


def is_foreign(name: str) -> bool:
    """Return whether a file or folder with this name is not part of the repository, such as ._model.onnx or .git."""
    return name.startswith(".") or name in _FOREIGN


def shown(name: str) -> str:
    return ascii(name if len(name) <= 100 else name[:100] + "…")
