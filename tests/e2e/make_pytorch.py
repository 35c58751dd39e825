"""Make PyTorch models with inputs and expected outputs: `PYTHON make_pytorch.py FOLDER`, in the runtime's environment.

The expected outputs are those of the module itself, before it is saved, or of PyTorch's own loader for that kind of
file. Names of outputs are those that modelport documents.
"""

import shutil
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

warnings.filterwarnings("ignore")


class Detector(nn.Module):
    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None):
        found: list[dict[str, Tensor]] = []
        for image in images:
            found.append({"boxes": image * 2, "scores": image.sum(dim=1)})
        return {"largest": images[0].max()}, found


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LSTM(3, 4, batch_first=True)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> dict[str, Tensor | tuple[Tensor, Tensor]]:
        out, last = self.layer(x, (state[0].transpose(0, 1), state[1].transpose(0, 1)))
        return {"out": out, "state": (last[0].transpose(0, 1), last[1].transpose(0, 1))}


class Masked(nn.Module):
    def forward(self, x: Tensor, mask: Tensor | None = None, scale: float = 2.0) -> tuple[Tensor, tuple[Tensor, int]]:
        if mask is not None:
            x = x * mask
        return x * scale, (x.sum(dim=1), x.size(0))


class Updates(nn.Module):
    """Of which one output has the name of the input."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"x": x + 1, "sums": x.sum(dim=1)}


class Shouts(nn.Module):
    def forward(self, texts: list[str]) -> tuple[list[str], list[int]]:
        return [text.upper() for text in texts], [len(text) for text in texts]


class Scores(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, x: Tensor, bias: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        y = self.layers(x) + bias
        return y, (y.softmax(dim=1), x[:, :2])


def main(top: Path) -> None:
    torch.manual_seed(0)

    def place(name: str, suffix: str, toml: str = "") -> str:
        version = top / "repository" / name / "1"
        version.mkdir(parents=True)
        if toml:
            (version.parent / "model.toml").write_text(toml)
        return str(version / f"model.{suffix}")

    def case(name: str, inputs: dict, outputs: dict) -> None:
        for kind, tensors in (("inputs", inputs), ("expected", outputs)):
            arrays = {key: np.asarray(value) for key, value in tensors.items()}
            np.savez(top / f"{name}.{kind}.npz", **arrays)

    detector, first, second = torch.jit.script(Detector()), torch.rand(2, 3), torch.rand(4, 3)
    detector.save(place("detector", "pt"))
    largest, found = detector([first, second])
    parts = {f"OUTPUT__1_{n}_{key}": value for n, each in enumerate(found) for key, value in each.items()}
    case("detector", {"images_0": first, "images_1": second}, {"OUTPUT__0_largest": largest["largest"], **parts})

    rows = torch.export.Dim("rows", min=1, max=64)
    x, state = torch.rand(2, 5, 3), (torch.rand(2, 1, 4), torch.rand(2, 1, 4))
    recurrent = Recurrent().eval()
    shapes = {"x": {0: rows}, "state": ({0: rows}, {0: rows})}
    torch.export.save(torch.export.export(recurrent, (x, state), dynamic_shapes=shapes), place("recurrent", "pt2"))
    with torch.no_grad():
        answer = recurrent(x, state)
    flat = {"out": answer["out"], "state_0": answer["state"][0], "state_1": answer["state"][1]}
    case("recurrent", {"x": x, "state_0": state[0], "state_1": state[1]}, flat)

    masked, x, mask = torch.jit.script(Masked()), torch.rand(2, 3), torch.tensor([[1.0, 0.0, 1.0]] * 2)
    masked.save(place("masked", "pt"))
    for name, given in (("masked", {"x": x, "mask": mask, "scale": 3.0}), ("unmasked", {"x": x})):
        scaled, (sums, count) = masked(**given)
        case(name, given, {"OUTPUT__0": scaled, "OUTPUT__1_0": sums, "OUTPUT__1_1": count})

    updates, x = torch.jit.script(Updates()), torch.rand(2, 3)
    updates.save(place("updates", "pt"))
    case("updates", {"x": x}, updates(x))

    shouts, texts = torch.jit.script(Shouts()), ["one", "grün"]
    shouts.save(place("shouts", "pt"))
    loud, lengths = shouts(texts)
    case("shouts", {"texts": [each.encode() for each in texts]}, {
        "OUTPUT__0": [each.encode() for each in loud], "OUTPUT__1": lengths,
    })  # fmt: skip

    lite, x = torch.jit.script(nn.Sequential(nn.Linear(4, 3), nn.ReLU()).eval()), torch.rand(2, 4)
    path = place("lite", "ptl")
    lite._save_for_lite_interpreter(path)
    from torch.jit.mobile import _load_for_lite_interpreter

    case("lite", {"input": x}, {"OUTPUT__0": _load_for_lite_interpreter(path)(x).detach()})

    if shutil.which("g++"):
        scores, x, bias = Scores().eval(), torch.rand(2, 4), torch.rand(2, 3)
        program = torch.export.export(scores, (x, bias), dynamic_shapes={"x": {0: rows}, "bias": {0: rows}})
        declared = "".join(f'[[inputs]]\nname = "{n}"\ndatatype = "FP32"\nshape = {s}\n' for n, s in (
            ("x", [-1, 4]), ("bias", [-1, 3]),
        )) + "".join(f'[[outputs]]\nname = "{n}"\ndatatype = "FP32"\nshape = {s}\n' for n, s in (
            ("logits", [-1, 3]), ("scores", [-1, 3]), ("head", [-1, 2]),
        ))  # fmt: skip
        path, again = place("compiled", "pt2"), place("declared", "pt2", declared)
        options = {"aot_inductor.compile_wrapper_opt_level": "O0"}  # compiles twice as fast
        torch._inductor.aoti_compile_and_package(program, package_path=path, inductor_configs=options)
        shutil.copy(path, again)
        with torch.no_grad():
            logits, (shares, head) = scores(x, bias)
        answers = {"OUTPUT__0": logits, "OUTPUT__1_0": shares, "OUTPUT__1_1": head}
        case("compiled", {"INPUT__0": x, "INPUT__1": bias}, answers)
        case("declared", {"x": x, "bias": bias}, {"logits": logits, "scores": shares, "head": head})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
