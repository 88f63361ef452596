"""Saving links and refusing what is damaged, foreign or unsafe."""
from __future__ import annotations

import hashlib
import json
import os
import pickle
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

from mpnp_ros.errors import LinksError
from mpnp_ros.methods.link_files import (
    MANIFEST,
    TENSORS,
    AdaptationRecord,
    Provenance,
    load_link,
    read_manifest,
    save_link,
)
from mpnp_ros.methods.link_options import SINCE_COUNTING
from mpnp_ros.methods.mpnp.method import LatentConnections
from mpnp_ros.methods.mpnp_published import PublishedConfig, PublishedLink


@pytest.fixture
def saved(tiny_lm, new_link, tmp_path):
    """The folder of a saved link of the tiny llama."""
    save_link(new_link(tiny_lm('llama')), tmp_path / 'v1', Provenance('Apache-2.0', 'seed 0', {'exist': .5}))
    return tmp_path / 'v1'


def rewrite(folder, change_manifest=None, data=None):
    """Change a saved link with the tensors' sha256 set right, so that only the change is wrong."""
    entries = json.loads((folder / MANIFEST).read_bytes())
    if data is not None:
        (folder / TENSORS).write_bytes(data)
        entries['sha256'] = hashlib.sha256(data).hexdigest()
    entries.update(change_manifest or {})
    (folder / MANIFEST).write_text(json.dumps(entries))


def rewrite_tensors(folder, change):
    tensors = load((folder / TENSORS).read_bytes())
    change(tensors)
    shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
    rewrite(folder, {'shapes': shapes}, save(tensors))


@settings(deadline=None, max_examples=12, derandomize=True)
@given(st.sampled_from(['llama', 'opt', 'gpt2']), st.sampled_from(['none', 'question', 'counting']),
       st.sampled_from(['answer', 'all']), st.integers(0, 99), st.booleans())
def test_loaded_links_give_the_same_logits(tiny_lm, new_link, new_tokens, new_text, tmp_path_factory, family,
                                           pooling, reach, seed, per_block):
    lm, folder = tiny_lm(family), tmp_path_factory.mktemp('links')
    link = new_link(lm, seed=seed, pooling=pooling, reach=reach, per_block=per_block, last=3)
    link.prune(float(link.gates.detach().min()) + 1e-6)
    sha256 = save_link(link, folder / 'v7')
    loaded = load_link(folder / 'v7', lm=lm, encoder='e' * 32, sha256=sha256, root=folder)
    assert loaded.version == link.version == 'v7' and loaded.open_blocks == link.open_blocks
    text, tokens = new_text(lm, seed=seed), {'camera': new_tokens(seed=seed)}
    before, after = (text.logits(LatentConnections(lm, {'camera': own}), tokens) for own in (link, loaded))
    assert torch.equal(before, after)
    assert all(parameter.requires_grad for parameter in loaded.parameters())


@pytest.mark.parametrize('pooling', ['none', 'question'])
def test_what_a_link_standardises_by_is_saved(tiny_lm, new_link, new_tokens, new_text, tmp_path, pooling):
    lm, tokens = tiny_lm('llama'), new_tokens(3)
    link, text = new_link(lm, pooling=pooling), new_text(lm, 3)
    link.calibrate([text.states(2).at(2)], tokens.values.flatten(0, 1) * 3 + 1)
    save_link(link, tmp_path / 'v1')
    loaded = load_link(tmp_path / 'v1')
    assert loaded.standard.measured and (loaded.pooling is None or loaded.pooling.standard_end.measured)
    before, after = (text.logits(LatentConnections(lm, {'camera': own}), {'camera': tokens})
                     for own in (link, loaded))
    assert torch.equal(before, after)
    fresh = text.logits(LatentConnections(lm, {'camera': new_link(lm, pooling=pooling)}), {'camera': tokens})
    assert not torch.allclose(before, fresh, atol=1e-3)


def test_the_published_form_is_saved_too(tiny_lm, tmp_path):
    link = PublishedLink(PublishedConfig.for_model(tiny_lm('opt'), 'camera', 'abc', 6))
    save_link(link, tmp_path / 'v1')
    loaded = load_link(tmp_path / 'v1', lm=tiny_lm('opt'))
    assert isinstance(loaded, PublishedLink) and torch.equal(loaded.link_weights, link.link_weights)


def test_the_manifest_tells_where_a_link_comes_from(saved):
    manifest = read_manifest(saved)
    assert manifest.provenance == Provenance('Apache-2.0', 'seed 0', {'exist': .5})
    assert (manifest.version, manifest.config.modality, manifest.kind) == ('v1', 'camera', 'latent')
    assert hashlib.sha256((saved / TENSORS).read_bytes()).hexdigest() == manifest.sha256
    assert sorted(os.listdir(saved)) == [TENSORS, MANIFEST]


def test_another_model_encoder_or_version_is_refused(tiny_lm, saved):
    with pytest.raises(LinksError, match='made for tiny-llama'):
        load_link(saved, lm=tiny_lm('opt'))
    with pytest.raises(LinksError, match='trained on tokens of encoder eeee'):
        load_link(saved, encoder='f' * 32)
    with pytest.raises(LinksError, match='another sha256'):
        load_link(saved, sha256='0' * 64)


@pytest.mark.parametrize('change, message', [
    ({'schema': 1}, 'schema version 1'), ({'surplus': 1}, 'unknown keys'), ({'kind': 'os'}, "kind 'os'"),
    ({'sha256': 5}, 'must be text'), ({'config': {}}, 'missing or unknown keys'), ({'shapes': []}, 'mapping'),
    ({'provenance': {'code': ''}}, 'code'), ({'sha256': '0' * 64}, 'damaged')])
def test_a_wrong_manifest_is_refused(saved, change, message):
    rewrite(saved, change)
    with pytest.raises(LinksError, match=message):
        load_link(saved)


@pytest.mark.parametrize('text, message', [
    ('', 'is empty'), ('{', 'cannot be used'), ('[]', 'cannot be used .it is not an object'),
    ('null', 'it is not an object'), ('{}', 'it has no schema'), ('\x80', 'cannot be used'),
    ('[' * 100000, 'cannot be used'), ('version https://git-lfs.github.com/spec/v1', '`git lfs pull`')])
def test_a_manifest_that_is_no_json_object_is_refused(saved, text, message):
    (saved / MANIFEST).write_text(text)
    with pytest.raises(LinksError, match=message):
        load_link(saved)


def test_a_pointer_in_place_of_tensors_is_told_apart_from_damage(saved):
    (saved / TENSORS).write_text('version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7\n')
    with pytest.raises(LinksError, match=r'link\.safetensors is a Git LFS pointer, .*`git lfs pull`'):
        load_link(saved)


@pytest.mark.parametrize('change, message', [
    (lambda t: t.pop('gate_weights'), 'missing or unknown tensors .gate_weights'),
    (lambda t: t.update(surplus=torch.zeros(1)), 'missing or unknown tensors .surplus'),
    (lambda t: t.update(gate_weights=torch.zeros(3)), r'gate_weights is torch.float32 \[3\]'),
    (lambda t: t.update(gate_weights=torch.zeros(2).double()), 'gate_weights is torch.float64'),
    (lambda t: t['gate_weights'].fill_(torch.nan), 'NaN or Inf in gate_weights')])
def test_wrong_tensors_are_refused(saved, change, message):
    rewrite_tensors(saved, change)
    with pytest.raises(LinksError, match=message):
        load_link(saved)


def test_shapes_in_the_manifest_must_be_those_of_the_file(saved):
    shapes = json.loads((saved / MANIFEST).read_bytes())['shapes']
    rewrite(saved, {'shapes': {**shapes, 'gate_weights': [9]}})
    with pytest.raises(LinksError, match='gate_weights'):
        load_link(saved)


class Harmful:
    def __reduce__(self):
        return os.mkdir, ('executed',)


def test_a_header_whose_length_begins_as_a_pickle_does_is_read(saved, tiny_lm):
    tensors = load((saved / TENSORS).read_bytes())
    whole = next(data for filler in range(0, 300, 8)
                 if (data := save(tensors, {'filler': 'x' * filler})).startswith(b'\x80'))
    rewrite(saved, data=whole)
    assert load_link(saved, lm=tiny_lm('llama')).version == 'v1'


def test_pickles_are_refused_unread(saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({'x': Harmful()}, tmp_path / 'archive.pt')
    for data in (pickle.dumps(Harmful()), (tmp_path / 'archive.pt').read_bytes()):
        rewrite(saved, data=data)
        with pytest.raises(LinksError, match='is a pickle, which is never loaded'):
            load_link(saved)
    assert not (tmp_path / 'executed').exists()


@pytest.mark.parametrize('data', [b'', b'\x08', b'\xff' * 64, b'{}' * 20])
def test_other_bytes_are_refused(saved, data):
    rewrite(saved, data=data)
    with pytest.raises(LinksError, match='is not safetensors' if data else 'is empty'):
        load_link(saved)


@settings(deadline=None, max_examples=20, derandomize=True)
@given(st.data())
def test_every_flipped_or_missing_byte_is_noticed(tiny_lm, new_link, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp('links') / 'v1'
    sha256 = save_link(new_link(tiny_lm('llama')), folder)
    file = folder / data.draw(st.sampled_from([TENSORS, MANIFEST]))
    content = bytearray(file.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[place] ^= data.draw(st.integers(1, 255))
    else:
        del content[place:]
    file.write_bytes(content)
    with pytest.raises(LinksError):
        load_link(folder, sha256=sha256)


def test_paths_that_leave_their_folder_are_refused(saved, tmp_path):
    with pytest.raises(LinksError, match=r'contains \.\.'):
        load_link(saved / '..' / 'v1')
    with pytest.raises(LinksError, match='leaves'):
        load_link(saved, root=tmp_path / 'store')
    store = tmp_path / 'store'
    store.mkdir()
    (store / 'v2').symlink_to(saved)
    with pytest.raises(LinksError, match='leaves'):
        load_link(store / 'v2', root=store)
    (saved / TENSORS).rename(tmp_path / 'elsewhere')
    (saved / TENSORS).symlink_to(tmp_path / 'elsewhere')
    with pytest.raises(LinksError, match='symbolic link that leaves'):
        load_link(saved)


@pytest.mark.parametrize('name', [TENSORS, MANIFEST])
def test_half_a_folder_is_refused(saved, name):
    (saved / name).unlink()
    with pytest.raises(LinksError, match='cannot be read'):
        load_link(saved)


def test_broken_weights_are_not_saved_and_the_old_version_stays(tiny_lm, new_link, saved):
    link = new_link(tiny_lm('llama'))
    with torch.no_grad():
        link.norm.weight[0] = torch.inf
    with pytest.raises(LinksError, match=r'NaN or Inf in norm\.weight'):
        save_link(link, saved)
    assert load_link(saved).config == replace(link.config)


def test_a_failed_write_leaves_nothing(tiny_lm, new_link, tmp_path, monkeypatch):
    def full(*_):
        raise OSError('no space left')

    monkeypatch.setattr('mpnp_ros.methods.link_files.write_file', full)
    with pytest.raises(OSError, match='no space'):
        save_link(new_link(tiny_lm('llama')), tmp_path / 'v1')
    assert list(tmp_path.iterdir()) == []


def test_what_adaptation_measured_is_kept(tiny_lm, new_link, tmp_path):
    adaptation = AdaptationRecord('distilled', 'camera/000001', 812, 300, 95.5, 4.2e12, 600 << 20, .31, .52)
    save_link(new_link(tiny_lm('llama')), tmp_path / 'v1', Provenance(adaptation=adaptation))
    assert read_manifest(tmp_path / 'v1').provenance.adaptation == adaptation


def test_manifests_from_before_adaptation_are_read(saved):
    entries = json.loads((saved / MANIFEST).read_bytes())['provenance']
    del entries['adaptation']
    rewrite(saved, {'provenance': entries})
    assert read_manifest(saved).provenance == Provenance('Apache-2.0', 'seed 0', {'exist': .5})


@pytest.mark.parametrize('provenance', [
    3, {'adaptation': []}, {'adaptation': {}}, {'adaptation': {'supervision': 1}},
    {'adaptation': {'supervision': 'labelled', 'steps': 'many'}},
    {'adaptation': {'supervision': 'labelled', 'steps': None}},
    {'adaptation': {'supervision': 'labelled', 'colour': 1}}])
def test_provenance_of_the_wrong_form_is_refused(saved, provenance):
    rewrite(saved, {'provenance': provenance})
    with pytest.raises(LinksError, match='cannot be used'):
        read_manifest(saved)


def test_links_made_before_counting_answer_as_they_did(tiny_lm, new_link, new_tokens, new_text, tmp_path):
    lm = tiny_lm('llama')
    link = new_link(lm, additive=True)
    save_link(link, tmp_path / 'old')
    entries = json.loads((tmp_path / 'old' / MANIFEST).read_bytes())
    before = {name: value for name, value in entries['config'].items() if name not in SINCE_COUNTING}
    rewrite(tmp_path / 'old', {'config': before})
    loaded, tokens, states = load_link(tmp_path / 'old', lm=lm), new_tokens(), new_text(lm).states(2)
    for block, part in link(tokens, states.at(2)).items():
        assert torch.equal(loaded(tokens, states.at(2))[block].values, part.values)


def test_links_that_choose_channel_by_channel_answer_as_they_did(tiny_lm, new_link, new_tokens, new_text,
                                                                 tmp_path):
    lm = tiny_lm('llama')
    link = new_link(lm, pooling='counting', masks='channels')
    save_link(link, tmp_path / 'old')
    entries = json.loads((tmp_path / 'old' / MANIFEST).read_bytes())
    entries['config'].pop('masks')
    rewrite(tmp_path / 'old', {'config': entries['config']})
    loaded, tokens, states = load_link(tmp_path / 'old', lm=lm), new_tokens(), new_text(lm).states(2)
    for block, part in link(tokens, states.at(2)).items():
        assert torch.equal(loaded(tokens, states.at(2))[block].values, part.values)


def test_a_link_in_half_precision_is_half_as_large_and_answers_alike(tiny_lm, new_link, new_tokens, new_text,
                                                                     tmp_path):
    lm = tiny_lm('llama')
    link = new_link(lm, pooling='counting')
    for name, half in (('whole', False), ('half', True)):
        save_link(link, tmp_path / name, half=half)
    sizes = [(tmp_path / name / TENSORS).stat().st_size for name in ('half', 'whole')]
    assert sizes[0] < .6 * sizes[1]
    loaded = load_link(tmp_path / 'half', lm=lm)
    assert all(parameter.dtype == torch.float32 for parameter in loaded.parameters())
    text, tokens = new_text(lm), {'camera': new_tokens()}
    before, after = (text.logits(LatentConnections(lm, {'camera': own}), tokens) for own in (link, loaded))
    assert torch.allclose(before, after, atol=.02)
