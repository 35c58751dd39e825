"""Which of a SavedModel's graphs is served: each stands in the file with a set of tags."""

from typing import List, Sequence

from tensorflow.python.saved_model.loader_impl import parse_saved_model

from runtimes.contract import LoadError

SERVE = "serve"


def serving_tags(folder: str) -> List[str]:
    """The tags of the graph that is served. Raises LoadError, and whatever TensorFlow raises for an unreadable file."""
    return choose([sorted(graph.meta_info_def.tags) for graph in parse_saved_model(folder).meta_graphs])


def choose(tag_sets: Sequence[Sequence[str]]) -> List[str]:
    """Exactly {serve}, as in TensorFlow Serving, else the empty set, which TF Hub's older modules use for inference.

    Any other set is a graph for something else (training, evaluation, a TPU), which would be answered by without
    a word of warning. Raises LoadError, with the sets that there are.
    """
    for wanted in ([SERVE], []):
        if any(sorted(tags) == wanted for tags in tag_sets):
            return wanted
    found = ", ".join("{%s}" % ", ".join(tags) for tags in tag_sets) or "none"
    raise LoadError(
        "this SavedModel has no graph for serving: the tag sets of its graphs are %s, and one of them must be exactly "
        "{%s} or empty" % (found, SERVE)
    )
