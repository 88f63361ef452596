"""The generated documentation and parameter file are those that the code gives now."""
from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

pytest.importorskip('rclpy', reason='rclpy is not installed: the tables of the nodes cannot be read')
from mpnp_ros.cli import docs
from mpnp_ros.cli.main import main
from mpnp_ros.cli.node_processes import all_nodes, source_files

ROOT = Path(__file__).parents[1]
DOCUMENTS = ('docs/reference/interfaces.md', 'docs/reference/parameters.md', 'config/mpnp.yaml')


@pytest.fixture(scope='module')
def wanted() -> dict[str, str]:
    """What the generated files should hold."""
    return docs.documents(ROOT)


@pytest.mark.parametrize('name', DOCUMENTS)
def test_is_current(wanted, name):
    assert (ROOT / name).read_text() == wanted[name], f'{name} is not current; run `make docs`'


def test_an_outdated_file_is_found_and_written(tmp_path, monkeypatch, capsys):
    for name in DOCUMENTS:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text())
    for kind in ('msg', 'srv', 'action'):
        (tmp_path / kind).symlink_to(ROOT / kind)
    monkeypatch.setattr(docs, 'source_folder', lambda: tmp_path)
    (tmp_path / 'docs/reference/parameters.md').write_text('old')
    assert main(['docs', '--check']) == 1
    assert capsys.readouterr().err == 'docs/reference/parameters.md is not current; run `mpnp docs`\n'
    assert main(['docs']) == 0
    assert main(['docs', '--check']) == 0


@pytest.mark.parametrize('overlay', ['nuscenes', 'world'])
@pytest.mark.parametrize('node', all_nodes())
def test_the_parameter_file_is_accepted_by_every_node(node, overlay):
    """Read by ROS itself, under a namespace, and checked by the tables."""
    import rclpy
    from rclpy.context import Context

    from mpnp_ros.nodes.parameters import declare_parameters

    parameters = docs.parameters_of(node)
    table = list(parameters.declared())
    context = Context()
    overlays = source_files(f'config/{overlay}.yaml')
    files = [part for file in (ROOT / 'config/mpnp.yaml', *overlays) for part in ('--params-file', str(file))]
    arguments = ['--ros-args', *files, '-r', '__ns:=/robot1']
    rclpy.init(args=arguments, context=context)
    try:
        reader = rclpy.create_node(node, context=context)
        overrides = set(reader._parameter_overrides)
        values = declare_parameters(reader, parameters)
        sections = [yaml.safe_load(file.read_text()).get(f'/**/{node}', {}) for file in overlays]
        given = {name: value for section in sections
                 for name, value in section.get('ros__parameters', {}).items()}
        for entry in table:
            expected = given.get(entry.name, entry.default)
            expected = tuple(expected) if isinstance(expected, list) else expected
            assert values[entry.name] == expected, entry.name
        assert overrides == given.keys() | {entry.name for entry in table
                                            if entry.default != () and not entry.notes.get('installed')}
        reader.destroy_node()
    finally:
        rclpy.shutdown(context=context)


def test_every_link_between_documents_leads_somewhere():
    files = [ROOT / name for name in ('README.md', 'CONTRIBUTING.md') if (ROOT / name).is_file()]
    for file in [*files, *(ROOT / 'docs').rglob('*.md')]:
        text = file.read_text()
        for target in re.findall(r'\]\((?!https?:)([^)\s#]+)', text):
            assert (file.parent / target).exists(), f'{file.name} links to {target}'
        anchors = {re.sub(r'[^\w -]', '', heading).strip().replace(' ', '-').lower()
                   for heading in re.findall(r'^#+ (.+)$', text, re.M)}
        for anchor in re.findall(r'\]\(#([^)\s]+)\)', text):
            assert anchor in anchors, f'{file.name} links to #{anchor}'


def test_the_parameter_file_opens_with_the_command_that_uses_it():
    for name in ('mpnp', 'nuscenes', 'world'):
        assert (ROOT / f'config/{name}.yaml').read_text().startswith('# mpnp bringup --')


def test_first_page_and_tour_stay_short():
    assert len((ROOT / 'README.md').read_bytes()) <= 7000
    assert len((ROOT / 'docs/guide/architecture.md').read_text().split()) <= 1200


def test_files_named_in_the_guide_exist():
    for page in (ROOT / 'docs/guide').glob('*.md'):
        for name in re.findall(r'`(\w+(?:/\w+)+\.py)`', page.read_text()):
            found = any((folder / name).is_file() for folder in (ROOT, ROOT / 'mpnp_ros'))
            assert found, f'{page.name}: {name}'


def test_no_text_names_a_document_that_is_not_here():
    files = [file for roof in ('mpnp_ros', 'mpnp_world', 'bench') for file in (ROOT / roof).rglob('*.py')]
    files += [*(ROOT / 'docs').rglob('*.md'), ROOT / 'README.md']
    here = {page.name for folder in (ROOT / 'docs', ROOT / 'examples') for page in folder.rglob('*.md')}
    here |= {page.name for page in ROOT.glob('*.md')} | {f'{name}.md' for name in (
        'paper_scale', 'methods')}  # written by the programs that name them
    for file in files:
        for name in re.findall(r'\b(\w+\.md)\b', file.read_text()):
            assert name in here, f'{file.relative_to(ROOT)} names {name}'
