"""A front's box: what it gives up before it serves, because it reads what strangers send.

It keeps the network, and may read files: those of models and exports, which may be anywhere, and those of libraries
that it imports later. Its system calls are not filtered, because that would cost each request a tenth of the front's
time (docs/security.md).
"""

from collections.abc import Iterator

from gateway.domain.shared_memory import FOLDER
from gateway.front.options import FrontOptions
from runtimes.sandbox import landlock
from runtimes.sandbox.box import DEVICES
from runtimes.sandbox.kernel import (
    CAP_DAC_OVERRIDE,
    CAP_DAC_READ_SEARCH,
    CAP_NET_BIND_SERVICE,
    IS_LINUX,
    drop_capabilities,
    forbid_new_privileges,
)

# For the port of gRPC, and for files and shared memory of other users.
_CAPABILITIES = (CAP_DAC_READ_SEARCH, CAP_DAC_OVERRIDE, CAP_NET_BIND_SERVICE)


def enter(options: FrontOptions) -> None:
    """Give up everything else, for good. Raises OSError.

    No thread may have been started, because the rules for files apply to this one and those that it starts.
    """
    if not (IS_LINUX and options.sandbox):
        return
    forbid_new_privileges()
    drop_capabilities(_CAPABILITIES)
    if landlock.version():
        rules = landlock.Ruleset(network=True)
        rules.allow(["/"], landlock.READ_ONLY)
        folders = [options.run_dir, str(FOLDER)] if options.shared_memory else [options.run_dir]
        rules.allow(folders, landlock.READ_ONLY | landlock.WRITE)
        rules.allow(DEVICES, landlock.DEVICE)
        rules.enforce()


def features() -> Iterator[tuple[str, str]]:
    """Yield what the box consists of, each with why this machine does not enforce it ("" if it does)."""
    yield "privileges", "" if IS_LINUX else "only Linux can forbid new privileges"
    yield "files", landlock.lacks(1)
    yield "truncation", landlock.lacks(3)
    yield "signals", landlock.lacks(6)
