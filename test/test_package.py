"""The package as a whole: versions, executables, installed files, who may import whom."""
from __future__ import annotations

import ast
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
ROOFS = {'mpnp_ros': set(), 'mpnp_world': {'mpnp_ros'}, 'bench': {'mpnp_ros', 'mpnp_world'}}
"""What each package imports of the others."""
SIMULATOR = PACKAGE / 'cli/simulator.py'
"""Where the `mpnp` command looks for the simulator."""
INTERFACES = {'msg', 'srv', 'action'}
BASE = {'errors', 'tokens', 'files', 'device', 'options', 'progress', 'endpoints', 'plug_ins', 'poses'}
# What a folder may import of this package, at the top or in a function.
MAY_IMPORT = {
    'errors': set(), 'tokens': {'errors'}, 'files': {'errors'}, 'device': {'errors'},
    'options': {'errors'}, 'progress': set(), 'tie': set(), 'transport': {'errors', 'files'},
    'supervisor': {'errors', 'tie'}, 'endpoints': set(), 'plug_ins': {'errors'},
    'llm': BASE, 'methods': BASE | {'llm'},
    'poses': set(), 'questions': BASE, 'nuscenes': BASE | {'questions'},
    'detection': BASE | {'questions'},
    'modalities': BASE | {'nuscenes', 'questions', 'detection'}, 'bags': BASE | {'nuscenes', 'questions'},
    'training': BASE | {'llm', 'methods', 'modalities', 'nuscenes', 'questions'},
    'adaptation': BASE | {'llm', 'methods', 'modalities', 'questions', 'training', 'supervisor'},
    'serving': BASE | {'llm', 'methods', 'questions'},
    'conversions': BASE | {'questions', 'modalities', 'detection'},
    'node_names': {'errors', 'modalities'}, 'client': {'endpoints', 'errors', 'node_names', 'transport'},
}


def folder_of(module: Path) -> str:
    """Top folder or module name: llm, nodes, errors, ...; the node of a sensor is one of the nodes."""
    if module.match('modalities/*/node.py'):
        return 'nodes'
    return module.relative_to(PACKAGE).parts[0].removesuffix('.py')


def imports(module: Path, late: bool = True) -> Iterator[str]:
    """Absolute names of what a module imports; not what only the type checker sees.

    late: also inside functions.
    """
    pending: list[ast.AST] = list(ast.parse(module.read_text()).body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            inside = module.relative_to(ROOT).with_suffix('').parts[:-node.level] if node.level else ()
            base = '.'.join((*inside, *filter(None, [node.module])))
            yield from (base, *(f'{base}.{alias.name}' for alias in node.names))
        elif isinstance(node, ast.If) and 'TYPE_CHECKING' in ast.unparse(node.test):
            pending += node.orelse
        elif late or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            pending += ast.iter_child_nodes(node)


def test_versions_agree():
    manifest = ElementTree.parse(ROOT / 'package.xml').getroot()
    assert manifest.findtext('version') == mpnp_ros.__version__
    assert manifest.findtext('name') == 'mpnp_ros'
    assert re.search(r'project\(mpnp_ros\)', (ROOT / 'CMakeLists.txt').read_text())


def executables() -> dict[str, str]:
    """Executable -> module:function."""
    text = (ROOT / 'resource/executables.txt').read_text()
    return dict(re.findall(r'^([a-z]\w*)\s*=\s*(\S+)$', text, re.M))


def test_every_executable_can_be_imported():
    pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')
    for executable, target in executables().items():
        module, function = target.split(':')
        assert callable(getattr(import_module(module), function)), executable


def test_every_subcommand_can_be_imported():
    for command in COMMANDS:
        module = command.load()
        assert callable(module.run) and callable(module.add_arguments) and module.__doc__, command.name


def test_launch_and_config_are_installed():
    """CMake and pip install these folders as they are, so nothing else may lie in them."""
    command = 'install(DIRECTORY config launch worlds DESTINATION share/${PROJECT_NAME}'
    assert command in (ROOT / 'CMakeLists.txt').read_text()
    config_files = {file.name for file in (ROOT / 'config').iterdir()}
    assert config_files == {'fastdds.xml', 'gazebo_bridge.yaml', 'mpnp.yaml', 'nuscenes.yaml',
                            'train.yaml', 'world.yaml'}
    launch_files = {file.name for file in (ROOT / 'launch').iterdir() if file.is_file()}
    assert launch_files == {f'{name}.launch.py' for name in (
        'bringup', 'gazebo', 'nuscenes_replay', 'world')}


def test_no_import_runs_back_up():
    wrong = []
    for module in MODULES:
        own = folder_of(module)
        allowed = MAY_IMPORT.get(own)
        for entry in imports(module) if allowed is not None else ():
            parts = entry.split('.')
            if parts[0] == 'mpnp_ros' and len(parts) > 1 and parts[1] not in {own, *INTERFACES, *allowed}:
                wrong.append(f'{module.relative_to(ROOT)} imports {entry}')
    assert not wrong, '\n'.join(wrong)


def test_no_import_circle():
    """At the top level of modules."""
    names = {'.'.join(file.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__'): file
             for roof in ROOFS for file in (ROOT / roof).rglob('*.py')}
    left = {name: set(imports(file, late=False)) & names.keys() - {name} for name, file in names.items()}
    while free := [name for name, imported in left.items() if not imported & left.keys()
                   or not any(name in others for others in left.values())]:
        for name in free:  # it imports nothing that is left, or nothing that is left imports it
            del left[name]
    assert not left, f'in a circle, or between two: {", ".join(sorted(left))}'


def named_packages(module: Path) -> Iterator[str]:
    """Packages that a module imports, also late or for the type checker, or names as in `python -m`."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition('.')[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f'{module.relative_to(ROOT)} has a relative import'
            yield node.module.partition('.')[0]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and \
                re.fullmatch(r'mpnp_\w+(\.\w+)*|bench(\.\w+)+', node.value):
            yield node.value.partition('.')[0]


def test_a_package_imports_only_those_below():
    """Not even late: `mpnp_ros` runs where the others are not installed."""
    wrong = []
    for roof, allowed in ROOFS.items():
        for module in sorted((ROOT / roof).rglob('*.py')):
            named = (set(named_packages(module)) & ROOFS.keys()) - allowed - {roof}
            if named - ({'mpnp_world'} if module == SIMULATOR else set()):
                wrong.append(f'{module.relative_to(ROOT)} imports {", ".join(sorted(named))}')
    assert not wrong, '\n'.join(wrong)


def test_the_tour_shows_who_imports_whom():
    text = (ROOT / 'docs/guide/architecture.md').read_text()
    rows = dict(re.findall(r'^\| `(\w+)/` \|.*\| ([^|]*) \|$', text.split('## Layers')[0], re.M))
    assert {roof: set(re.findall(r'`(\w+)/`', cell)) for roof, cell in rows.items()} == ROOFS


def test_what_is_installed():
    """The benchmarks are run from a checkout."""
    folders = re.findall(r'install\(DIRECTORY (\S+)/\n', (ROOT / 'CMakeLists.txt').read_text())
    assert folders == ['${PROJECT_NAME}', 'mpnp_world']
    assert "PACKAGES = (NAME, 'mpnp_world')" in (ROOT / 'setup.py').read_text()


def test_weights_bring_no_code():
    """And no pickles, for which ruff has rules too."""
    wrong = []
    for module in sorted(file for roof in ROOFS for file in (ROOT / roof).rglob('*.py')):
        nodes = ast.walk(ast.parse(module.read_text()))
        for call in (ast.unparse(node) for node in nodes if isinstance(node, ast.Call)):
            if call.startswith('torch.load(') and 'weights_only=True' not in call or \
                    re.search(r'(trust_remote_code|allow_pickle)=(?!False)', call):
                wrong.append(f'{module.relative_to(ROOT)}: {call}')
    assert not wrong, '\n'.join(wrong)


def test_xml_is_well_formed():
    files = [file for pattern in ('*.xml', 'config/*.xml', 'worlds/*.sdf', 'requirements/*/*.xml')
             for file in ROOT.glob(pattern)]
    assert len(files) > 3
    for file in files:
        ElementTree.parse(file)


DEPENDENCIES = ('build_depend', 'build_export_depend', 'buildtool_depend', 'buildtool_export_depend',
                'exec_depend', 'depend', 'doc_depend', 'test_depend', 'conflict', 'replace')
# REP 149: package_format3.xsd
ELEMENTS = re.compile(r'name version description( maintainer)+( license)+( url)*( author)*'
                      rf'( ({"|".join(DEPENDENCIES)}))*( group_depend)*( member_of_group)*( export)?')


def test_the_manifest_is_valid():
    """As ament_xmllint finds with its schema: which elements there are, and in which order."""
    root = ElementTree.parse(ROOT / 'package.xml').getroot()
    assert (root.tag, dict(root.attrib)) == ('package', {'format': '3'})
    assert ELEMENTS.fullmatch(' '.join(child.tag for child in root))
    assert re.fullmatch(r'[\w+.-]+@([\w-]+\.)+[A-Za-z]{2,}', root.find('maintainer').get('email'))
    attributes = {'maintainer': {'email'}, 'license': {'file'}}
    assert all(child.attrib.keys() == attributes.get(child.tag, set()) for child in root)
    dependencies = [(child.tag, child.text) for child in root if child.tag in DEPENDENCIES]
    assert len(set(dependencies)) == len(dependencies)


def test_the_manifest_is_one_that_colcon_reads():
    package = pytest.importorskip('catkin_pkg.package')
    warnings = []
    assert package.parse_package(str(ROOT / 'package.xml'), warnings=warnings).name == 'mpnp_ros'
    assert not warnings


def test_the_licence_is_the_one_named():
    root = ElementTree.parse(ROOT / 'package.xml').getroot()
    licence, people = root.find('license'), (root.find('author').text, root.find('maintainer').text)
    text = (ROOT / licence.get('file')).read_text()
    assert (licence.text, text.split()[:4]) == ('Apache-2.0', ['Apache', 'License', 'Version', '2.0,'])
    done = subprocess.run([sys.executable, 'setup.py', '--version', '--license', '--author', '--maintainer'],
                          cwd=ROOT, text=True, capture_output=True)
    assert done.stdout.splitlines()[-4:] == [root.findtext('version'), licence.text, *people], done.stderr
    for page in ('README.md', 'QUALITY_DECLARATION.md'):
        assert licence.text in (ROOT / page).read_text(), page


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
    packages = next((tmp_path / 'install/mpnp_ros').rglob('mpnp_world')).parent
    assert (packages / 'mpnp_world/models/people.npz').is_file() and not (packages / 'bench').exists()
    script = 'source install/setup.bash && install/mpnp_ros/lib/mpnp_ros/mpnp --version'
    environment = {'AMENT_PREFIX_PATH': sys.prefix, **os.environ}
    done = subprocess.run(['bash', '-c', script], cwd=tmp_path, env=environment, text=True,
                          capture_output=True)
    assert done.stdout == f'mpnp_ros {mpnp_ros.__version__}\n', done.stderr
