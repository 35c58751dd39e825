"""Make small PyTorch models, each with a case: `PYTHON torchscript.py FOLDER`, in the runtime's environment."""

import io
import json
import os
import pickle
import sys
import warnings
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch._export.serde import serialize

warnings.filterwarnings("ignore")


class Pair(NamedTuple):
    total: Tensor
    largest: Tensor


class ReturnsTuple(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x + 1, x.sum(dim=1)


class Subtracts(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return a + b, a - b


class ReturnsList(nn.Module):
    def forward(self, x: Tensor) -> list[Tensor]:
        return [x, x * 2, x * 3]


class ReturnsDict(nn.Module):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"double": x * 2, "half": x / 2}


class ReturnsNamedTuple(nn.Module):
    def forward(self, x: Tensor) -> Pair:
        return Pair(x.sum(dim=1), x.amax(dim=1))


class ReturnsNested(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        return x, [x]


class ReturnsStates(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        return x + 1, (x * 2, x * 3)


class ReturnsListFirst(nn.Module):
    """Its list has as many elements as the input has columns."""

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        return list(x.unbind(1)), x * 2


class Detects(nn.Module):
    """Takes and returns what torchvision's detection models do."""

    def forward(
        self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None
    ) -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
        found: list[dict[str, Tensor]] = []
        for image in images:
            found.append({"boxes": image * 2, "scores": image.sum(dim=0)})
        return {"losses": images[0].sum()}, found


class TakesParts(nn.Module):
    """Takes a tuple and a dict, one of whose keys is called as an output of another part."""

    def forward(self, state: tuple[Tensor, Tensor], features: dict[str, Tensor]) -> dict[str, list[Tensor]]:
        return {"a": [state[0] + features["age"], state[1] - features["age"]], "a_0": [features["age"]]}


class TakesFeatures(nn.Module):
    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return batch["age"] - batch["height"]


class TakesTexts(nn.Module):
    def forward(self, texts: list[str], sizes: list[int]) -> tuple[list[str], list[int], list[float]]:
        nothing: list[float] = []
        return [text + "!" for text in texts], [size + len(texts) for size in sizes], nothing


class TakesMask(nn.Module):
    def forward(self, x: Tensor, mask: Tensor | None, scale: float = 2.0, state: tuple[Tensor, Tensor] | None = None):
        if mask is not None:
            x = x * mask
        if state is not None:
            x = x + state[0] - state[1]
        return x * scale


class MixesWithoutMask(nn.Module):
    def forward(self, x: Tensor, mask: Tensor | None = None):
        if mask is None:
            return x - x.mean(dim=0)
        return x * mask


class QuantizedBeside(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x * 2, torch.quantize_per_tensor(x, 0.5, 0, torch.qint8)


class ReturnsText(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, str]:
        return x, "text"


class ReturnsConstants(nn.Module):
    def forward(self, x: Tensor) -> dict[str, tuple[Tensor, int | None]]:
        return {"a": (x, 5), "b": (x * 2, None)}


class ReturnsScalars(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, int, float, bool, str]:
        return x, x.dim(), 0.5, True, "grün"


class TakesScalars(nn.Module):
    def forward(self, x: Tensor, times: int, plus: float, negate: bool, mode: str, extra: Tensor | None = None):
        y = x * times + plus
        if mode == "square":
            y = y * y
        if extra is not None:
            y = y + extra
        return -y if negate else y


class Inception(NamedTuple):
    logits: Tensor
    auxiliary: Tensor | None


class NoneBeside(nn.Module):
    """One of its outputs is None, as in torchvision's inception_v3 in eval mode."""

    def forward(self, x: Tensor) -> Inception:
        auxiliary: Tensor | None = None
        if self.training:
            auxiliary = x
        return Inception(x + 1, auxiliary)


class ComplexBeside(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        spectrum = torch.fft.rfft(x)
        return spectrum.abs(), spectrum


class SparseBeside(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x * 2, x.to_sparse()


class Moves(nn.Module):
    """Moves its input to a device that does not exist."""

    def __init__(self, device: str):
        super().__init__()
        self.device = device

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.to(torch.device(self.device)).to("cpu")


class LacksKernel(nn.Module):
    """Lacks a kernel for a datatype that the model itself converts to."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cumprod(x.to(torch.complex32), 0).real


class Resizes(nn.Module):
    """Its export contains guards with a maximum, a remainder and a division."""

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        rows = x.shape[0]
        return torch.arange(rows * 2)[: max(rows, y.shape[0])], torch.nn.functional.pad(x, (0, rows % 3, 0, rows // 2))


class Spells(nn.Module):
    def forward(self, x: torch.Tensor, text: str) -> torch.Tensor:
        return x * {"one": 1}[text]


class Divides(nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.div(x, y, rounding_mode="floor")


class FromText(nn.Module):
    def forward(self, x: torch.Tensor, text: str) -> torch.Tensor:
        return x * float(text)


class LooksUp(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.table(x)


class ComplexAlone(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.rfft(x)


class Forces(nn.Module):
    """Computes a gradient during inference: the forces of x² are -2x."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        place = x.detach().clone()
        place.requires_grad_(True)
        energy = (place * place).sum(dim=1)
        gradient = torch.autograd.grad([energy.sum()], [place])[0]
        assert gradient is not None
        return {"energy": energy, "forces": -gradient}


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.layer(x, x, x, need_weights=False)


class Empty(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[x[:, 0] > 1000]


class WantsCard(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.zeros(4, device=torch.device("cuda:0"))


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class WritesToInput(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        x.add_(1)
        return x


class Counts(nn.Module):
    """Also returns the number of earlier calls."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.count.add_(1)
        return x + self.count


class KeepsInput(nn.Module):
    """Stateful: returns the previous call's input. If the same input comes three times, the state does not show."""

    def __init__(self):
        super().__init__()
        self.last = torch.zeros(1)

    def forward(self, x: Tensor) -> Tensor:
        last = self.last
        self.last = x[:1]
        return last if last.shape == x[:1].shape else x[:1]


class Complains(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if int(x.min()) < 0:
            raise ValueError("no negative numbers, please")
        assert int(x.max()) < 100
        return x


class Bfloat16(nn.Module):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"small": x.bfloat16(), "same": x * 1, "other": x.to(torch.float8_e4m3fnuz)}


class SmallTypes(nn.Module):
    """Takes and returns the types that numpy lacks; e.T is not contiguous."""

    def forward(self, b: Tensor, e: Tensor, f: Tensor) -> dict[str, Tensor]:
        return {"b2": b + b, "e2": (e.float() * 2).to(torch.float8_e4m3fn).T.T, "f2": (f.float() * 2).to(f.dtype)}


LINEAR = {"inputs": [["x", "FP32", [-1, 4]]], "outputs": [["OUTPUT__0", "FP32", [-1, 3]]]}
SIGNATURE = {
    "inputs": [{"name": "rows", "datatype": "FP32", "shape": [-1, 4]}],
    "outputs": [{"name": "scores", "datatype": "FP32", "shape": [-1, 3]}],
}
X = {"x": [[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]}
FP32_X = {"options": {"inputs": [["x", "FP32", [-1, 4]]]}}


class Pictures(nn.Module):
    """The weights, activations and input are floating-point; one of the outputs is not."""

    def __init__(self) -> None:
        super().__init__()
        self.convolve, self.score = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.score(torch.relu(self.convolve(x)).mean(dim=[2, 3]))
        return scores, scores.argmax(dim=1)


class Tables(nn.Module):
    """Its input contains indices of rows in a table."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(40000, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.words(x.long())


LIBRARY = torch.library.Library("contract", "DEF")
LIBRARY.define("twice(Tensor x) -> Tensor")
LIBRARY.impl("twice", lambda x: x * 2, "CompositeExplicitAutograd")


class Custom(nn.Module):
    """Uses an operator that is registered only in the process that writes the file."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.contract.twice(x)


VISION = torch.library.Library("torchvision", "DEF")
VISION.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


class Suppresses(nn.Module):
    """Uses an operator of torchvision."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.torchvision.nms(x, x[:, 0], 0.5)


class Ends:
    """A pickle of this ends the process that reads it."""

    def __reduce__(self):
        return os._exit, (3,)


RUNS = "__import__('os')._exit(3)"
# What an exported program could contain to make PyTorch run code: entry → its new content, from the old one.
TAMPERED = {
    "pickled_inputs": ("data/sample_inputs/model.pt", lambda old: saved(Ends())),
    "pickled_object": ("data/constants/opaque_obj_0", lambda old: pickle.dumps(Ends())),
    "compiled_beside": ("data/aotinductor_x/model/a.wrapper.so", lambda old: b"machine code"),
    "size_runs_code": ("models/model.json", lambda old: replaced(old, "expr_str", RUNS)),
    "guard_runs_code": ("models/model.json", lambda old: replaced(old, "guards_code", [RUNS])),
    "guard_ends_text": ("models/model.json", lambda old: replaced(old, "guards_code", ["L['\\'\", exit()) #'] == 1"])),
    "name_runs_code": ("models/model.json", lambda old: replaced(old, "name", "x=" + RUNS)),
    "arguments_run_code": ("models/model.json", lambda old: replaced(old, "forward_arg_names", ["x=" + RUNS])),
}


def saved(value):
    torch.save(value, buffer := io.BytesIO())
    return buffer.getvalue()


def replaced(program, key, value):
    """Replace each value under this key in a program's JSON."""

    def changed(part):
        if isinstance(part, dict):
            return {name: value if name == key else changed(each) for name, each in part.items()}
        return [changed(each) for each in part] if isinstance(part, list) else part

    return json.dumps(changed(json.loads(program))).encode()


def tamper(path, entry, change):
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    top = next(iter(content)).split("/")[0]
    old = content.get(f"{top}/{entry}", b"")
    content[f"{top}/{entry}"] = change(old)
    assert content[f"{top}/{entry}"] != old, entry
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)


def write_compiled(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data/aotinductor/model/a.wrapper.so", b"machine code")
        archive.writestr("model/archive_format", b"pt2")


def expected_outputs(*outputs):
    return {"expected_signature": {"outputs": [list(output) for output in outputs]}}


def main(root):
    torch.manual_seed(0)
    expected_pictures = expected_outputs(["OUTPUT__0", "FP32", [-1, 4]], ["OUTPUT__1", "INT64", [-1]])

    def write(name, save, case, suffix="pt"):
        folder = Path(root, name)
        folder.mkdir(parents=True)
        save(str(folder / ("model." + suffix)))
        (folder / "case.json").write_text(json.dumps({"artifact": "model." + suffix, **case}))

    def script(name, module, case, extra=None):
        write(name, lambda path: torch.jit.save(torch.jit.script(module.eval()), path, _extra_files=extra or {}), case)

    def export(name, module, case, rows="n"):
        dynamic = {"x": {0: torch.export.Dim(rows, min=1, max=64)}}
        program = torch.export.export(module.eval(), (torch.zeros(2, 4),), dynamic_shapes=dynamic)
        write(name, lambda path: torch.export.save(program, path), case, "pt2")

    def legacy(name, module, case, version=""):
        """Write PyTorch 2.7's layout, with entries at the archive's top level. Newer versions still read it."""
        dynamic = {"x": {0: torch.export.Dim("n", min=1, max=64)}}
        program = torch.export.export(module.eval(), (torch.zeros(2, 4),), dynamic_shapes=dynamic)
        parts = serialize.serialize(program)
        own = ".".join(map(str, serialize.SCHEMA_VERSION))

        def save(path):
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("serialized_exported_program.json", parts.exported_program)
                archive.writestr("serialized_state_dict.pt", parts.state_dict)
                archive.writestr("serialized_constants.pt", parts.constants)
                archive.writestr("serialized_example_inputs.pt", parts.example_inputs)
                archive.writestr("version", version or own)

        write(name, save, case, "pt2")

    def legacy_archive(name, module, case, major=""):
        """Write PyTorch 2.8's layout: an archive of the present kind, with the weights in one file."""
        dynamic = {"x": {0: torch.export.Dim("n", min=1, max=64)}}
        parts = serialize.serialize(torch.export.export(module.eval(), (torch.zeros(2, 4),), dynamic_shapes=dynamic))
        program = json.loads(parts.exported_program)
        if major:
            program["schema_version"]["major"] = major

        def save(path):
            writer = torch._C.PyTorchFileWriter(path)
            entries = {
                "archive_format": b"pt2",
                "archive_version": b"0",
                "models/model.json": json.dumps(program).encode(),
                "data/weights/model.pt": parts.state_dict,
                "data/constants/model.pt": parts.constants,
                "data/sample_inputs/model.pt": parts.example_inputs,
            }
            for entry, data in entries.items():
                writer.write_record(entry, data, len(data))
            writer.write_end_of_file()

        write(name, save, case, "pt2")

    two = expected_outputs(["OUTPUT__0", "", None], ["OUTPUT__1", "", None])
    script("tuple", ReturnsTuple(), {**FP32_X, "values": X, **two})
    script("list", ReturnsList(), {**FP32_X, "values": X, **expected_outputs()})
    script("dict", ReturnsDict(), {**FP32_X, "values": X, **expected_outputs()})
    script("named_tuple", ReturnsNamedTuple(), {**FP32_X, "values": X, **expected_outputs()})
    twins = {"OUTPUT__0": X["x"], "OUTPUT__1_0": X["x"]}
    script("nested", ReturnsNested(), {**FP32_X, "values": X, "expected_values": twins, **expected_outputs()})
    x = torch.tensor(X["x"])
    states = {"OUTPUT__0": (x + 1).tolist(), "OUTPUT__1_0": (x * 2).tolist(), "OUTPUT__1_1": (x * 3).tolist()}
    shown = expected_outputs(*([name, "", None] for name in states))
    script("nested_states", ReturnsStates(), {**FP32_X, "values": X, "expected_values": states, **shown})
    for name, declared in (("stems", ["y__0", "state__1_0", "state__1_1"]), ("in_order", ["y", "h", "c"])):
        renamed = dict(zip(declared, states.values(), strict=True))
        options = {**FP32_X["options"], "outputs": [[each, "", None] for each in declared]}
        script("nested_" + name, ReturnsStates(), {"options": options, "values": X, "expected_values": renamed})
    declared = [["only", "", None], ["double", "", None]]
    options = {"outputs": declared}
    column = {**options, "inputs": [["x", "FP32", [-1, 1]]]}
    first = {"options": column, "values": {"x": [[1.0]]}, "expected_values": {"only": [1.0], "double": [[2.0]]}}
    script("list_first", ReturnsListFirst(), first)
    script("list_moves", ReturnsListFirst(), {"options": options, "values": X, "fails": "Unsupported"})
    picture, other = [[1.0, 2.0]], [[3.0, 4.0], [5.0, 6.0]]
    found = {
        "OUTPUT__0_losses": 3.0,
        "OUTPUT__1_0_boxes": [[2.0, 4.0]],
        "OUTPUT__1_1_boxes": [[6.0, 8.0], [10.0, 12.0]],
        "OUTPUT__1_1_scores": [8.0, 10.0],
    }
    detection = {"values": {"images_0": picture, "images_1": other}, "expected_values": found, "placeholders": 2}
    listed = {"inputs": [[f"images_{index}", "", None] for index in range(8)]}
    script("takes_list", Detects(), {**detection, "expected_signature": listed, "bad": [{"images_3": picture}]})
    two_images = {"inputs": [["images_0", "FP32", [-1, 2]], ["images_1", "FP32", [-1, 2]]]}
    script("takes_list_of_two", Detects(), {**detection, "options": two_images, "expected_signature": two_images})
    script(
        "takes_list_with_gap", Detects(), {"options": {"inputs": [["images_1", "", None]]}, "load_error": "images_0"}
    )
    parts = {
        "values": {"state_0": [1.0], "state_1": [2.0], "features_age": [10.0]},
        "expected_values": {"a_0": [11.0], "a_1": [-8.0], "a_0_0": [10.0]},
        "placeholders": 2,
    }
    declared = [[name, "FP32", [-1]] for name in ("state_0", "state_1", "features_age")]
    script("takes_parts", TakesParts(), {**parts, "options": {"inputs": declared}})
    for prefix, name in (("", "takes_keys"), ("batch_", "takes_named_keys")):
        values = {prefix + "age": [10.0], prefix + "height": [1.0]}
        options = {"inputs": [[each, "FP32", [-1]] for each in values]}
        case = {"values": values, "options": options, "expected_values": {"OUTPUT__0": [9.0]}, "placeholders": 1}
        script(name, TakesFeatures(), case)
    texts = {
        "values": {"texts": ["a", "grün"], "sizes": [1, 2, 3]},
        "expected_values": {"OUTPUT__0": ["a!", "grün!"], "OUTPUT__1": [3, 4, 5], "OUTPUT__2": []},
        "expected_datatypes": {"OUTPUT__0": "BYTES", "OUTPUT__1": "INT64", "OUTPUT__2": "FP64"},
        "not_batchable": True,
        "analysis": {"mixes": "input 'texts' is a list"},
        "expected_signature": {
            "inputs": [["texts", "BYTES", [-1]], ["sizes", "INT64", [-1]]],
            "outputs": [["OUTPUT__0", "BYTES", [-1]], ["OUTPUT__1", "INT64", [-1]], ["OUTPUT__2", "FP64", [-1]]],
        },
    }
    script("takes_texts", TakesTexts(), texts)
    optional = [
        ["x", "", None],
        ["mask", "", None],
        ["scale", "FP64", []],
        ["state_0", "", None],
        ["state_1", "", None],
    ]
    script(
        "takes_mask",
        TakesMask(),
        {"values": {"x": [1.0, 2.0]}, "expected_values": {"OUTPUT__0": [2.0, 4.0]}}
        | {"expected_signature": {"inputs": optional}, "bad": [{"state_1": [1.0]}], "placeholders": 4},
    )
    given = {"x": [1.0, 2.0], "mask": [1.0, 0.0], "scale": 3.0, "state_0": [5.0, 5.0], "state_1": [1.0, 1.0]}
    script(
        "takes_all", TakesMask(), {"values": given, "expected_values": {"OUTPUT__0": [15.0, 12.0]}, "placeholders": 4}
    )
    rows = {"max_rows": 8, "inputs": [["x", "FP32", [-1, 2]], ["mask", "FP32", [-1, 2]]]}
    masked = {"values": {"x": [[1.0, 2.0]], "mask": [[1.0, 0.0]]}, "options": rows}
    script("takes_mask_in_batches", TakesMask(), {**masked, "analysis": "independent"})
    script("mixes_without_mask", MixesWithoutMask(), {**masked, "analysis": {"mixes": "reduces over the rows"}})
    script("quantized_beside", QuantizedBeside(), {**FP32_X, "values": X, "refused_later": ["OUTPUT__1"]})
    script("none_beside", NoneBeside(), {**FP32_X, "values": X, "left_out": ["auxiliary"]})
    script("complex_beside", ComplexBeside(), {**FP32_X, "values": X, "refused_later": ["OUTPUT__1"]})
    script("sparse_beside", SparseBeside(), {**FP32_X, "values": X, "refused_later": ["OUTPUT__1"]})
    twice = {"expected_values": {"energy": [2.0], "forces": [[-2.0, 2.0]]}}
    script("gradients", Forces(), {"values": {"x": [[1.0, -1.0]]}, **twice})
    off = {"options": {"parameters": {"inference_mode": False}}}
    script("inference_mode_off", Forces(), {"values": {"x": [[1.0, -1.0]]}, **twice, **off})
    attention, x = Attention().eval(), torch.randn(2, 3, 4)
    attended = {"expected_values": {"OUTPUT__0": attention(x)[0].tolist()}}
    script("attention_without_weights", attention, {"values": {"x": x.tolist()}, "left_out": ["OUTPUT__1"], **attended})
    script("no_rows", Empty(), {**FP32_X, "values": X, "expected": "none.npz"})
    np.savez(Path(root, "no_rows", "none.npz"), OUTPUT__0=np.zeros((0, 4), np.float32))
    script("complex_alone", ComplexAlone(), {**FP32_X, "values": X, "fails": "Unsupported"})
    script("wants_a_card", WantsCard(), {**FP32_X, "values": X, "fails": "RuntimeError"})
    faults = Path(root, "faults")
    faults.mkdir()
    for name in ("cuda", "mps", "meta"):
        torch.jit.save(torch.jit.script(Moves(name).eval()), str(faults / (name + ".pt")))
    for module in (LacksKernel(), Divides(), FromText(), Spells(), LooksUp()):
        torch.jit.save(torch.jit.script(module.eval()), str(faults / (type(module).__name__ + ".pt")))
    one = {"x": [[1.0, 2.0]]}
    case = [
        ["cuda.pt", one, "model", "Cannot initialize CUDA"],
        ["mps.pt", one, "model", "not linked with support for mps"],
        ["meta.pt", one, "model", "no data"],
        ["LacksKernel.pt", one, "model", "not implemented for 'ComplexHalf'"],
        ["Divides.pt", {"x": [1], "y": [0]}, "client", "an integer is divided by zero"],
        ["FromText.pt", {"x": [1], "text": "abc"}, "client", "a string cannot be read as a number"],
        ["FromText.pt", {"x": [1], "text": "caf\udce9"}, "client", "that is not UTF-8"],
        ["Spells.pt", {"x": [1], "text": "two"}, "client", "the model has no entry for two"],
        ["LooksUp.pt", {"x": [9]}, "client", "index out of range"],
    ]
    (faults / "case.json").write_text(json.dumps({"artifact": "cuda.pt", "faults": case}))
    script("without_forward", nn.LSTM(4, 3), {"load_error": "has no forward"})
    script("returns_scalars", ReturnsScalars(), {**FP32_X, "values": X})
    scalars = {"x": [1.0, 2.0], "times": 3, "plus": 0.5, "negate": True, "mode": "square"}
    types = [
        ["x", "", None],
        ["times", "INT64", []],
        ["plus", "FP64", []],
        ["negate", "BOOL", []],
        ["mode", "BYTES", []],
    ]
    script(
        "takes_scalars",
        TakesScalars(),
        {"values": scalars, "expected_signature": {"inputs": [*types, ["extra", "", None]]}},
    )
    extra = ["extra", "", None]
    options = {"inputs": [*types, extra]}
    script("takes_optional", TakesScalars(), {"values": {**scalars, "extra": [10.0, 20.0]}, "options": options})
    bad = [{"x": [[1.0, 2.0]]}]
    script("linear", Linear(), {**FP32_X, "values": X, "bad": bad})
    script("undeclared", Linear(), {"values": X, "bad": bad})
    signed = {"expected_signature": {"inputs": [["rows", "FP32", [-1, 4]]], "outputs": [["scores", "FP32", [-1, 3]]]}}
    script("signature_inside", Linear(), signed, {"signature.json": json.dumps(SIGNATURE)})
    script("signature_broken", Linear(), {"load_error": True}, {"signature.json": "{"})
    declared = {"inputs": [["a", "FP32", [-1, 4]]], "outputs": [["b", "FP32", [-1, 3]]]}
    script("declared", Linear(), {"options": declared, "expected_signature": declared})
    script(
        "declared_wrongly", Linear(), {"options": {"inputs": [["a", "", None], ["b", "", None]]}, "load_error": True}
    )
    # Named as in Triton's configurations: the number is the position, whatever the order.
    numbered = {
        "options": {
            "inputs": [["INPUT__1", "FP32", [-1, 2]], ["INPUT__0", "FP32", [-1, 2]]],
            "outputs": [["OUTPUT__1", "FP32", [-1, 2]]],
        },
        "expected_signature": {
            "inputs": [["INPUT__0", "FP32", [-1, 2]], ["INPUT__1", "FP32", [-1, 2]]],
            "outputs": [["OUTPUT__1", "FP32", [-1, 2]]],
        },
        "values": {"INPUT__0": [[5.0, 6.0]], "INPUT__1": [[1.0, 2.0]]},
        "expected_values": {"OUTPUT__1": [[4.0, 4.0]]},
    }
    script("numbered", Subtracts(), numbered)
    for name, inputs, outputs in (
        ("numbered_wrongly", ["INPUT__0", "INPUT__2"], []),
        ("numbered_too_high", [], ["OUTPUT__1000000"]),
    ):
        options = {"inputs": [[each, "", None] for each in inputs], "outputs": [[each, "", None] for each in outputs]}
        script(name, Subtracts(), {"options": options, "load_error": True})
    script("writes_to_input", WritesToInput(), {**FP32_X, "values": X})
    keeps = {**FP32_X, "values": X, "analysis": {"writes": "an attribute is written to"}}
    script("keeps_input", KeepsInput(), keeps)
    script("complains", Complains(), {**FP32_X, "values": X, "bad": [{"x": [[-1.0] * 4]}, {"x": [[100.0] * 4]}]})
    script("half", nn.Identity(), {"options": {"inputs": [["input", "FP16", [-1, 2]]]}})
    small = {
        "b": [[1.0, -0.5, 2.0**126], [0.0, 2.0**-132, 255.0]],
        "e": [[1.0, -0.5, 224.0], [0.0, 2.0**-9, 15.0]],
        "f": [[1.0, -0.5, 28672.0], [0.0, 2.0**-16, 14.0]],
    }
    twice = {name + "2": [[2 * value for value in row] for row in rows] for name, rows in small.items()}
    inputs = [["b", "BF16", [-1, 3]], ["e", "FP8_E4M3FN", [-1, 3]], ["f", "FP8_E5M2", [-1, 3]]]
    case = {"values": small, "expected_values": twice}
    script("small_types", SmallTypes(), {**case, "options": {"inputs": inputs}})
    types = (torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2)
    rows = {0: torch.export.Dim("n", min=1, max=64)}
    program = torch.export.export(
        SmallTypes(), tuple(torch.zeros(2, 3).to(dtype) for dtype in types), dynamic_shapes=dict.fromkeys("bef", rows)
    )
    outputs = [[name + "2", datatype, shape] for name, datatype, shape in inputs]
    signature = {"expected_signature": {"inputs": inputs, "outputs": outputs}}
    write("exported_small_types", lambda path: torch.export.save(program, path), {**case, **signature}, "pt2")
    script("bool", nn.Identity(), {"options": {"inputs": [["input", "BOOL", [-1, 2]]]}})
    script("int64", nn.Identity(), {"options": {"inputs": [["input", "INT64", [-1, 2]]]}})
    rows = {"ranges": {"x": [0, 39999, True]}}
    script("tables", Tables(), {**FP32_X, "values": X, **rows})
    export("exported_tables", Tables(), {"values": X, **rows})
    case = {"expected_signature": LINEAR, "bad": [{"x": [[1.0] * 4] * 65}]}
    export("exported", Linear(), dict(case, operators={"layer/linear": "aten::addmm"}))
    dictionary = expected_outputs(["double", "FP32", [-1, 4]], ["half", "FP32", [-1, 4]])
    export("exported_dict", ReturnsDict(), dictionary)
    both = expected_outputs(["small", "BF16", [-1, 4]], ["same", "FP32", [-1, 4]])
    export("exported_bfloat16", Bfloat16(), {"refused": ["other"], **both})
    export("exported_writes_to_input", WritesToInput(), {})
    export("exported_counts", Counts(), {"stateful": True, "analysis": {"writes": "buffer 'count' is written to"}})
    ranged = torch.export.export(
        Resizes().eval(), (torch.ones(7, 3), torch.ones(5)), dynamic_shapes=({0: torch.export.Dim.AUTO},) * 2
    )
    values = {"x": [[1.0, 2.0, 3.0]] * 7, "y": [1.0] * 5}
    write(
        "exported_guards",
        lambda path: torch.export.save(ranged, path),
        {"values": values, "not_batchable": True},
        "pt2",
    )
    export("exported_nested", ReturnsNested(), {"values": X, "expected_values": twins})
    constants: dict = expected_outputs(["a_0", "FP32", [-1, 4]], ["a_1", "INT64", []], ["b_0", "FP32", [-1, 4]])
    doubled = {"a_0": X["x"], "a_1": 5, "b_0": states["OUTPUT__1_0"]}
    constants |= {"values": X, "expected_values": doubled, "expected_datatypes": {"a_1": "INT64"}, "refused": ["b_1"]}
    export("exported_constants", ReturnsConstants(), constants)
    refused: dict[str, tuple[nn.Module, str]] = {
        "features.pt": (TakesFeatures(), "declare each as an input 'batch_KEY'"),
        "nms.pt": (Suppresses(), 'the operator torchvision::nms: write extras = ["torchvision"]'),
        "text.pt2": (ReturnsText(), "a constant text, which PyTorch saves but cannot load"),
    }
    for name in TAMPERED:
        words = {"pickled": "pickled Python objects", "compiled": "compiled code next to"}
        refused[name + ".pt2"] = (Linear(), words.get(name.split("_")[0], "run code"))
    folder = Path(root, "refused_files")
    folder.mkdir()
    for file, (module, _) in refused.items():
        if file.endswith(".pt"):
            torch.jit.save(torch.jit.script(module), str(folder / file))
        else:
            dynamic = {"x": {0: torch.export.Dim("n", min=1, max=64)}}
            program = torch.export.export(module.eval(), (torch.zeros(2, 4),), dynamic_shapes=dynamic)
            torch.export.save(program, str(folder / file))
    for name, (entry, change) in TAMPERED.items():
        tamper(str(folder / (name + ".pt2")), entry, change)
    words = {file: words for file, (_, words) in refused.items()}
    (folder / "case.json").write_text(json.dumps({"artifact": "nms.pt", "load_errors": words}))
    legacy("exported_by_2_7", Linear(), {"expected_signature": LINEAR})
    legacy_archive("exported_by_2_8", Linear(), {"expected_signature": LINEAR})
    legacy_archive("exported_by_another_schema", Linear(), {"load_error": "too old or too new"}, 7)
    legacy("exported_too_early", Linear(), {"load_error": "too old or too new"}, "7.3")
    export("exported_operator", Custom(), {"load_error": "the operator contract.twice.default"})
    write("compiled", write_compiled, {"load_error": "an AOTInductor package, which contains compiled code"}, "pt2")
    pictures, x = Pictures().eval(), torch.randn(2, 3, 8, 8)
    scores = pictures(x)[0].tolist()
    rounded = {"values": {"x": x.tolist()}, "expected_values": {"OUTPUT__0": scores}, "tolerance": 0.02}
    declared_x = {"inputs": [["x", "FP32", [-1, 3, 8, 8]]]}
    bfloat16 = {"parameters": {"precision": "bfloat16", "channels_last": True}}
    script("precision", pictures, {"options": {**declared_x, **bfloat16}, **rounded})
    rows = {"x": {0: torch.export.Dim("n", min=1, max=64)}}
    program = torch.export.export(pictures, (x,), dynamic_shapes=rows)
    half = {"options": {"parameters": {"precision": "half"}}}
    write(
        "exported_precision",
        lambda path: torch.export.save(program, path),
        {**half, **rounded, **expected_pictures},
        "pt2",
    )
    for name, parameters in (("parameter_wrong", {"precision": "fp8"}), ("parameter_unknown", {"presision": "half"})):
        script(name, Linear(), {"options": {"parameters": parameters}, "load_error": True})
    write("state_dict", lambda path: torch.save(Linear().state_dict(), path), {"load_error": True})
    write("not_a_zip", lambda path: Path(path).write_bytes(b"hello"), {"load_error": True})


if __name__ == "__main__":
    main(sys.argv[1])
