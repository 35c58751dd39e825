"""configuration.json as one kind of network: a graph of nodes, whichever class of DL4J's wrote it.

A MultiLayerNetwork is a chain of them. Its input is "in", as in its own toComputationGraph, its output "out".
"""

from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from runtimes.contract import LoadError

from . import names
from .order import topological
from .settings import Settings, Tagged, tagged

_MAX_NODES, _MAX_READ = 10_000, 50_000


class Node(NamedTuple):
    """A layer or a vertex.

    kind          its class, without DL4J's packages
    inputs        names of nodes, or of the network's inputs
    preprocessor  what is done to a layer's input first
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
    """nodes: in the order in which DL4J goes through them; outputs: names of what is served → nodes."""

    inputs: Tuple[str, ...]
    nodes: Tuple[Node, ...]
    outputs: Dict[str, str]


def network(configuration: Dict[str, Any]) -> Network:
    """Raises LoadError."""
    if isinstance(configuration.get("confs"), list):
        return _chain(configuration)
    if isinstance(configuration.get("vertices"), dict):
        return _graph(configuration)
    raise LoadError("configuration.json has neither 'confs' nor 'vertices', which DL4J's networks have")


def inner_layer(settings: Settings, name: str) -> Tuple[str, Settings]:
    """The layer that a wrapper holds in this field: its class and fields."""
    found = settings.tagged(name)
    return _kind(found, names.LAYERS), Settings(settings.where, found.fields)


def preprocessor(value: Any, where: str) -> Optional[Preprocessor]:
    """None where there is none. Raises LoadError."""
    if value is None:
        return None
    found = tagged(value)
    if found is None:
        raise LoadError("%s: its preprocessor is none that DL4J writes" % where)
    kind = _kind(found, names.PREPROCESSORS)
    return Preprocessor(kind, Settings("%s, %s before it" % (where, kind), found.fields))


def _chain(configuration: Dict[str, Any]) -> Network:
    confs = configuration["confs"]
    _check_count(confs)
    before = configuration.get("inputPreProcessors")
    before = {} if before is None else before
    if not isinstance(before, dict) or not {str(place) for place in range(len(confs))}.issuperset(before):
        raise LoadError("configuration.json's 'inputPreProcessors' are not told by the layers' places")
    if before and isinstance(confs[0], dict) and confs[0].get("miniBatch") not in (True, None):
        # getInputMiniBatchSize of MultiLayerNetwork: preprocessors join all rows to one then.
        raise LoadError(
            "the network was configured with miniBatch = false, and preprocessors with that are not covered"
        )
    nodes: List[Node] = []
    for place, conf in enumerate(confs):
        kind, fields = _layer(conf, "layer %d" % place)
        where = _where("layer %d" % place, fields, kind)
        read = nodes[-1].name if nodes else "in"
        first = preprocessor(before.get(str(place)), where)
        nodes.append(Node("layer%d" % place, kind, Settings(where, fields), (read,), True, first))
    return Network(("in",), tuple(nodes), {"out": nodes[-1].name})


def _graph(configuration: Dict[str, Any]) -> Network:
    vertices = configuration["vertices"]
    _check_count(vertices)
    inputs = _texts(configuration.get("networkInputs"), "networkInputs")
    outputs = _texts(configuration.get("networkOutputs"), "networkOutputs")
    read = configuration.get("vertexInputs")
    reads = {name: _texts((read if isinstance(read, dict) else {}).get(name), "vertexInputs") for name in vertices}
    if sum(map(len, reads.values())) > _MAX_READ:
        raise LoadError("configuration.json's vertices read more than %d others" % _MAX_READ)
    known = {*inputs, *vertices}
    for name in [*outputs, *(source for sources in reads.values() for source in sources)]:
        if name not in known:
            raise LoadError("configuration.json speaks of the vertex '%.60s', which it does not hold" % name)
    if len(set(inputs)) != len(inputs) or set(inputs) & set(vertices):
        raise LoadError("configuration.json has two vertices or inputs of one name")
    if len(set(outputs)) != len(outputs) or set(inputs) & set(outputs):
        raise LoadError("configuration.json names an output twice, or one that is an input")
    nodes = {name: _vertex(name, value, reads[name]) for name, value in vertices.items()}
    order = _order(configuration, inputs, reads)
    return Network(inputs, tuple(nodes[name] for name in order if name in nodes), {name: name for name in outputs})


def _order(configuration: Dict[str, Any], inputs: Sequence[str], reads: Dict[str, Tuple[str, ...]]) -> List[str]:
    """From 1.0.0-beta4 on the file tells it, by names and by numbers that stand for them."""
    told, numbers = configuration.get("topologicalOrderStr"), configuration.get("topologicalOrder")
    if told is None and numbers is None:
        return topological(inputs, reads)
    order = _texts(told, "topologicalOrderStr")
    if not isinstance(numbers, list) or len(numbers) != len(order):
        raise LoadError("configuration.json's 'topologicalOrder' does not go with its 'topologicalOrderStr'")
    done = set(inputs)
    for name in order:
        if name not in done and (name not in reads or not done.issuperset(reads[name])):
            raise LoadError("configuration.json's order of vertices has '%.60s' before what it reads" % name)
        done.add(name)
    if len(order) != len(set(order)) or done != {*inputs, *reads}:
        raise LoadError("configuration.json's order of vertices is not one of all of them")
    return list(order)


def _vertex(name: str, value: Any, reads: Tuple[str, ...]) -> Node:
    called = "vertex '%.60s'" % name
    found = tagged(value)
    while found is not None and found.kind == "FrozenVertex":
        found = tagged(found.fields.get("underlying"))
    if found is None:
        raise LoadError("%s is none that DL4J writes" % called)
    if found.kind != "LayerVertex":
        return Node(name, found.kind, Settings("%s (%.80s)" % (called, found.kind), found.fields), reads, False)
    kind, fields = _layer(found.fields.get("layerConf"), called)
    where = "%s (%.80s)" % (called, kind)
    if len(reads) != 1:
        raise LoadError("%s: it reads %d others, and a layer reads one" % (where, len(reads)))
    return Node(name, kind, Settings(where, fields), reads, True, preprocessor(found.fields.get("preProcessor"), where))


def _layer(conf: Any, called: str) -> Tuple[str, Dict[str, Any]]:
    """Its class and fields. What its configuration (NeuralNetConfiguration) says beside it counts as its own."""
    found = tagged(conf.get("layer")) if isinstance(conf, dict) else None
    if found is None:
        raise LoadError("%s is no layer that DL4J writes" % called)
    fields = dict(found.fields)
    if "leakyreluAlpha" in conf:
        fields.setdefault("leakyreluAlpha", conf["leakyreluAlpha"])
    return _kind(found, names.LAYERS), fields


def _kind(found: Tagged, legacy: Dict[str, str]) -> str:
    kind = legacy.get(found.kind, found.kind) if found.legacy else found.kind
    return names.SAME.get(kind, kind)


def _where(called: str, fields: Dict[str, Any], kind: str) -> str:
    name = fields.get("layerName")
    return "%s%s (%.80s)" % (called, " '%.60s'" % name if isinstance(name, str) else "", kind)


def _texts(value: Any, name: str) -> Tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(each, str) and each for each in value):
        raise LoadError("configuration.json's '%s' is no list of names" % name)
    return tuple(value)


def _check_count(nodes: Any) -> None:
    if not 0 < len(nodes) <= _MAX_NODES:
        raise LoadError("configuration.json holds %d layers" % len(nodes))
