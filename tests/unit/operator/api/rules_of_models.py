"""All rules of a model and of those below it."""

from collections.abc import Iterator

from buildgrid_operator.api.model import ApiModel
from buildgrid_operator.api.rules import Rule, Transition
from buildgrid_operator.api.schema import item_models


def models_below(model: type[ApiModel]) -> Iterator[type[ApiModel]]:
    """A model, and each one that its fields hold, at any depth."""
    yield model
    for field in model.model_fields.values():
        for inner in item_models(field.annotation):
            yield from models_below(inner)


def all_rules(model: type[ApiModel]) -> list[tuple[str, Rule]]:
    """(name of the model, rule) of everything in a spec, once each."""
    found = {(inner.__name__, rule.cel): rule for inner in models_below(model) for rule in inner.rules}
    return [(name, rule) for (name, _), rule in found.items()]


def all_transitions(model: type[ApiModel]) -> list[Transition]:
    """The same of rules between the object before and after."""
    return [rule for inner in models_below(model) for rule in inner.transitions]
