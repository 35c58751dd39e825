"""What a listing is: a repository of models, one model, or one artifact. Pure functions."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from gateway.contents.errors import StoreError
from gateway.contents.names import check_name, is_hidden
from gateway.remote.names import wanted
from gateway.remote.store import RemoteObject
from gateway.repository.model_folder import is_version

Shape = Literal["repository", "model", "artifact"]
_CONFIGURATIONS = (["model.toml"], ["config.pbtxt"])


@dataclass
class RemoteModel:
    """A model in a listing; names are relative to its folder.

    files     objects in no version's folder, by name
    versions  name of the folder → its objects, with the folder in their names
    problem   why the listing of the model cannot be used
    """

    files: dict[str, RemoteObject] = field(default_factory=dict)
    versions: dict[str, list[RemoteObject]] = field(default_factory=dict)
    problem: str = ""


def shape_of(names: Iterable[str]) -> Shape:
    """Return what the folder is in which these files are."""
    paths = [name.split("/") for name in names]
    # First, so that a stray object at the top does not make one model of many.
    named = (parts for parts in paths if parts[1:] and not is_version(parts[0]))
    if any((is_version(parts[1]) and parts[2:]) or parts[1:] in _CONFIGURATIONS for parts in named):
        return "repository"
    if any((is_version(parts[0]) and parts[1:]) or parts in _CONFIGURATIONS for parts in paths):
        return "model"
    return "artifact"


def models_in(objects: Iterable[RemoteObject], shape: Shape, name: str) -> dict[str, RemoteModel]:
    """Return the models of a repository, or the one model that is called `name`."""
    found: dict[str, list[RemoteObject]] = {}
    for item in objects:
        model, slash, rest = (name, "/", item.name) if shape == "model" else item.name.partition("/")
        if slash and not is_hidden(model):
            found.setdefault(model, []).append(item._replace(name=rest))
    models = {model: _model(model, items) for model, items in found.items()}
    return {model: each for model, each in models.items() if each.versions or each.problem or each.files}


def _model(name: str, items: list[RemoteObject]) -> RemoteModel:
    model = RemoteModel()
    for item in items:  # the marker of a version's folder, or a hidden file in it, stands for a version without files
        folder, slash, _ = item.name.partition("/")
        if is_version(folder) and (slash or not item.size):
            model.versions.setdefault(folder, [])
    try:
        check_name(name)
        for item in wanted(each for each in items if not is_version(each.name)):
            folder, slash, _ = item.name.partition("/")
            if slash and is_version(folder):
                model.versions[folder].append(item)
            else:
                model.files[item.name] = item
    except StoreError as error:
        return RemoteModel(problem=str(error))
    return model


def numbers_of(versions: Mapping[str, object]) -> dict[int, list[str]]:
    """Return the folders by the number of their version; there may be several for one number."""
    found: dict[int, list[str]] = {}
    for folder in sorted(versions):
        found.setdefault(int(folder), []).append(folder)
    return found
