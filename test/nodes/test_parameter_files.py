"""What a node says of parameter files and ROS arguments that rcl refuses: one line with the remedy, and 2."""
from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')

import rclpy
from rclpy.context import Context
from rclpy.impl.implementation_singleton import rclpy_implementation

from mpnp_ros.nodes.parameter_files import explain

HEAD = '/**:\n  ros__parameters:\n'


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
