"""Versions of links on disk."""
from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpnp_ros.errors import ConfigurationError, LinksError
from mpnp_ros.methods import link_store as stores
from mpnp_ros.methods.link_files import copied_link, load_link, read_manifest
from mpnp_ros.methods.link_store import (
    REMEMBERED,
    LinkStore,
    Usage,
    default_store,
    holding,
    shipped_link,
    shipped_links,
    whole,
)


def test_versions_count_up_and_the_newest_is_the_latest(tiny_lm, new_link, tmp_path):
    lm, store = tiny_lm('llama'), LinkStore(tmp_path / 'links')
    assert store.list() == [] and store.latest('camera') is None
    first, second = (store.save(new_link(lm, seed=seed)) for seed in (0, 1))
    lidar = store.save(new_link(lm, 'lidar'))
    assert [link.version for link in store.list('camera')] == ['000001', '000002']
    assert store.latest('camera') == second and store.list() == [first, second, lidar]
    assert store.path('camera', '000001') == first.path
    assert load_link(first.path, lm=lm, sha256=first.sha256, root=store.folder).version == '000001'
    with pytest.raises(LinksError, match="no version '000009' of camera .* 000001, 000002"):
        store.path('camera', '000009')
    with pytest.raises(LinksError, match='no version'):
        store.path('..', 'links')


def test_writers_at_once_get_versions_of_their_own(tiny_lm, new_link, tmp_path):
    lm = tiny_lm('llama')
    links = [new_link(lm, seed=seed) for seed in range(6)]
    with ThreadPoolExecutor(3) as pool:
        saved = list(pool.map(lambda link: LinkStore(tmp_path).save(link), links))
    assert sorted(link.version for link in saved) == [f'{n:06d}' for n in range(1, 7)]
    store = LinkStore(tmp_path)
    assert len(store.list('camera')) == 6
    for link, entry in zip(links, saved, strict=True):
        loaded = load_link(entry.path, lm=lm, sha256=entry.sha256)
        assert loaded.gate_weights.tolist() == link.gate_weights.tolist()


def test_what_a_killed_writer_left_is_not_listed(tiny_lm, new_link, tmp_path):
    store = LinkStore(tmp_path)
    store.save(new_link(tiny_lm('llama')))
    (tmp_path / 'camera' / '.000002.xyz').mkdir()
    (tmp_path / 'camera' / '000002').mkdir()
    assert [link.version for link in store.list()] == ['000001']
    assert store.save(new_link(tiny_lm('llama'))).version == '000003'


def test_shipped_links_are_the_newest_of_each_modality(tiny_lm, new_link, tmp_path, monkeypatch):
    monkeypatch.setattr(stores.mpnp_ros, '__file__', str(tmp_path / '__init__.py'))
    assert shipped_links() == {} and not list(tmp_path.iterdir())
    store = LinkStore(tmp_path / 'data' / 'links' / 'driving-world')
    for modality in ('camera', 'lidar', 'camera'):
        store.save(new_link(tiny_lm('llama'), modality))
    assert {name: link.version for name, link in shipped_links().items()} == {
        'camera': '000002', 'lidar': '000001'}


def test_a_shipped_link_is_that_of_the_encoder_or_one_that_counts_alike(tiny_lm, new_link, tmp_path,
                                                                        monkeypatch):
    monkeypatch.setattr(stores.mpnp_ros, '__file__', str(tmp_path / '__init__.py'))
    store = LinkStore(tmp_path / 'data' / 'links' / 'driving-world')
    camera, objects = (store.save(new_link(tiny_lm('llama'), name)) for name in ('camera', 'objects'))
    config = read_manifest(camera.path).config
    encoder, width = config.encoder, config.token_width
    newest = copied_link(camera.path, 'camera', 'newest')
    assert store.save(newest).version == '000002'
    assert shipped_link('camera', encoder, width, 'objects') == camera
    assert shipped_link('camera', 'newest', width, 'objects') == store.latest('camera')
    assert shipped_link('camera', 'another', width, 'objects') == objects
    assert shipped_link('lidar', 'another', width, 'objects') == objects
    assert shipped_link('camera', 'another', width + 1, 'objects') is None
    assert shipped_link('camera', 'another', width, '') is None


@pytest.fixture
def three(tiny_lm, new_link, tmp_path) -> LinkStore:
    """A store with three versions of camera links, none of them in use."""
    store = LinkStore(tmp_path / 'links')
    for seed in range(3):
        store.save(new_link(tiny_lm('llama'), seed=seed))
    return store


def test_the_current_version_is_gone_back_from_and_forgotten_by_no_restart(three):
    assert three.current('camera') is None and three.current('lidar') is None
    for version in ('000001', '000003', '000003'):
        three.set_current('camera', version)
    again = LinkStore(three.folder)
    assert again.current('camera') == again.latest('camera')
    assert again.usage('camera') == Usage(('000001', '000003'))
    again.set_current('camera', '000001')
    assert three.usage('camera') == Usage(('000001',), ('000003',))
    three.set_current('camera', None)
    assert three.current('camera') is None
    assert three.usage('camera') == Usage((), ('000003', '000001'))
    three.set_current('camera', '000003')
    assert three.usage('camera') == Usage(('000003',), ('000001',))
    with pytest.raises(LinksError, match="no version '000007'"):
        three.set_current('camera', '000007')


@given(st.lists(st.none() | st.sampled_from(['000001', '000002', '000003', '000004', '000005', '000006'])))
def test_usage_is_bounded_and_never_in_two_minds(steps):
    usage = Usage()
    for step in steps:
        usage = usage.at(step)
        assert (usage.used[-1] if usage.used else None) == step
        everything = [*usage.used, *usage.withdrawn]
        assert len(everything) == len(set(everything)) and len(usage.used) <= REMEMBERED
    assert Usage.from_json(json.dumps(asdict(usage)).encode()) == usage


@pytest.mark.parametrize('data', [b'', b'{}', b'[]', b'\xff', b'{"used": ["../x"], "withdrawn": []}',
                                  b'{"used": 3, "withdrawn": []}'])
def test_a_damaged_current_is_said_and_counts_as_none(three, data, caplog):
    three.set_current('camera', '000001')
    (three.folder / 'camera' / 'current').write_bytes(data)
    assert three.current('camera') is None
    assert 'current is damaged' in caplog.text
    three.set_current('camera', '000002')
    assert three.current('camera').version == '000002'


def test_whole_leaves_out_what_was_changed_and_says_so(three, caplog):
    first, two, three_ = three.list()
    data = bytearray((first.path / 'link.safetensors').read_bytes())
    data[-1] ^= 1
    (first.path / 'link.safetensors').write_bytes(data)
    (three_.path / 'link.safetensors').unlink()
    assert list(whole(three.list())) == [two]
    assert '000001 is damaged' in caplog.text and '000003 is damaged' in caplog.text


def test_fitting_is_the_last_in_use_else_the_newest_but_none_that_was_taken_back(tiny_lm, new_link, tmp_path):
    lm, store = tiny_lm('llama'), LinkStore(tmp_path)
    for encoder in ('a', 'b', 'a', 'a'):
        store.save(new_link(lm, encoder=encoder))

    def fitting(encoder: str, model: str = lm.fingerprint) -> str | None:
        link = store.fitting('camera', encoder, model)
        return link and link.version

    assert (fitting('a'), fitting('b'), fitting('c'), fitting('a', 'x')) == ('000004', '000002', None, None)
    store.set_current('camera', '000001')
    assert fitting('a') == '000001'
    store.set_current('camera', '000004')
    assert fitting('a') == '000004'
    store.set_current('camera', None)
    assert (fitting('a'), fitting('b')) == ('000003', '000002')
    (tmp_path / 'camera' / '000003' / 'manifest.json').write_bytes(b'{')
    assert fitting('a') is None


def test_prune_leaves_the_newest_what_is_in_use_and_what_is_held(tiny_lm, new_link, tmp_path):
    store = LinkStore(tmp_path)
    for modality in ['camera'] * 7 + ['lidar'] * 2:
        store.save(new_link(tiny_lm('llama'), modality))
    for version in ('000002', '000003'):
        store.set_current('camera', version)
    (tmp_path / 'camera' / '.000008.killed').mkdir()
    with holding(tmp_path / 'camera' / '000005'):
        assert [link.name for link in store.prune(1, 'camera')] == ['camera/000001', 'camera/000004',
                                                                    'camera/000006']
    assert [link.version for link in store.list('camera')] == ['000002', '000003', '000005', '000007']
    assert not list((tmp_path / 'camera').glob('.*'))
    assert [link.name for link in store.prune(2)] == []
    assert [link.name for link in store.prune(1)] == ['camera/000005', 'lidar/000001']
    assert store.save(new_link(tiny_lm('llama'))).version == '000008'
    with pytest.raises(ConfigurationError, match='keep is 0'):
        store.prune(0)


def test_saving_pruning_and_changing_the_current_one_at_once_leave_a_whole_store(three):
    link = load_link(three.path('camera', '000001'))
    jobs = [lambda: three.save(link), lambda: three.prune(1),
            lambda: three.set_current('camera', None), lambda: three.set_current('camera', '000002')]
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(job) for job in jobs * 3]:
            assert done.exception() is None or 'no version' in str(done.exception())
    left = three.list('camera')
    assert list(whole(left)) == left and left[-1].version == '000006'
    assert not list((three.folder / 'camera').glob('.*'))
    assert three.current('camera') in (None, *left)


def test_what_is_not_there_cannot_be_held(tmp_path):
    with pytest.raises(LinksError, match='cannot be read'), holding(tmp_path / '000001'):
        pass


def test_versions_are_found_by_their_folder(three, tmp_path, monkeypatch):
    first = three.list()[0]
    monkeypatch.chdir(three.folder)
    assert three.find(first.path) == first == three.find('camera/000001')
    elsewhere = tmp_path / 'elsewhere' / 'camera' / '000001'
    for other in ('camera/000009', 'camera', 'camera/current', '/', elsewhere):
        assert three.find(other) is None


def test_each_namespace_has_a_store_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv('MPNP_STATE', str(tmp_path))
    assert default_store().folder == tmp_path / 'links'
    assert default_store('/robot1').folder == tmp_path / 'robot1' / 'links'


def test_a_store_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(ConfigurationError, match='cannot be made'):
        LinkStore(tmp_path / 'file' / 'links')
