"""Selects the graph of a SavedModel that is served, by the set of tags that each graph has."""

from typing import Any, List, Sequence

from tensorflow.python.saved_model.loader_impl import parse_saved_model

from runtimes.contract import LoadError

SERVE = "serve"


def serving_graph(folder: str) -> Any:
    """Return the MetaGraphDef to serve. Raises LoadError, and TensorFlow's errors for an unreadable file."""
    graphs = parse_saved_model(folder).meta_graphs
    chosen = choose([tags_of(graph) for graph in graphs])
    return next(graph for graph in graphs if tags_of(graph) == chosen)


def tags_of(graph: Any) -> List[str]:
    return sorted(graph.meta_info_def.tags)


def choose(tag_sets: Sequence[Sequence[str]]) -> List[str]:
    """Choose {serve}, as TensorFlow Serving does, or else the empty set, which old TF Hub modules use for inference.

    Any other set marks a graph for another purpose (training, evaluation, a TPU), whose answers would be wrong without
    a warning. Raises LoadError, with the existing sets, if there is neither.
    """
    for choice in ([SERVE], []):
        if any(sorted(tags) == choice for tags in tag_sets):
            return choice
    found = ", ".join("{%s}" % ", ".join(tags) for tags in tag_sets) or "none"
    raise LoadError(
        "this SavedModel has no graph for serving: the tag sets of its graphs are %s, and one of them must be exactly "
        "{%s} or empty" % (found, SERVE)
    )
