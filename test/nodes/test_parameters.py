"""Parameters: every wrong value is refused with key and limit, at start, at run time and in a file."""
from __future__ import annotations

import dataclasses
import math
import subprocess
import sys

import pytest
import yaml

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')

import rclpy
from rclpy.context import Context
from rclpy.impl.implementation_singleton import rclpy_implementation

from mpnp_ros.errors import ConfigurationError
from mpnp_ros.nodes.parameters import declare_parameters, described, explain, markdown_table, yaml_text
from mpnp_ros.options import Change, Options, option


@dataclasses.dataclass(frozen=True)
class Declared(Options):
    rate: float = option(2.0, 'publications a second', unit='Hz', low=0.1, high=10.0, change=Change.LIVE)
    depth: int = option(5, 'messages kept', low=1, high=100, change=Change.LIVE)
    device: str = option('auto', 'where it runs', choices=('auto', 'cpu'), change=Change.LIVE)
    names: tuple[str, ...] = option(('left', 'right'), 'what there is', change=Change.LIVE)
    weights: tuple[float, ...] = option((0.5, 1.0), 'how much each counts', low=0.0, change=Change.LIVE)
    extra: tuple[str, ...] = option((), 'names that are not there by default', change=Change.LIVE)
    enabled: bool = option(True, 'whether it runs', change=Change.LIVE)
    path: str = option('a: b', 'text that needs quotes in YAML')


TABLE = tuple(Declared.declared())
RATE, DEPTH, DEVICE, NAMES, WEIGHTS, EXTRA, ENABLED, PATH = TABLE
HEAD = '/**:\n  ros__parameters:\n'


@pytest.fixture
def make_node(ros):
    """Make a node that declares its parameters under the given overrides, with its values."""
    from rclpy.parameter import Parameter as RosParameter
    nodes = []

    def make(**overrides):
        given = [RosParameter(key, value=value) for key, value in overrides.items()]
        nodes.append(rclpy.create_node('declared', context=ros.node.context, parameter_overrides=given))
        return nodes[-1], declare_parameters(nodes[-1], Declared)

    yield make
    for node in nodes:
        node.destroy_node()


@pytest.mark.parametrize('entry, value, words', [
    (RATE, 20.0, ['rate', '20', '0.1 to 10 Hz']),
    (RATE, math.nan, ['rate', 'nan', '0.1 to 10 Hz']),
    (RATE, 'fast', ['rate', 'float', "'fast'"]),
    (RATE, True, ['rate', 'float', 'True']),
    (DEPTH, 0, ['depth', '0', '1 to 100']),
    (DEPTH, 2.0, ['depth', 'int', '2.0']),
    (DEVICE, 'tpu', ['device', 'tpu', 'auto, cpu']),
    (NAMES, 'left', ['names', 'list of str']),
    (NAMES, [1], ['names', 'list of str']),
    (WEIGHTS, [1.0, -1.0], ['weights', '-1', 'at least 0']),
    (ENABLED, 1, ['enabled', 'bool']),
    (PATH, None, ['path', 'str', 'None']),
])
def test_a_wrong_value_is_named_with_its_limit(entry, value, words):
    problem = entry.problem(value)
    assert all(word in problem for word in words), problem


def test_defaults_and_overrides_arrive_in_their_declared_types(make_node):
    _, values = make_node(rate=3, weights=[1, 2], extra=['x'])
    assert (values.rate, type(values.rate)) == (3.0, float)
    assert values.weights == (1.0, 2.0)
    assert values['names'] == ('left', 'right')
    assert values.extra == ('x',)
    with pytest.raises(AttributeError, match='nonsense'):
        _ = values.nonsense


def test_an_empty_list_is_the_default_of_a_list_of_strings(make_node):
    assert make_node()[1].extra == ()


def test_every_refused_override_is_named(make_node):
    with pytest.raises(ConfigurationError, match='rate is 99.*depth must be an int'):
        make_node(rate=99.0, depth='many')


def test_a_change_is_refused_with_the_reason_and_leaves_the_value(make_node):
    from rclpy.parameter import Parameter as RosParameter
    node, values = make_node()
    changes = (('rate', 11.0, 'rate'), ('device', 'tpu', 'auto, cpu'), ('depth', 'x', 'depth'),
               ('path', 'new', 'path is read at start; restart the node to change it'))
    for key, value, reason in changes:
        result = node.set_parameters([RosParameter(key, value=value)])[0]
        assert not result.successful
        assert reason in result.reason
    assert (values.rate, values.device, values.depth, values.path) == (2.0, 'auto', 5, 'a: b')


def test_an_accepted_change_is_seen(make_node):
    from rclpy.parameter import Parameter as RosParameter
    node, values = make_node()
    assert node.set_parameters([RosParameter('rate', value=4)])[0].successful
    assert values.rate == 4.0


def test_a_set_parameter_cannot_be_removed(make_node):
    from rclpy.parameter import Parameter as RosParameter
    node, values = make_node()
    assert not node.set_parameters([RosParameter('rate', RosParameter.Type.NOT_SET)])[0].successful
    assert values.rate == 2.0


def test_an_unknown_override_warns_and_suggests(make_node, capfd):
    make_node(rat=1.0)
    assert "did you mean 'rate'" in capfd.readouterr().err


def test_the_descriptor_tells_range_and_unit(make_node):
    node, _ = make_node()
    shown = node.describe_parameter('rate')
    assert (shown.floating_point_range[0].from_value, shown.floating_point_range[0].to_value) == (0.1, 10.0)
    assert shown.description.endswith('[Hz]')
    path, rate = (described(node.describe_parameter(name), Declared) for name in ('path', 'rate'))
    assert path.read_only and not rate.read_only
    assert path.additional_constraints == 'set at start'


def test_yaml_holds_every_default_and_an_empty_list_as_a_comment():
    text = yaml_text('node', TABLE)
    loaded = yaml.safe_load(text)['node']['ros__parameters']
    assert loaded == {entry.name: list(entry.default) if isinstance(entry.default, tuple) else entry.default
                      for entry in TABLE if entry.default != ()}
    assert '    # extra: []\n' in text


def test_the_markdown_table_has_one_row_for_each_parameter():
    lines = markdown_table(TABLE).splitlines()
    assert len(lines) == 2 + len(TABLE)
    assert '| `rate` | float | `2.0` | 0.1 to 10 Hz | any time | Publications a second. |' in lines


def test_a_change_that_another_part_refuses_is_not_followed(make_node):
    from rcl_interfaces.msg import SetParametersResult
    from rclpy.parameter import Parameter as RosParameter
    node, followed = rclpy.create_node('follower', context=make_node()[0].context), []
    declare_parameters(node, Declared, lambda name, value: followed.append((name, value)))
    node.add_on_set_parameters_callback(lambda changes: SetParametersResult(
        successful=all(change.value != 7 for change in changes), reason='not seven'))
    assert not node.set_parameters([RosParameter('depth', value=7)])[0].successful
    assert node.set_parameters([RosParameter('depth', value=8)])[0].successful
    assert followed == [('depth', 8)]
    node.destroy_node()


def refusal(*arguments):
    """Return what is said of ROS arguments, which rcl must refuse."""
    with pytest.raises((rclpy_implementation.RCLError, rclpy_implementation.UnknownROSArgsError)) as caught:
        rclpy.init(args=['node', '--ros-args', *arguments], context=Context())
    return explain(caught.value)


@pytest.mark.parametrize('text, line, words', [
    (HEAD + '    encoder.nominal_yaws: [0.0, 55, -55.0]\n', 3, ['encoder.nominal_yaws', 'write 55.0']),
    (HEAD + '    encoder:\n      nominal_yaws: [0, 55.0]\n', 4, ['encoder.nominal_yaws', 'write 0.0']),
    (HEAD + '    yaws:\n      - 0.0\n      - 55\n', 5, ['yaws', 'write 55.0']),
    (HEAD + '    names: [front, 1]\n', 3, ['names', "write '1', in quotes"]),
    (HEAD + '    names: [yes, front]\n', 3, ['names', "write 'yes', in quotes"]),
    (HEAD + '    yaws: [[1.0], [2.0]]\n', 3, ['yaws', 'list of lists']),
    (HEAD + '    slop:\n', 3, ['slop has no value']),
    (HEAD + '\tslop: 0.1\n', 3, ['indent with spaces']),
    (HEAD + '    slop: 0.1\n   depth: 2\n', 4, ['same column']),
    ('/**:\n  ros__parameters:\n  slop: 0.1\n', 2, ['indent them further']),
    ('camera_encoder:\n  slop: 0.1\n', 2, ['slop', 'outside of ros__parameters']),
    ('camera_encoder:\n  ros_parameters:\n    slop: 0.1\n', 2, ['two underscores']),
    ('slop: 0.1\n', 1, ['slop', 'outside of ros__parameters']),
    ('- slop\n', 1, ['outside of ros__parameters']),
    (HEAD + '    image_topic: {camera}/image\n', 3, ['quote what begins with {']),
    (HEAD + '    image_topic: a: b\n', 3, ['quote values']),
    (HEAD + "    image_topic: 'a\n", 4, ['close the quotes']),
])
def test_a_file_is_named_with_the_line_and_what_to_write(tmp_path, text, line, words):
    file = tmp_path / 'mine.yaml'
    file.write_text(text)
    said = refusal('--params-file', str(file))
    assert said.startswith(f'{file}, line {line}: ')
    assert all(word in said for word in words), said
    assert '\n' not in said and '.c:' not in said


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    assert refusal('--params-file', str(tmp_path / 'none.yaml')).endswith('No such file or directory')
    (tmp_path / 'image.yaml').write_bytes(b'\xff\xd8\xff\xe0')
    assert 'not text in UTF-8' in refusal('--params-file', str(tmp_path / 'image.yaml'))


@pytest.mark.parametrize('arguments, words', [
    (['-p', 'yaws:=[1, 2.0]'], ['-p yaws:=[1, 2.0]', 'write 1.0']),
    (['-p', 'slop'], ['write -p name:=value']),
    (['-p', 'slop:='], ['slop has no value']),
    (['-r', 'nonsense'], ["remap rule: '-r nonsense'"]),
    (['--nonsense'], ['--nonsense']),
])
def test_other_arguments_are_named(arguments, words):
    said = refusal(*arguments)
    assert all(word in said for word in words) and '\n' not in said and '.c:' not in said, said


@pytest.mark.ros
def test_a_node_ends_with_one_line_and_the_exit_code_of_wrong_parameters(tmp_path):
    file = tmp_path / 'mine.yaml'
    file.write_text(HEAD + '    encoder.nominal_yaws: [0.0, 55]\n')
    ended = subprocess.run([sys.executable, '-m', 'mpnp_ros.nodes.encoder', 'camera', '--ros-args',
                            '--params-file', str(file)], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert f'{file}, line 3: encoder.nominal_yaws mixes float and int; write 55.0' in ended.stderr
    assert 'Traceback' not in ended.stderr and ended.stderr.count('[mpnp_ros]') == 1
