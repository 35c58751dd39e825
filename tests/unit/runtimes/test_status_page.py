"""The page that a worker shares with fronts and the supervisor, on its disk."""

import sys
from pathlib import Path

import pytest

from gateway.process.usage_page import UsagePage
from runtimes import status_page


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux allocates all of a page in advance")
def test_pages_in_memory_that_is_shared_have_room_on_their_disk(tmp_path: Path) -> None:
    """If they had none, a full disk would end whoever touches them, the supervisor as well, by SIGBUS."""
    status_page.create(str(tmp_path / "status"))
    usage = UsagePage(tmp_path / "usage")
    for name, size in (("status", status_page.SIZE), ("usage", usage.cells.nbytes)):
        assert (tmp_path / name).stat().st_blocks * 512 >= size


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no disk that is always full")
def test_a_full_disk_is_an_error() -> None:
    with pytest.raises(OSError, match="No space left on device"):
        status_page.create("/dev/full")
