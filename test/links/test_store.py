"""Versions of links on disk."""
from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from mpnp_ros.errors import LinksError
from mpnp_ros.links import store as stores
from mpnp_ros.links.files import load_link
from mpnp_ros.links.store import LinkStore, shipped_links


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
    assert {name: one.version for name, one in shipped_links().items()} == {
        'camera': '000002', 'lidar': '000001'}
