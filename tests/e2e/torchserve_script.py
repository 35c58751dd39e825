"""TorchServe's own handler, outside of a server: its class runs beside the PyTorch of the runtime's environment.

    PYTHON torchserve_script.py PACKAGES make FOLDER                      net.pt, weights.pth
    PYTHON torchserve_script.py PACKAGES answer HANDLER FOLDER IMAGE…     prints its answers, as JSON

PACKAGES: a site-packages folder with torchserve and torchvision.
"""

import importlib
import json
import sys
import types
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from torchvision_without_operators import import_torchvision


class Net(torch.nn.Module):
    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first, self.last = torch.nn.Conv2d(3, 8, 7, stride=4), torch.nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.first(x)).mean((2, 3)) * 5)


def make(folder: Path) -> None:
    for seed, name in enumerate(("net", "other")):
        net = Net(seed).eval()
        torch.jit.script(net).save(str(folder / f"{name}.pt"))
    torch.save(net.state_dict(), folder / "weights.pth")


def answer(name: str, folder: Path, images: "list[str]") -> None:
    import_torchvision()
    captum = types.ModuleType("captum.attr")  # explains predictions, which nobody asks for here
    captum.IntegratedGradients = lambda model: None  # type: ignore[attr-defined]
    sys.modules.update({"captum": types.ModuleType("captum"), "captum.attr": captum})
    module = importlib.import_module("ts.torch_handler." + name)
    handler = getattr(module, name.title().replace("_", ""))()
    context = types.SimpleNamespace(
        manifest=json.loads((folder / "MAR-INF/MANIFEST.json").read_text()),
        system_properties={"model_dir": str(folder), "gpu_id": None},
        model_yaml_config={},
        metrics=types.SimpleNamespace(add_time=lambda *given, **named: None),
        get_request_header=lambda *given: None,
    )
    handler.initialize(context)
    print(json.dumps(handler.handle([{"body": Path(image).read_bytes()} for image in images], context)))


sys.path.append(sys.argv[1])
if sys.argv[2] == "make":
    make(Path(sys.argv[3]))
else:
    answer(sys.argv[3], Path(sys.argv[4]), sys.argv[5:])
