"""Explain invalid ROS arguments of a node in one line."""
from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import yaml

RCL_PLACE = re.compile(r',? at (/|[\w.]+\.c:)\S+')
OF_FILE = re.compile(r"'--params-file (?P<path>.*?)'\. Error: (?P<reason>.*)", re.DOTALL)
OF_VALUE = re.compile(r"parameter override rule: '-p (?P<rule>.*?)'\. Error: (?P<reason>.*)", re.DOTALL)
KEY = 'ros__parameters'
BOOL = re.compile(r'y|n|yes|no|true|false|on|off', re.IGNORECASE)
INT = re.compile(r'[-+]?(0x[0-9a-fA-F]+|0o?[0-7]+|[0-9]+)')
FLOAT = re.compile(r'[-+]?(\.inf|(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?)|\.nan', re.IGNORECASE)
REMEDIES = (('\\t', 'indent with spaces, not with tabs'),
            ('block end', 'let keys of one level begin in the same column, and quote what begins with {'),
            ('block mapping', 'let keys of one level begin in the same column'),
            ('mapping values', "indent as in config/mpnp.yaml, and quote values with ': ' in them"),
            ('quoted scalar', 'close the quotes'))


def explain(error: Exception) -> str:
    """Return the error of rcl in one line: file, line and remedy."""
    text = ' '.join(RCL_PLACE.sub('', str(error)).split()).removeprefix('failed to initialize rcl: ')
    if match := OF_FILE.search(text):
        path = match['path']
        return _file_problem(Path(path)) or f'{path}: {match["reason"]}; see config/mpnp.yaml for the form'
    if match := OF_VALUE.search(text):
        name, assigned, value = match['rule'].partition(':=')
        problem = _value_problem(name, value) if assigned else 'write -p name:=value'
        return f'-p {match["rule"]}: {problem or match["reason"]}'
    return f'the ROS arguments are wrong: {text}'


def _file_problem(path: Path) -> str:
    try:
        text = path.read_text(encoding='utf-8')
    except OSError as error:
        return f'parameter file {path} cannot be read: {error.strerror}'
    except UnicodeDecodeError:
        return f'parameter file {path} is not text in UTF-8; save it as such'
    try:
        root = yaml.compose(text, yaml.SafeLoader)
        return next((f'{path}, line {line}: {problem}' for line, problem in _problems(root)), '')
    except yaml.MarkedYAMLError as error:
        said = f'{error.problem or error.context}'
        remedy = next((remedy for words, remedy in REMEDIES if words in f'{said} {error.context}'),
                      'see config/mpnp.yaml for the form')
        mark = error.problem_mark or error.context_mark
        return f'{path}, line {mark.line + 1 if mark else 0}: not YAML, {said}; {remedy}'
    except yaml.YAMLError as error:
        return f'{path}: not YAML, {" ".join(str(error).split())}'


def _problems(node: yaml.Node, inside: bool = False, name: str = '') -> Iterator[tuple[int, str]]:
    """Yield lines and problems of a part of the file, ``inside`` ros__parameters or around it."""
    if not isinstance(node, yaml.MappingNode):
        if inside:
            yield from _value_problems(node, name)
        else:
            yield _line(node), f'{name or "a value"} stands outside of {KEY}; write <node>:, below it ' \
                               f'{KEY}:, and below that the parameters, each indented further'
        return
    for key, value in node.value:
        label = f'{name}.{key.value}' if inside and name else str(key.value)
        if not inside and key.value != KEY and re.fullmatch(r'ros_*param\w*', str(key.value)):
            yield _line(key), f'{key.value} is not {KEY}; write it with two underscores'
        elif not inside and key.value == KEY and not isinstance(value, yaml.MappingNode):
            yield _line(key), f'no parameters below {KEY}; indent them further than it'
        else:
            yield from _problems(value, inside or key.value == KEY, '' if key.value == KEY else label)


def _value_problems(node: yaml.Node, name: str) -> Iterator[tuple[int, str]]:
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            if not isinstance(item, yaml.ScalarNode):
                yield _line(item), f'{name} is a list of lists; ROS has lists of plain values only'
                return
        kinds = [_kind(item) for item in node.value]
        for item, kind in zip(node.value, kinds, strict=True):
            if kind != kinds[0]:
                yield _line(item), f'{name} mixes {kinds[0]} and {kind}; {_instead(node, kinds)}'
                return
    elif isinstance(node, yaml.ScalarNode) and node.style is None and not node.value:
        yield _line(node), f'{name} has no value; give it one, or leave the line out'


def _instead(node: yaml.SequenceNode, kinds: list[str]) -> str:
    """Return the replacement of the first item that makes a list mixed."""
    numbers = set(kinds) <= {'int', 'float'}
    for item, kind in zip(node.value, kinds, strict=True):
        if numbers and kind == 'int':
            return f'write {item.value}.0'
        if not numbers and kind != 'str':
            return f"write '{item.value}', in quotes"
    return 'give values of one type'


def _value_problem(name: str, value: str) -> str:
    try:
        node = yaml.compose(value, yaml.SafeLoader)
    except yaml.YAMLError as error:
        return f'not YAML, {getattr(error, "problem", error)}'
    if node is None:
        return f"{name} has no value; write -p {name}:=\"''\" for an empty text"
    return next((problem for _, problem in _value_problems(node, name)), '')


def _kind(item: yaml.ScalarNode) -> str:
    """Return the type that rcl infers for a value."""
    if item.style is not None:
        return 'str'
    patterns = {'bool': BOOL, 'int': INT, 'float': FLOAT}
    return next((kind for kind, pattern in patterns.items() if pattern.fullmatch(item.value)), 'str')


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1
