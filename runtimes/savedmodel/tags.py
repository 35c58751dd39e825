"""Selects the graph of a SavedModel that is served, by the set of tags that each graph has."""

from typing import List, Sequence

from tensorflow.python.saved_model.loader_impl import parse_saved_model

from runtimes.contract import LoadError

SERVE = "serve"


def serving_tags(folder: str) -> List[str]:
    """Return the tags of the graph to serve. Raises LoadError, and TensorFlow's errors for an unreadable file."""
    return choose([sorted(graph.meta_info_def.tags) for graph in parse_saved_model(folder).meta_graphs])


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
