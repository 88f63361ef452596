"""The package as a whole: versions, executables, installed files, docstrings, who may import whom."""
from __future__ import annotations

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import mpnp_ros
from mpnp_ros.cli.main import COMMANDS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / 'mpnp_ros'
MODULES = sorted(PACKAGE.rglob('*.py'))
ROS = {'rclpy', 'launch', 'launch_ros', 'ament_index_python', 'cv_bridge', 'sensor_msgs_py',
       'action_msgs', 'builtin_interfaces', 'diagnostic_msgs', 'geometry_msgs', 'lifecycle_msgs', 'nav_msgs',
       'rcl_interfaces', 'rosgraph_msgs', 'sensor_msgs', 'std_msgs', 'tf2_msgs', 'visualization_msgs',
       'mpnp_ros.msg', 'mpnp_ros.srv', 'mpnp_ros.action'}
MAY_TOUCH_ROS = {'conversions', 'nodes'}
BASE = {'errors', 'tokens', 'cache', 'contents', 'precision', 'locations', 'options', 'progress'}
# What a folder may import of this package, at the top or in a function.
MAY_IMPORT = {
    'errors': set(), 'tokens': {'errors'}, 'cache': {'errors'}, 'contents': {'errors'},
    'precision': {'errors'}, 'options': {'errors'}, 'memory': set(), 'progress': set(), 'tie': set(),
    'locations': {'errors'}, 'transport': {'errors', 'locations'}, 'supervisor': {'errors', 'tie'},
    'llm': BASE, 'methods': BASE | {'llm'},
    'modalities': BASE, 'nuscenes': BASE,
    'world': BASE | {'nuscenes'},
    'adaptation': BASE | {'llm', 'methods', 'modalities', 'nuscenes', 'world', 'memory',
                          'supervisor'},
    'serving': BASE | {'llm', 'methods', 'memory'},
    'conversions': BASE | {'modalities'},
    'node_names': {'errors'}, 'client': {'errors', 'node_names', 'transport'},
}


def folder_of(module: Path) -> str:
    """Top folder or module name: llm, nodes, errors, ..."""
    return module.relative_to(PACKAGE).parts[0].removesuffix('.py')


def imports(module: Path, top_level_only: bool = False) -> Iterator[str]:
    """Absolute names of the modules that one imports; not those that only the type checker sees."""
    pending: list[ast.AST] = list(ast.parse(module.read_text()).body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            inside = module.relative_to(ROOT).with_suffix('').parts[:-node.level] if node.level else ()
            base = '.'.join((*inside, *filter(None, [node.module])))
            yield base
            if base == 'mpnp_ros':
                yield from (f'{base}.{alias.name}' for alias in node.names)
        elif isinstance(node, ast.If) and 'TYPE_CHECKING' in ast.unparse(node.test):
            pending += node.orelse
        elif not (top_level_only and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            pending += ast.iter_child_nodes(node)


def name(module: Path) -> str:
    """Readable test name."""
    return str(module.relative_to(PACKAGE))


def test_versions_agree():
    manifest = ElementTree.parse(ROOT / 'package.xml').getroot()
    assert manifest.findtext('version') == mpnp_ros.__version__
    assert manifest.findtext('name') == 'mpnp_ros'
    assert re.search(r'project\(mpnp_ros\)', (ROOT / 'CMakeLists.txt').read_text())


def executables() -> dict[str, str]:
    """Executable -> module:function."""
    text = (ROOT / 'resource/executables.txt').read_text()
    return dict(re.findall(r'^([a-z]\w*)\s*=\s*(\S+)$', text, re.M))


@pytest.mark.parametrize('executable', executables())
def test_every_executable_can_be_imported(executable):
    module, function = executables()[executable].split(':')
    if '.nodes.' in module:
        pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')
    assert callable(getattr(import_module(module), function))


@pytest.mark.parametrize('command', COMMANDS, ids=lambda command: command.name)
def test_every_subcommand_can_be_imported(command):
    if importlib.util.find_spec(command.module) is None:
        pytest.skip(f'{command.module} is not written yet')
    module = command.load()
    assert callable(module.run)
    assert callable(module.add_arguments)
    assert module.__doc__


def test_launch_and_config_are_installed():
    """CMake and pip install these folders as they are, so nothing else may lie in them."""
    command = 'install(DIRECTORY config launch worlds DESTINATION share/${PROJECT_NAME}'
    assert command in (ROOT / 'CMakeLists.txt').read_text()
    config_files = {file.name for file in (ROOT / 'config').iterdir()}
    assert config_files == {'fastdds.xml', 'gazebo_bridge.yaml', 'methods_lidar.yaml',
                            'methods_objects.yaml', 'mpnp.yaml', 'nuscenes.yaml',
                            'pretrain.yaml', 'study.yaml', 'train.yaml', 'world.yaml'}
    launch_files = {file.name for file in (ROOT / 'launch').iterdir() if file.is_file()}
    assert launch_files == {f'{name}.launch.py' for name in (
        'bringup', 'gazebo', 'nuscenes_replay', 'world')}


@pytest.mark.parametrize('module', MODULES, ids=name)
def test_everything_public_has_a_docstring(module):
    tree = ast.parse(module.read_text())
    assert ast.get_docstring(tree), 'the module has none'
    for item in public_items(tree):
        assert ast.get_docstring(item), item.name


def public_items(tree: ast.Module) -> Iterator[ast.ClassDef | ast.FunctionDef]:
    """Public classes, their public methods, and functions."""
    for node in tree.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef) or node.name.startswith('_'):
            continue
        yield node
        for item in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(item, ast.FunctionDef) and not item.name.startswith('_') and not is_known(item):
                yield item


def is_known(method: ast.FunctionDef) -> bool:
    """Whether its name says it all: forward of torch, or the setter of a property."""
    return method.name == 'forward' or any('setter' in ast.unparse(entry) for entry in method.decorator_list)


@pytest.mark.parametrize(
    'module', [file for file in MODULES if folder_of(file) not in MAY_TOUCH_ROS], ids=name)
def test_only_nodes_and_conversions_import_ros_at_the_top(module):
    touched = {entry for entry in imports(module, top_level_only=True)
               if entry in ROS or entry.split('.')[0] in ROS}
    assert not touched


@pytest.mark.parametrize('module', [file for file in MODULES if folder_of(file) in MAY_IMPORT], ids=name)
def test_no_import_runs_back_up(module):
    own = folder_of(module)
    allowed = MAY_IMPORT[own] | {own}
    for entry in imports(module):
        parts = entry.split('.')
        if parts[0] == 'mpnp_ros' and len(parts) > 1 and entry not in ROS:
            assert parts[1] in allowed, f'{own} may not import {entry}'


@pytest.mark.parametrize('module', MODULES, ids=name)
def test_nothing_is_unpickled_and_no_code_comes_with_weights(module):
    nodes = ast.walk(ast.parse(module.read_text()))
    for call in (ast.unparse(node) for node in nodes if isinstance(node, ast.Call)):
        assert not re.match(r'(pickle|joblib|dill)\.loads?\(', call), call
        assert not call.startswith('torch.load(') or 'weights_only=True' in call, call
        assert not re.search(r'(trust_remote_code|allow_pickle)=(?!False)', call), call


def test_every_test_belongs_to_a_ctest():
    """CMakeLists.txt makes one of each folder and of each file beside the folders."""
    for file in (ROOT / 'test').rglob('test_*.py'):
        folder = file.relative_to(ROOT / 'test').parts[0]
        assert folder == file.name or list((ROOT / 'test' / folder).glob('*.py')), file


@pytest.mark.skipif(not os.environ.get('MPNP_TEST_COLCON'), reason='takes a minute; set MPNP_TEST_COLCON=1')
@pytest.mark.ros
@pytest.mark.timeout(600)
def test_colcon_builds_a_workspace_that_runs(tmp_path):
    """As a user's workspace: build, source, run an executable of it."""
    if not shutil.which('colcon'):
        pytest.skip('colcon is not installed')
    shutil.copytree(ROOT, tmp_path / 'src/mpnp_ros', ignore=shutil.ignore_patterns(
        '.*', 'build', 'install', 'log', '*.egg-info', '__pycache__'))
    subprocess.run(['colcon', 'build', '--cmake-args', '-DBUILD_TESTING=OFF'], cwd=tmp_path, check=True)
    script = 'source install/setup.bash && install/mpnp_ros/lib/mpnp_ros/mpnp --version'
    environment = {'AMENT_PREFIX_PATH': sys.prefix, **os.environ}
    done = subprocess.run(['bash', '-c', script], cwd=tmp_path, env=environment, text=True,
                          capture_output=True)
    assert done.stdout == f'mpnp_ros {mpnp_ros.__version__}\n', done.stderr
