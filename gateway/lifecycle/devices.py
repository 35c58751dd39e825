"""Where a model's instances run: model.toml's `device`, the cards that there are, and what a worker sees of them.

Cards are counted as the gateway itself may use them: card N is the Nth of its own CUDA_VISIBLE_DEVICES
where that is set, else the Nth in the order of the PCI bus, which is nvidia-smi's.
"""

import ctypes
import os
from collections.abc import Mapping

from gateway.environments.errors import EnvironmentUnavailable


def placement(device: tuple[str, ...], wanted: str, built: str, cards: int) -> tuple[str, ...]:
    """One of "cpu" and "cuda:N" for each instance that one of `instances` stands for.

    wanted  the accelerator that the gateway was started for
    built   the one that the runtime's environment is for: the CPU where its framework has nothing for `wanted`
    cards   how many the machine has, as far as the gateway may use them

    Raises EnvironmentUnavailable.
    """
    if device == ("auto",):
        return ("cuda:0",) if built == "cuda" and cards else ("cpu",)
    places = tuple("cuda:0" if each == "cuda" else each for each in device)
    if places != ("cpu",) and wanted != "cuda":
        raise EnvironmentUnavailable(
            f"device = {told(device)}, but this gateway runs on the CPU; start it with --accelerator cuda"
        )
    if places != ("cpu",) and built != "cuda":
        raise EnvironmentUnavailable(
            f"device = {told(device)}, but its runtime's packages are the CPU's; leave device out"
        )
    return places


def variables(place: str, environment: Mapping[str, str]) -> dict[str, str]:
    """What a worker's environment gets, so that it sees its own card and no other. Raises EnvironmentUnavailable.

    Settled here and not inside the framework, where it is too late as often as not.
    """
    kind, _, card = place.partition(":")
    if kind == "cpu":
        return {"CUDA_VISIBLE_DEVICES": ""}
    order = {"CUDA_DEVICE_ORDER": environment.get("CUDA_DEVICE_ORDER", "PCI_BUS_ID")}
    visible = _visible(environment)
    if visible is None:
        return {"CUDA_VISIBLE_DEVICES": card, **order}
    if int(card) >= len(visible):
        raise EnvironmentUnavailable(
            f"there is no card {card}: CUDA_VISIBLE_DEVICES leaves {len(visible)} to this gateway"
        )
    return {"CUDA_VISIBLE_DEVICES": visible[int(card)], **order}


def available_cards(environment: Mapping[str, str] = os.environ) -> int:
    """How many cards the gateway may use; 0 without a driver.

    Asked of NVIDIA's management library, since CUDA itself would leave the supervisor with a thread and memory
    on a card.
    """
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
        count = ctypes.c_uint()
        if library.nvmlInit_v2() or library.nvmlDeviceGetCount_v2(ctypes.byref(count)):
            return 0
        library.nvmlShutdown()
    except (OSError, AttributeError):
        return 0
    visible = _visible(environment)
    return count.value if visible is None else min(count.value, len(visible))


def told(device: tuple[str, ...]) -> str:
    """As it stands in model.toml, with single quotes."""
    return f"'{device[0]}'" if len(device) == 1 else str(list(device))


def _visible(environment: Mapping[str, str]) -> list[str] | None:
    """The entries of CUDA_VISIBLE_DEVICES up to the first that is none, as CUDA reads it; None where it is not set."""
    if "CUDA_VISIBLE_DEVICES" not in environment:
        return None
    entries = [entry.strip() for entry in environment["CUDA_VISIBLE_DEVICES"].split(",")]
    end = next((index for index, entry in enumerate(entries) if entry in ("", "-1")), len(entries))
    return entries[:end]
