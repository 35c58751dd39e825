"""Makes the models of benchmarks/gpu.py, and measures them when they are called directly.

    PYTHON torch_models.py make FOLDER [--tiny]
    PYTHON torch_models.py bare ARTIFACT --device cuda:0 --precision half --kind resnet50 [--tiny]

Runs in the environment of the torchscript runtime, with only PyTorch and numpy. Both commands print one line of JSON.
"""

import argparse
import json
import time
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

SEQUENCE = 128
WORDS = 30522


class Bottleneck(nn.Module):
    def __init__(self, takes: int, width: int, stride: int) -> None:
        super().__init__()
        gives = 4 * width
        self.c1, self.n1 = nn.Conv2d(takes, width, 1, bias=False), nn.BatchNorm2d(width)
        self.c2, self.n2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.c3, self.n3 = nn.Conv2d(width, gives, 1, bias=False), nn.BatchNorm2d(gives)
        self.short = (
            nn.Identity()
            if takes == gives and stride == 1
            else nn.Sequential(nn.Conv2d(takes, gives, 1, stride, bias=False), nn.BatchNorm2d(gives))
        )

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.n1(self.c1(x)))
        y = torch.relu(self.n2(self.c2(y)))
        return torch.relu(self.n3(self.c3(y)) + self.short(x))


class ResNet(nn.Module):
    """ResNet-50 with random weights: uint8 images in, 1000 scores out."""

    def __init__(self, width: int = 64, depths: tuple[int, ...] = (3, 4, 6, 3)) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)
        self.pool = nn.MaxPool2d(3, 2, 1)
        blocks, takes = [], width
        for stage, depth in enumerate(depths):
            for block in range(depth):
                blocks.append(Bottleneck(takes, width << stage, 2 if stage and not block else 1))
                takes = 4 * (width << stage)
        self.blocks = nn.Sequential(*blocks)
        self.scores = nn.Linear(takes, 1000)

    def forward(self, image: Tensor) -> Tensor:
        x = image.to(self.stem.weight.dtype) / 127.5 - 1.0
        x = self.pool(torch.relu(self.norm(self.stem(x))))
        return self.scores(self.blocks(x).mean(dim=[2, 3]))


class Layer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.n1, self.n2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        n, words, width = x.shape
        q, k, v = self.qkv(x).view(n, words, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        attended = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, words, width)
        x = self.n1(x + self.out(attended))
        return self.n2(x + self.down(functional.gelu(self.up(x))))


class Encoder(nn.Module):
    """An encoder of BERT-base's size with random weights: token ids in, one vector out."""

    def __init__(self, width: int = 768, heads: int = 12, layers: int = 12, words: int = WORDS) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(words, width), nn.Parameter(torch.zeros(SEQUENCE, width))
        self.norm = nn.LayerNorm(width)
        self.layers = nn.Sequential(*[Layer(width, heads) for _ in range(layers)])

    def forward(self, tokens: Tensor) -> Tensor:
        return self.layers(self.norm(self.words(tokens) + self.places))[:, 0]


def made(kind: str, tiny: bool) -> nn.Module:
    torch.manual_seed(0)
    if kind == "resnet50":
        return (ResNet(8, (1, 1, 1, 1)) if tiny else ResNet()).eval()
    return (Encoder(64, 4, 2, 512) if tiny else Encoder()).eval()


def inputs(kind: str, rows: int, tiny: bool) -> Tensor:
    if kind == "resnet50":
        size = 32 if tiny else 224
        return torch.randint(0, 256, (rows, 3, size, size), dtype=torch.uint8)
    return torch.randint(0, 512 if tiny else WORDS, (rows, SEQUENCE))


def make(folder: Path, tiny: bool) -> dict[str, object]:
    """Save both models as TorchScript with a signature. Return the minimum cost of one row of each."""
    from torch.utils.flop_counter import FlopCounterMode

    measured = {}
    for kind, name, gives in (("resnet50", "image", "scores"), ("bert", "tokens", "vector")):
        module, row = made(kind, tiny), inputs(kind, 1, tiny)
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            answer = module(row)
        takes = {"name": name, "datatype": "UINT8" if kind == "resnet50" else "INT64", "shape": [-1, *row.shape[1:]]}
        signature = {
            "inputs": [takes],
            "outputs": [{"name": gives, "datatype": "FP32", "shape": [-1, *answer.shape[1:]]}],
        }
        artifact = folder / kind / "1" / "model.pt"
        artifact.parent.mkdir(parents=True, exist_ok=True)
        torch.jit.save(torch.jit.script(module), artifact, _extra_files={"signature.json": json.dumps(signature)})
        measured[kind] = {
            "flop": counter.get_total_flops(),
            "parameters": sum(parameter.numel() for parameter in module.parameters()),
            "takes": takes,
            "gives_bytes": 4 * answer.numel(),
        }
    return measured


def bare(artifact: Path, kind: str, device: str, precision: str, tiny: bool) -> dict[str, object]:
    """Return rows per second by batch size. The inputs are already on the device, and no answer is copied back."""
    dtype = {"float": torch.float32, "half": torch.float16, "bfloat16": torch.bfloat16}[precision]
    module = torch.jit.load(artifact, map_location=device).eval().to(dtype)
    if kind == "resnet50":
        module.to(memory_format=torch.channels_last)
    sizes = (1, 2, 4, 8) if tiny else (8, 16, 32, 64, 128, 256, 512)
    return {
        "device": torch.cuda.get_device_name(device) if device != "cpu" else "CPU",
        "rates": {size: rate(module, inputs(kind, size, tiny).to(device), 0.3 if tiny else 2.0) for size in sizes},
        **floors(device, dtype, tiny),
    }


def rate(module: nn.Module, batch: Tensor, seconds: float) -> float:
    if batch.dim() == 4:
        batch = batch.contiguous(memory_format=torch.channels_last)
    return len(batch) / timed(lambda: module(batch), batch.device, seconds)


def floors(device: str, dtype: torch.dtype, tiny: bool) -> dict[str, float]:
    """Return what the device can reach: FLOP/s in one large matrix product, and bytes/s in one large copy."""
    size = 512 if tiny else 8192
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    source = torch.empty((1 if tiny else 64) << 22, device=device)
    target = torch.empty_like(source)
    seconds = 0.2 if tiny else 2.0
    return {
        "flop_s": 2 * size**3 / timed(lambda: a @ b, a.device, seconds),
        "bytes_s": 2 * source.nbytes / timed(lambda: target.copy_(source), a.device, seconds),
    }


def timed(call: object, device: torch.device, seconds: float) -> float:
    """Return the mean seconds of one call, over as many calls as fill the time."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    with torch.inference_mode():
        for _ in range(5):
            call()  # type: ignore[operator]
        wait()
        calls, started = 0, time.perf_counter()
        while True:
            for _ in range(5):
                call()  # type: ignore[operator]
            calls += 5
            wait()
            if (passed := time.perf_counter() - started) >= seconds:
                return passed / calls


def main() -> None:
    warnings.filterwarnings("ignore")
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("make", "bare"))
    parser.add_argument("path", type=Path)
    parser.add_argument("--kind", default="resnet50")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="half")
    parser.add_argument("--tiny", action="store_true")
    given = parser.parse_args()
    if given.what == "make":
        measured = make(given.path, given.tiny)
    else:
        measured = bare(given.path, given.kind, given.device, given.precision, given.tiny)
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
