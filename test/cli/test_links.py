"""`mpnp links`: what is shown of the links that a robot keeps, taken back and pruned."""
from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from mpnp_ros.bags.held_out import held_out_from, note_held_out
from mpnp_ros.cli import links as command
from mpnp_ros.cli.main import main
from mpnp_ros.errors import NotRunningError
from mpnp_ros.methods.link_files import AdaptationRecord, Provenance
from mpnp_ros.methods.link_options import LinkConfig
from mpnp_ros.methods.link_store import LinkStore, shipped_links
from mpnp_ros.methods.mpnp.link import LatentLink

CONFIG = LinkConfig('camera', 'camera-e1', 4, 'm' * 32, 'tiny', (6, 7), 1, 2, 4, hidden=4)
ADAPTATION = AdaptationRecord('distilled', 'camera/000001', 812, 300, 95.5, 4.2e12, 600_000_000, .31, .52,
                              math.nan)


@pytest.fixture
def store(tmp_path, monkeypatch) -> LinkStore:
    """The robot's own store: three camera links, the last one trained by itself, the first two used."""
    monkeypatch.setenv('MPNP_STATE', str(tmp_path))
    store = LinkStore(tmp_path / 'links')
    for made in (None, None, ADAPTATION):
        store.save(LatentLink(CONFIG), Provenance('MIT', 'on the road', {'exist': .5}, made))
    for version in ('000001', '000002'):
        store.set_current('camera', version)
    return store


@pytest.fixture
def alone(monkeypatch) -> None:
    """No fusion node runs."""
    def connected(*where: object) -> None:
        raise NotRunningError

    monkeypatch.setattr(command, 'connected', connected)


@pytest.fixture
def as_json(capsys) -> Callable[..., object]:
    """Run the command and read what it prints as JSON."""
    def read(*arguments: str) -> object:
        assert main(['links', *arguments, '--json']) == 0
        return json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    return read


def test_list_says_what_is_in_use_and_what_was_measured(store, capsys):
    assert main(['links', 'list', '--modality', 'camera']) == 0
    heads, shipped, *lines, folder = capsys.readouterr().out.splitlines()
    assert 'shipped' in shipped and 'in use' not in shipped
    assert [line.split()[1] for line in lines] == ['000001', '000002', '000003']
    assert 'to go back to' in lines[0] and 'in use' in lines[1]
    for part in ('tiny', 'camera-e1', '6..7', 'distilled', '31.0 % -> 52.0 %', '96 s'):
        assert part in lines[2]
    assert {line.index('0000') for line in lines} == {heads.index('version')}
    assert folder == f'store: {store.folder}'


def test_a_damaged_version_is_listed_as_such(store, as_json, capsys):
    (store.folder / 'camera' / '000001' / 'manifest.json').write_bytes(b'{')
    damaged = as_json('list', '--modality', 'camera')[1]
    assert damaged['version'] == '000001' and 'cannot be used' in damaged['problem']
    assert main(['links', 'list']) == 0 and 'damaged' in capsys.readouterr().out
    assert main(['links', 'show', 'camera/000001']) == 2


def test_without_links_of_its_own_a_robot_uses_the_shipped_ones(as_json, tmp_path):
    rows = as_json('list', '--store', str(tmp_path / 'empty'))
    assert {row['state'] for row in rows} == {'shipped, in use'}
    assert as_json('show', 'lidar', '--store', str(tmp_path / 'empty'))['modality'] == 'lidar'


@pytest.mark.parametrize('name', ['camera/000003', '000003', '{store}/camera/000003'])
def test_show_tells_all_about_one_version(store, name, as_json, capsys):
    name = name.format(store=store.folder)
    data = as_json('show', name)
    assert (data['version'], data['gates'], data['linked_blocks']) == ('000003', [.5, .5], [6, 7])
    assert data['provenance']['adaptation']['accuracy_after'] == .52
    assert data['provenance']['adaptation']['accuracy_blind'] is None
    assert main(['links', 'show', name]) == 0
    text = capsys.readouterr().out
    for part in ('6: 0.50  7: 0.50', 'distilled, from camera/000001', 'accuracy, exist  50.0 %',
                 'on the road', '812 questions, 300 steps, 96 s, 4.20 TMACs'):
        assert part in text


def test_show_takes_what_is_in_use_and_refuses_what_is_not_there_or_unclear(store, as_json, capsys):
    assert as_json('show', 'camera')['state'] == 'in use'
    store.save(LatentLink(LinkConfig('lidar', 'l', 4, 'm', 'tiny', (7,), 1, 2, 4, hidden=4)))
    for name, text in (('000001', 'is a version of camera and lidar links'), ('sonar', "no links 'sonar'")):
        assert main(['links', 'show', name]) == 2
        assert text in capsys.readouterr().err


def test_rollback_in_the_store_passes_over_what_is_damaged(store, alone, as_json, capsys):
    store.set_current('camera', '000003')
    (store.folder / 'camera' / '000002' / 'link.safetensors').write_bytes(b'')
    assert as_json('rollback', 'camera')['version'] == '000001'
    assert main(['links', 'rollback', 'camera']) == 0
    assert 'will start with camera links shipped' in capsys.readouterr().out
    assert store.current('camera') is None
    assert main(['links', 'rollback', 'camera']) == 2
    assert 'nothing to take back' in capsys.readouterr().err


def test_a_shipped_version_is_told_from_one_of_the_robot_with_its_number(store, as_json, capsys, monkeypatch):
    shipped = shipped_links()['camera']
    shown = as_json('show', shipped.name)
    assert (shown['version'], shown['state'], shown['sha256']) == (shipped.version, 'shipped', shipped.sha256)
    for sha256, words, is_shipped in ((shipped.sha256, f'{shipped.version} (shipped) are', True),
                                      ('0' * 64, f'{shipped.version} are', False)):
        link = SimpleNamespace(version=shipped.version, sha256=sha256)
        robot = SimpleNamespace(rollback=lambda modality, link=link: link)
        monkeypatch.setattr(command, 'connected', lambda *where, robot=robot: nullcontext(robot))
        assert as_json('rollback', 'camera')['shipped'] is is_shipped
        assert main(['links', 'rollback', 'camera']) == 0
        assert capsys.readouterr().out == f'the fusion node says: camera links {words} in use\n'


def test_links_are_copied_once_and_noted_for_the_next_start(store, alone, as_json, tmp_path, capsys):
    own = LinkStore(tmp_path / 'own')
    for changed in (1., 2.):
        link = LatentLink(CONFIG)
        with torch.no_grad():
            next(link.parameters()).fill_(changed)
        own.save(link, Provenance('MIT', 'own robot'))
    note_held_out(own.folder, {'drive': 7})
    for _ in range(2):
        used, = as_json('use', str(own.folder))
        assert (used['version'], used['by'], used['success']) == ('000004', 'store', True)
    assert store.current('camera').version == '000004' and len(store.list('camera')) == 4
    assert held_out_from(store.folder) == {'drive': 7}
    data = as_json('show', 'camera')
    assert data['provenance']['text'] == 'own robot' and data['state'] == 'in use'
    assert main(['links', 'use', '000003']) == 0
    assert 'will start with camera links 000003' in capsys.readouterr().out
    assert as_json('rollback', 'camera')['version'] == '000004'
    assert main(['links', 'use', str(tmp_path)]) == 2
    assert 'there are no links in' in capsys.readouterr().err


def test_prune_removes_and_says_what(store, as_json, capsys):
    store.set_current('camera', None)
    store.set_current('camera', '000002')
    assert as_json('prune', '--keep', '1') == [{'modality': 'camera', 'version': '000001'}]
    assert main(['links', 'prune', '--keep', '1']) == 0
    assert capsys.readouterr().out == 'removed nothing (0.0 MB)\n'
    assert main(['links', 'prune', '--keep', '0']) == 2


@pytest.mark.ros
@pytest.mark.parametrize('success', [True, False])
def test_a_running_fusion_node_is_asked(ros, store, success, as_json, capsys):
    from mpnp_ros.msg import LinkInfo
    from mpnp_ros.srv import RollbackLinks

    def respond(request, response):
        return RollbackLinks.Response(success=success, message=f'about {request.modality}',
                                      link=LinkInfo(version='000001'))

    service = ros.node.create_service(RollbackLinks, 'rollback_links', respond)
    try:
        code = main(['links', 'rollback', 'camera', '--namespace', '/test', '--store', str(store.folder),
                     '--timeout', '30', '--json'])
    finally:
        ros.node.destroy_service(service)
    data = json.loads(capsys.readouterr().out)
    assert (code, data['by'], data['success'], data['message']) == (
        0 if success else 1, 'fusion', success, 'the fusion node says: ' + (
            'camera links 000001 are in use' if success else 'about camera'))
    assert store.current('camera').version == '000002'
