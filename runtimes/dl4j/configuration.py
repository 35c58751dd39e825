"""Reads configuration.json as a graph of nodes, whichever of DL4J's network classes wrote it.

A MultiLayerNetwork becomes a chain of nodes with the input "in", as in its own toComputationGraph, and the output
"out".
"""

from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from runtimes.contract import LoadError

from . import names
from .order import topological_order
from .settings import Settings, Tagged, tagged

# Far more than any known network has. Without them, a file of 50 kB can list inputs for 300,000 ONNX operators.
_MAX_NODES, _MAX_EDGES = 10_000, 50_000
# Preprocessors that do not ask how many rows the network's input has.
_OF_EACH_ROW = (
    "Cnn3DToFeedForwardPreProcessor",
    "CnnToFeedForwardPreProcessor",
    "FeedForwardToCnn3DPreProcessor",
    "FeedForwardToCnnPreProcessor",
)


class Node(NamedTuple):
    """A layer or a vertex.

    kind          name of its class, without DL4J's package
    inputs        names of nodes or of network inputs
    preprocessor  applied to a layer's input, if there is one
    """

    name: str
    kind: str
    settings: Settings
    inputs: Tuple[str, ...]
    is_layer: bool
    preprocessor: "Optional[Preprocessor]" = None


class Preprocessor(NamedTuple):
    kind: str
    settings: Settings


class Network(NamedTuple):
    """
    nodes    in DL4J's order, which is also the order of their parameters
    outputs  name of the output → name of the node that computes it
    """

    inputs: Tuple[str, ...]
    nodes: Tuple[Node, ...]
    outputs: Dict[str, str]


def network(configuration: Dict[str, Any]) -> Network:
    """Read a parsed configuration.json. Raises LoadError."""
    if isinstance(configuration.get("confs"), list):
        return _chain(configuration)
    if isinstance(configuration.get("vertices"), dict):
        return _graph(configuration)
    raise LoadError("configuration.json has neither 'confs' nor 'vertices', which DL4J's networks have")


def inner_layer(settings: Settings, name: str) -> Tuple[str, Settings]:
    """Return the class and the fields of the layer that a wrapper holds in this field."""
    found = settings.tagged(name)
    return _kind(found, names.LAYERS), Settings(settings.where, found.fields)


def preprocessor(value: Any, where: str) -> Optional[Preprocessor]:
    """Read a preprocessor; None stays None. Raises LoadError."""
    if value is None:
        return None
    found = tagged(value)
    if found is None:
        raise LoadError("%s: its preprocessor is not one that DL4J writes" % where)
    kind = _kind(found, names.PREPROCESSORS)
    return Preprocessor(kind, Settings("%s, its preprocessor %s" % (where, kind), found.fields))


def _chain(configuration: Dict[str, Any]) -> Network:
    confs = configuration["confs"]
    _check_count(confs)
    preprocessors = configuration.get("inputPreProcessors")
    preprocessors = {} if preprocessors is None else preprocessors
    if not isinstance(preprocessors, dict) or not {str(index) for index in range(len(confs))}.issuperset(preprocessors):
        raise LoadError("configuration.json's 'inputPreProcessors' must be an object whose keys are layer numbers")
    alone = isinstance(confs[0], dict) and confs[0].get("miniBatch") not in (True, None)
    nodes: List[Node] = []
    for index, conf in enumerate(confs):
        kind, fields = _layer(conf, "layer %d" % index)
        where = _where("layer %d" % index, fields, kind)
        source = nodes[-1].name if nodes else "in"
        first = preprocessor(preprocessors.get(str(index)), where)
        if alone and first is not None and first.kind not in _OF_EACH_ROW:
            # It then merges all rows into one (MultiLayerNetwork.getInputMiniBatchSize).
            first.settings.refuse("it merges all rows, because the network was configured with miniBatch = false")
        nodes.append(Node("layer%d" % index, kind, Settings(where, fields), (source,), True, first))
    return Network(("in",), tuple(nodes), {"out": nodes[-1].name})


def _graph(configuration: Dict[str, Any]) -> Network:
    vertices = configuration["vertices"]
    _check_count(vertices)
    inputs = _names(configuration.get("networkInputs"), "networkInputs")
    outputs = _names(configuration.get("networkOutputs"), "networkOutputs")
    given = configuration.get("vertexInputs")
    reads = {name: _names((given if isinstance(given, dict) else {}).get(name), "vertexInputs") for name in vertices}
    if sum(map(len, reads.values())) > _MAX_EDGES:
        raise LoadError("configuration.json's vertices have more than %d inputs in total" % _MAX_EDGES)
    known = {*inputs, *vertices}
    for name in [*outputs, *(source for sources in reads.values() for source in sources)]:
        if name not in known:
            raise LoadError("configuration.json refers to the vertex '%.60s', which it does not define" % name)
    if len(set(inputs)) != len(inputs) or set(inputs) & set(vertices):
        raise LoadError("configuration.json has two vertices or inputs of the same name")
    if len(set(outputs)) != len(outputs) or set(inputs) & set(outputs):
        raise LoadError("configuration.json names an output twice, or one that is also an input")
    nodes = {name: _vertex(name, value, reads[name]) for name, value in vertices.items()}
    order = _order(configuration, inputs, reads)
    return Network(inputs, tuple(nodes[name] for name in order if name in nodes), {name: name for name in outputs})


def _order(configuration: Dict[str, Any], inputs: Sequence[str], reads: Dict[str, Tuple[str, ...]]) -> List[str]:
    """Return the topological order. Files from 1.0.0-beta4 on contain it, as names and as numbers for the names.

    DL4J uses them together or not at all. Using only one would assign parameters to other layers than DL4J does.
    """
    given, numbers = configuration.get("topologicalOrderStr"), configuration.get("topologicalOrder")
    if given is None and numbers is None:
        return topological_order(inputs, reads)
    order = _names(given, "topologicalOrderStr")
    if not isinstance(numbers, list) or len(numbers) != len(order):
        raise LoadError("configuration.json's 'topologicalOrder' does not match its 'topologicalOrderStr'")
    done = set(inputs)
    for name in order:
        if name not in done and (name not in reads or not done.issuperset(reads[name])):
            raise LoadError("configuration.json's order of vertices has '%.60s' before its inputs" % name)
        done.add(name)
    if len(order) != len(set(order)) or done != {*inputs, *reads}:
        raise LoadError("configuration.json's order of vertices does not contain each of them once")
    return list(order)


def _vertex(name: str, value: Any, reads: Tuple[str, ...]) -> Node:
    label = "vertex '%.60s'" % name
    found = tagged(value)
    while found is not None and found.kind == "FrozenVertex":
        found = tagged(found.fields.get("underlying"))
    if found is None:
        raise LoadError("%s is not one that DL4J writes" % label)
    if found.kind != "LayerVertex":
        return Node(name, found.kind, Settings("%s (%.80s)" % (label, found.kind), found.fields), reads, False)
    kind, fields = _layer(found.fields.get("layerConf"), label)
    where = "%s (%.80s)" % (label, kind)
    if len(reads) != 1:
        raise LoadError("%s: it has %d inputs, and a layer has one" % (where, len(reads)))
    return Node(name, kind, Settings(where, fields), reads, True, preprocessor(found.fields.get("preProcessor"), where))


def _layer(conf: Any, label: str) -> Tuple[str, Dict[str, Any]]:
    """Return the class and the fields of the layer in a NeuralNetConfiguration."""
    found = tagged(conf.get("layer")) if isinstance(conf, dict) else None
    if found is None:
        raise LoadError("%s is not a layer that DL4J writes" % label)
    fields = dict(found.fields)
    # Before 0.8 this belonged to the NeuralNetConfiguration, not to the layer in it.
    if "leakyreluAlpha" in conf:
        fields.setdefault("leakyreluAlpha", conf["leakyreluAlpha"])
    return _kind(found, names.LAYERS), fields


def _kind(found: Tagged, legacy: Dict[str, str]) -> str:
    kind = legacy.get(found.kind, found.kind) if found.legacy else found.kind
    return names.ALIASES.get(kind, kind)


def _where(label: str, fields: Dict[str, Any], kind: str) -> str:
    name = fields.get("layerName")
    return "%s%s (%.80s)" % (label, " '%.60s'" % name if isinstance(name, str) else "", kind)


def _names(value: Any, field: str) -> Tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(each, str) and each for each in value):
        raise LoadError("configuration.json's '%s' must be a list of names" % field)
    return tuple(value)


def _check_count(nodes: Any) -> None:
    if not 0 < len(nodes) <= _MAX_NODES:
        raise LoadError("configuration.json has %d layers; from 1 to %d are supported" % (len(nodes), _MAX_NODES))
