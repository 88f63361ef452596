"""The registry of methods: modules of this folder, and entry points of other packages.

A method is one module here, or one folder with a ``method.py``, under the method's own name.  Another package
names its module by an entry point of the group ``mpnp_ros.methods``.  Either way the module registers the
method at its top level::

    SPEC = MethodSpec('mean_prefix', 'the mean of all tokens as one prefix entry', MeanPrefix, MeanLink)

Nothing is imported before it is asked for: :func:`find_method` imports one method, :func:`methods` all.
"""
from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from mpnp_ros.errors import ConfigurationError
from mpnp_ros.plug_ins import plug_ins

if TYPE_CHECKING:
    from mpnp_ros.llm.language_model import LanguageModel
    from mpnp_ros.methods.link import Link
    from mpnp_ros.methods.method import Method

ENTRY_POINTS = 'mpnp_ros.methods'
DEFAULT_METHOD = 'mpnp'


class Passes(NamedTuple):
    """Multiply-accumulates (MACs) of the forward and of the backward pass."""

    forward: float
    backward: float


@dataclass(frozen=True)
class LinkCost:
    """The cost of a link that hands a prefix to the uppermost blocks; its options are the first argument.

    macs: (options, texts, frames, tokens, question_tokens) -> Passes, for texts about that number of distinct
    frames with that number of tokens each.  columns: (options, tokens) -> columns that the link adds to each
    linked block.  activations: (options, tokens, question_tokens) -> estimate of the numbers that the link
    holds for the backward pass of one question.
    """

    macs: Callable[[Any, int, float, float, float], Passes]
    columns: Callable[[Any, float], float]
    activations: Callable[[Any, float, float], float]


@dataclass(frozen=True)
class MethodSpec:
    """The registration of a method; `method` gets it as its ``spec``.

    name: of its module or entry point, and the value of the parameter ``method``.
    summary: a noun phrase for the documentation.
    method: called with the language model, and with options by name.
    link: the class of its links; link files find it by its ``kind``.
    any_depth: whether links may be to any number of the uppermost blocks; False: the method sets the blocks.
    cost: of a link, by which a budget sets depth and length of training; None: a budget in MACs is refused,
    and links are trained as configured while there is time.
    trains_whole_model: whether training needs the language model from its token embeddings up.
    parameter_groups: learning rate group (see TrainerConfig) -> patterns of the names of a link's parameters;
    the first group that matches is the parameter's, all others are in the group ``all``.
    """

    name: str
    summary: str
    method: type[Method]
    link: type[Link]
    any_depth: bool = False
    cost: LinkCost | None = None
    trains_whole_model: bool = False
    parameter_groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.method.spec = self


def methods() -> dict[str, MethodSpec]:
    """Return all methods by name, sorted; a plug-in that cannot be used is logged and left out."""
    return {spec.name: spec for spec in sorted(_found(), key=lambda spec: spec.name)}


def find_method(name: str) -> MethodSpec:
    """Return one method; raises ConfigurationError that names the known ones."""
    found = next(_found(lambda module: module == name), None)
    if found is None:
        raise ConfigurationError(f'method {name!r} is unknown; there are {", ".join(methods())}')
    return found


def find_link(kind: str) -> type[Link]:
    """Return the class of links of a kind; raises ConfigurationError that names the known kinds."""
    found = next((spec.link for spec in _found() if spec.link.kind == kind), None)
    if found is not None:
        return found
    kinds = ', '.join(spec.link.kind for spec in methods().values())
    raise ConfigurationError(f'kind {kind!r}, but known are {kinds}')


def create_method(name: str, lm: LanguageModel, **options: Any) -> Method:
    """Build a method; raises ConfigurationError as :func:`find_method`."""
    return find_method(name).method(lm, **options)


def _found(wanted: Callable[[str], bool] = lambda name: True) -> Iterator[MethodSpec]:
    """Yield methods whose module or entry point has a wanted name: imported, built-in, plug-ins."""
    folder = sys.modules[__package__].__path__
    built_in = {entry.name: f'{__package__}.{entry.name}{".method" if entry.ispkg else ""}'
                for entry in pkgutil.iter_modules(folder)}
    for name, path in sorted(built_in.items(), key=lambda item: item[1] not in sys.modules):
        if wanted(name):
            module = importlib.import_module(path)
            if hasattr(module, 'SPEC'):
                yield module.SPEC
    yield from plug_ins(ENTRY_POINTS, MethodSpec, 'SPEC', built_in, wanted)
