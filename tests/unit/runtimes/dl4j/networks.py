"""Small networks, one per layer and per option that changes numbers. Sizes differ, so a transposition is detected."""

from tests.unit.runtimes.dl4j.network import Network
from tests.unit.runtimes.dl4j.networks_convolution import CONVOLUTION
from tests.unit.runtimes.dl4j.networks_convolution_other import OTHER_CONVOLUTION
from tests.unit.runtimes.dl4j.networks_dense import DENSE
from tests.unit.runtimes.dl4j.networks_graph import GRAPH
from tests.unit.runtimes.dl4j.networks_other import OTHER
from tests.unit.runtimes.dl4j.networks_pooling import POOLING
from tests.unit.runtimes.dl4j.networks_preprocessor import PREPROCESSOR
from tests.unit.runtimes.dl4j.networks_recurrent import RECURRENT
from tests.unit.runtimes.dl4j.networks_shapes import SHAPES

FAMILIES = (DENSE, CONVOLUTION, OTHER_CONVOLUTION, POOLING, SHAPES, RECURRENT, PREPROCESSOR, GRAPH, OTHER)
NETWORKS: dict[str, Network] = {name: network for family in FAMILIES for name, network in family.items()}
assert len(NETWORKS) == sum(map(len, FAMILIES))
