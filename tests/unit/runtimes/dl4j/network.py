"""A small network: its configuration, parameters and inputs, and the reference's outputs."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from tests.unit.runtimes.dl4j import reference

Configuration = dict[str, Any]


class Network(NamedTuple):
    """configuration  as json.loads gives it
    inputs         name → shape, the batch first, in the network's order
    indices        inputs that are indices → how many there are to choose from
    zeros          inputs in which whole time steps are zero → along which axis time is
    """

    configuration: Configuration
    inputs: dict[str, tuple[int, ...]]
    indices: Mapping[str, int] = MappingProxyType({})
    zeros: Mapping[str, int] = MappingProxyType({})

    def coefficients(self, seed: int = 0) -> np.ndarray:
        """[N], drawn around 0; variances are positive, standard deviations near 1. As float32 has them."""
        random, parts = np.random.default_rng(seed), []
        for _, parameters in reference.layout(self.configuration):
            for each in parameters:
                values = random.normal(0, 0.4, int(np.prod(each.shape)))
                if each.name.endswith("var"):
                    values = 0.3 + np.abs(values)
                if each.name.endswith(("gamma", "g")):
                    values = values + 1
                parts.append(values)
        row = np.concatenate(parts) if parts else np.zeros(0)
        return row.astype(np.float32).astype(np.float64)

    def samples(self, seed: int = 1, batch: int | None = None) -> dict[str, np.ndarray]:
        """Return inputs, optionally with another batch size than in the shapes."""
        random, made = np.random.default_rng(seed), {}
        for name, shape in self.inputs.items():
            shape = (shape[0] if batch is None else batch, *shape[1:])
            if name in self.indices:
                made[name] = random.integers(0, self.indices[name], shape).astype(np.float32)
                continue
            values = random.normal(0, 1, shape).astype(np.float32)
            if name in self.zeros:
                steps = np.moveaxis(values, self.zeros[name], 1)
                steps[0, -2:] = 0  # the end of the first sequence,
                steps[-1, 1] = 0  # and a hole in the last
            made[name] = values
        return made

    def outputs(self, seed: int = 0) -> list[np.ndarray]:
        """Return the reference's outputs for coefficients() and samples()."""
        return reference.forward(self.configuration, self.coefficients(seed), list(self.samples().values()))


def single(configuration: Configuration, *shape: int) -> Network:
    """A MultiLayerNetwork, whose input has no name in DL4J."""
    return Network(configuration, {"input": shape})
