"""Options, declared once: parameters of nodes, YAML files, command lines and pages come from one dataclass.

A class derives from :class:`Options` and declares each field with :func:`option`::

    @dataclass(frozen=True)
    class PlayerOptions(Options):
        rate: float = option(1.0, 'speed; 1 is real time', low=0.01, high=100, change=Change.LIVE)

Type, limits and choices are checked here and nowhere else; a rule over several options is written as
:meth:`Options.check`.  A field whose type is another class of options is a section: ``encoder.columns`` is
the name of the option ``columns`` of the section ``encoder``.
"""
from __future__ import annotations

import dataclasses
import difflib
import math
import re
import typing
from argparse import ArgumentParser, BooleanOptionalAction, Namespace, _ArgumentGroup
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mpnp_ros.errors import ConfigurationError

if TYPE_CHECKING:
    from typing_extensions import Self


class Change(Enum):
    """When a running node takes a new value.  At any other time a change is refused with the reason."""

    LIVE = 'any time'
    ACTIVATE = 'before it is activated'
    CONFIGURE = 'before it is configured'
    START = 'at start'


class OptionError(ConfigurationError):
    """Options are refused.

    problems: a sentence for each, which begins with the name of the option.  source: the file that the
    values came from, if it is known.
    """

    def __init__(self, problems: Sequence[str], source: str | Path = '') -> None:
        self.problems = tuple(problems)
        super().__init__(f'{source}: ' * bool(source) + '; '.join(problems))


def option(default: Any = MISSING, help: str = '', *, unit: str = '', low: float | None = None,
           high: float | None = None, choices: Sequence[Any] = (), change: Change = Change.START,
           **notes: Any) -> Any:
    """Declare a field of :class:`Options`.

    default: without one the option must be given.  help: for the documentation, ``--help`` and
    ``ros2 param describe``.  unit: of the value, e.g. ``s``.  low, high: inclusive limits of a number;
    they and choices, the allowed values, hold for every item of a list.  change: when a running node takes
    a new value; that of a section holds for all its options.

    notes: what else is known.  ``flat``: the options of this section are named without it.  ``flag``,
    ``metavar``: on a command line, where they do not follow from the name.  ``installed``:
    the default depends on which packages are installed.  ``shapes_tokens``, ``added``: see
    :class:`~mpnp_ros.modalities.registry.EncoderConfig`.
    """
    metadata = {'help': help, 'unit': unit, 'low': low, 'high': high, 'choices': tuple(choices),
                'change': change, **notes}
    if isinstance(default, Mapping):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class OptionSpec:
    """The declaration of one option.

    name: as in a parameter file, with its sections: ``encoder.columns``.  path: the attributes that lead to
    it.  default: MISSING where it must be given.  kind: type of the value or, with is_list, of its items:
    bool, int, float, str, dict for a mapping, or a class of options for a section.  length: of a list, where
    it is fixed.  items: the class of options that the values of a mapping are, or None.
    """

    name: str
    path: tuple[str, ...]
    default: Any
    kind: type
    help: str = ''
    unit: str = ''
    low: float | None = None
    high: float | None = None
    choices: tuple[Any, ...] = ()
    change: Change = Change.START
    is_list: bool = False
    length: int | None = None
    items: type[Options] | None = None
    notes: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def is_section(self) -> bool:
        """Whether it stands for options of its own."""
        return issubclass(self.kind, Options)

    @property
    def type_name(self) -> str:
        """Type in words, e.g. ``list of float``."""
        name = 'mapping' if self.kind is dict else self.kind.__name__
        return f'list of {name}' if self.is_list else name

    @property
    def constraint(self) -> str:
        """Limits in words, with the unit; empty where there are none."""
        unit = f' {self.unit}' if self.unit else ''
        if self.choices:
            return 'one of ' + ', '.join(str(choice) or "''" for choice in self.choices)
        if self.low is not None and self.high is not None:
            return f'{self.low:g} to {self.high:g}{unit}'
        if self.low is not None:
            return f'at least {self.low:g}{unit}'
        return f'at most {self.high:g}{unit}' if self.high is not None else ''

    @property
    def description(self) -> str:
        """The help text as a sentence; what begins with a value of the option keeps its spelling."""
        word = re.match(r'[^\s:;,(]*', self.help)[0]  # type: ignore[index]  # it always matches
        value = '-' in word or '_' in word or word in self.choices
        return (self.help[:1] if value else self.help[:1].upper()) + self.help[1:].rstrip('.') + '.'

    def problem(self, value: Any) -> str:
        """Why a value is refused, naming the option and what is allowed; empty where it is right."""
        try:
            self.convert(value)
        except OptionError as error:
            return '; '.join(error.problems)
        return ''

    def convert(self, value: Any) -> Any:
        """The value in the declared type: whole numbers become floats, lists tuples.

        Raises OptionError for a wrong type, a value out of range and one that is no choice.
        """
        if value is MISSING:
            raise OptionError([f'{self.name} must be given'])
        if self.is_section:
            return self._section(value)
        if self.is_list:
            return self._list(value)
        if self.kind is dict:
            return self._mapping(value)
        return self._scalar(value)

    def _section(self, value: Any) -> Any:
        if isinstance(value, self.kind):
            return value
        if not isinstance(value, Mapping):
            raise OptionError([f'{self.name} must be a mapping of options, not {value!r}'])
        try:
            if self.default is MISSING:
                return self.kind.from_mapping(value)  # type: ignore[attr-defined]
            return self.default.changed(**{str(name): item for name, item in value.items()})
        except OptionError as error:
            prefix = '' if self.notes.get('flat') else f'{self.name}.'
            raise OptionError([prefix + problem for problem in error.problems]) from None

    def _list(self, value: Any) -> tuple[Any, ...]:
        if value is None and self.default == ():
            return ()  # what ROS makes of an empty list in a file
        if value is None:
            raise OptionError([f'{self.name} has no value, as ROS reads []; leave it out, or give a '
                               f'{self.type_name}'])
        if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
            raise OptionError([f'{self.name} must be a {self.type_name}, not {value!r}'])
        items = tuple(map(self._scalar, value))
        if self.length not in (None, len(items)):
            raise OptionError([f'{self.name} is {list(items)}; it must have {self.length} items'])
        return items

    def _mapping(self, value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise OptionError([f'{self.name} must be a mapping, not {value!r}'])
        if self.items is None:
            return dict(value)
        made: dict[str, Any] = {}
        problems: list[str] = []
        for key, item in value.items():
            section = OptionSpec(f'{self.name}.{key}', (), MISSING, self.items)
            try:
                made[key] = section.convert({} if item is None else item)
            except OptionError as error:
                problems += error.problems
        if problems:
            raise OptionError(problems)
        return made

    def _scalar(self, value: Any) -> Any:
        if isinstance(value, bool) and 'true' in self.choices:
            value = str(value).lower()  # YAML makes a boolean of the word
        given = type(value)
        if given is not self.kind and not (self.kind is float and given is int):
            article = 'an' if self.type_name == 'int' else 'a'
            raise OptionError([f'{self.name} must be {article} {self.type_name}, not {value!r}'])
        if self.choices and value not in self.choices:
            raise OptionError([f'{self.name} is {value!r}; it must be {self.constraint}'])
        if self.kind in (int, float):
            low = -math.inf if self.low is None else self.low
            high = math.inf if self.high is None else self.high
            if not math.isfinite(value) or not low <= value <= high:
                shown = f'{value:g}' if isinstance(value, float) else value
                raise OptionError([f'{self.name} is {shown}; it must be {self.constraint or "finite"}'])
        return self.kind(value)

    def add_argument(self, parser: ArgumentParser | _ArgumentGroup) -> None:
        """Add the option of a command line; None stands for one that is not given."""
        flag = self.notes.get('flag') or '--' + self.path[-1].replace('_', '-')
        text = self.help.replace('%', '%%')
        if self.kind is bool:
            action: Any = BooleanOptionalAction if self.default else 'store_const'
            const: dict[str, Any] = {} if self.default else {'const': True}
            parser.add_argument(flag, dest=self.name, action=action, default=None, help=text, **const)
            return
        parser.add_argument(flag, dest=self.name, type=self.kind, choices=self.choices or None,
                            nargs='+' if self.is_list else None, help=text,
                            metavar=self.notes.get('metavar', None if self.choices else
                                                   self.unit.upper() or self.kind.__name__.upper()))


@dataclass(frozen=True)
class Options:
    """Base of dataclasses whose fields are all made by :func:`option`.

    Raises OptionError naming every option that is refused, not only the first.
    """

    def __post_init__(self) -> None:
        problems: list[str] = []
        whole = True
        for spec in _fields(type(self)):
            value = getattr(self, spec.name)
            try:
                value = spec.convert(value)
            except OptionError as error:
                problems += error.problems
                value, whole = spec.default, whole and spec.default is not MISSING
            object.__setattr__(self, spec.name, value)
        if whole:
            problems += self.check()
        if problems:
            raise OptionError(problems)

    def check(self) -> Iterable[str]:
        """Why right values cannot go together; each sentence begins with the name of an option."""
        return ()

    @classmethod
    def load(cls, path: str | Path, section: str = '') -> Self:
        """Read a YAML file, or one section of it; OptionError names the file and what is wrong in it."""
        entries = read_yaml(path)
        if section:
            if not isinstance(entries.get(section), Mapping):
                raise OptionError([f'there is no section {section!r}; there are {", ".join(entries)}'], path)
            entries = entries[section]
        return cls.from_mapping(entries, path)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], source: str | Path = '') -> Self:
        """Return the options with values over the defaults.

        values: by name; those of a section by their full names or as a mapping of its own.  source: the file
        that they came from.  Raises OptionError for an unknown name, one that is missing and a wrong value.
        """
        specs = {spec.name: spec for spec in _fields(cls)}
        given: dict[str, Any] = {}
        problems = _put(given, values, specs, {row.name: row.path for row in cls.declared()})
        missing = {name: MISSING for name, spec in specs.items() if spec.default is MISSING}
        try:
            made = cls(**{**missing, **given})
        except OptionError as error:
            problems += error.problems
        if problems:
            raise OptionError(problems, source)
        return made

    def changed(self, **values: Any) -> Self:
        """Return the options with other values, named as in :meth:`from_mapping`; raises OptionError."""
        mapping = self._shallow()
        problems = _put(mapping, values, {spec.name: spec for spec in _fields(type(self))},
                        {row.name: row.path for row in type(self).declared()})
        try:
            made = type(self).from_mapping(mapping)
        except OptionError as error:
            problems += error.problems
        if problems:
            raise OptionError(problems)
        return made

    def to_mapping(self) -> dict[str, Any]:
        """Return plain values that YAML and JSON can hold; :meth:`from_mapping` reads them."""
        return {spec.name: _plain(getattr(self, spec.name)) for spec in _fields(type(self))}

    @classmethod
    def declared(cls, prefix: str = '') -> Iterator[OptionSpec]:
        """Yield every option, those of sections in their place, under the names of a parameter file."""
        for spec in _fields(cls):
            if not spec.is_section:
                yield dataclasses.replace(spec, name=prefix + spec.name)
                continue
            inner = prefix if spec.notes.get('flat') else f'{prefix}{spec.name}.'
            for row in spec.kind.declared(inner):  # type: ignore[attr-defined]
                change = row.change if spec.change is Change.START else spec.change
                default = row.default
                if spec.default is not MISSING:
                    default = _at(spec.default, row.path)
                yield dataclasses.replace(row, path=(spec.name, *row.path), change=change, default=default)

    @classmethod
    def add_arguments(cls, parser: ArgumentParser | _ArgumentGroup, only: Sequence[str] = ()) -> None:
        """Add options to a command line: all, or those of these names."""
        for row in cls.declared():
            if row.kind is not dict and (not only or row.name in only):
                row.add_argument(parser)

    @classmethod
    def given(cls, arguments: Namespace) -> dict[str, Any]:
        """Return what a command line with :meth:`add_arguments` gives, by name, for :meth:`changed`."""
        values = {row.name: getattr(arguments, row.name, None) for row in cls.declared()}
        return {name: value for name, value in values.items() if value is not None}

    def __getitem__(self, name: str) -> Any:
        """Return the value of the option of that name, e.g. ``encoder.columns``."""
        for row in type(self).declared():
            if row.name == name:
                return _at(self, row.path)
        raise KeyError(name)

    def _shallow(self) -> dict[str, Any]:
        """Return the values of the fields, those of sections as mappings."""
        return {spec.name: value._shallow() if spec.is_section else value for spec in _fields(type(self))
                for value in [getattr(self, spec.name)]}


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Return the mapping in a YAML file, an empty one of an empty file.

    Raises OptionError, naming the file and the line, where it cannot be read or holds something else.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding='utf-8'))
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError([f'it cannot be read: {getattr(error, "strerror", None) or error}'],
                          path) from None
    except yaml.YAMLError as error:
        mark = getattr(error, 'problem_mark', None)
        place = f'line {mark.line + 1} is' if mark else 'it is'
        raise OptionError([f'{place} not YAML: {getattr(error, "problem", None) or error}'], path) from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise OptionError([f'it must hold options as name: value, not {content!r:.60}'], path)
    return content


_known: dict[type[Options], tuple[OptionSpec, ...]] = {}


def _fields(cls: type[Options]) -> tuple[OptionSpec, ...]:
    """The declarations of a class, sections not unfolded."""
    if cls in _known:
        return _known[cls]
    hints = typing.get_type_hints(cls)
    if taken := [item.name for item in dataclasses.fields(cls) if hasattr(Options, item.name)]:
        raise ConfigurationError(f'{cls.__name__}: {", ".join(taken)} is a method of all options; rename it')
    _known[cls] = tuple(_spec(item, hints[item.name]) for item in dataclasses.fields(cls))
    return _known[cls]


def _spec(item: dataclasses.Field[Any], hint: Any) -> OptionSpec:
    notes = dict(item.metadata)
    known = {key: notes.pop(key) for key in ('help', 'unit', 'low', 'high', 'choices', 'change')}
    default = item.default_factory() if item.default_factory is not MISSING else item.default
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    shape: dict[str, Any] = {'kind': hint}
    if origin is tuple:
        fixed = Ellipsis not in arguments
        shape = {'kind': arguments[0], 'is_list': True, 'length': len(arguments) if fixed else None}
    elif origin is not None:  # a mapping
        values = arguments[1] if len(arguments) > 1 else Any
        shape = {'kind': dict,
                 'items': values if isinstance(values, type) and issubclass(values, Options) else None}
    spec = OptionSpec(item.name, (item.name,), default, notes=notes, **known, **shape)
    if default is not MISSING and (problem := spec.problem(default)):
        raise ConfigurationError(f'default: {problem}')
    return spec


def _put(mapping: dict[str, Any], values: Mapping[str, Any], specs: Mapping[str, OptionSpec],
         paths: Mapping[str, Sequence[str]]) -> list[str]:
    """Put values into the mapping of a class of options, by their names; return what is no name."""
    problems = []
    for name, value in values.items():
        spec = specs.get(name)
        if spec is not None:
            if value is None and (spec.is_section or spec.kind is dict):
                value = {}  # a key of a YAML file with nothing below it
            if spec.is_section and isinstance(value, Mapping):
                value = {**mapping.get(name, {}), **value}
            mapping[name] = value
        elif name in paths:
            *sections, last = paths[name]
            inner = mapping
            for section in sections:
                inner = inner.setdefault(section, {})
            inner[last] = value
        else:
            near = difflib.get_close_matches(str(name), paths, 1)
            hint = f'did you mean {near[0]}?' if near else f'there are {", ".join(paths)}'
            problems.append(f'{name} is no option; {hint}')
    return problems


def _at(options: Any, path: Sequence[str]) -> Any:
    for name in path:
        options = getattr(options, name)
    return options


def _plain(value: Any) -> Any:
    if isinstance(value, Options):
        return value.to_mapping()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value
