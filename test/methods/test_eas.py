"""Attention skipping: the skipped block as published, and the choice of what is skipped."""
from __future__ import annotations

import json

import pytest
import torch

from mpnp_ros.errors import ConfigurationError, LinksError
from mpnp_ros.llm.layout import TextLayout
from mpnp_ros.methods.eas.method import EasConfig, Trial
from mpnp_ros.methods.eas.redundancy import SearchConfig
from mpnp_ros.methods.link_files import MANIFEST, load_link, save_link
from mpnp_ros.methods.registry import create_method

CHOICES = ('one', 'not one', 'car', 'car truck')
IDS = torch.tensor([[5, 9, 40, 7, 21, 33, 8, 12]])


def questions_of(method):
    return [method.prepare_answer('what is it?', answer, CHOICES) for answer in CHOICES]


@pytest.mark.parametrize('family', ['llama', 'opt'])
def test_a_skipped_block_is_the_published_one_with_a_learned_mean(new_altered, model_of, family):
    method = new_altered('eas', family, modalities=('camera',))
    link, parts = method.links()['camera'], method.lm.parts(3)
    pia, hidden, layout = link.shared.adapter(3), torch.randn(1, 8, 32), TextLayout.causal(IDS)
    with torch.no_grad():
        mixtures = link.shared.mixtures(method.lm, [[link]])
        model = model_of(method, ('camera',))
        ours = model.run_blocks(hidden, layout, 3, 4)
        u = parts.attention_norm(hidden)
        z = (link.signals[1] + u @ pia.down.weight.T + pia.down.bias) / 2
        constant = mixtures[3].shift[0] - mixtures[3].up[0] @ link.signals[1]
        weights = torch.linalg.lstsq(pia.shift.T, constant[:, None]).solution[:, 0]
        assert float(weights.sum()) == pytest.approx(1, abs=1e-4)
        p = u + sum(weight * (z @ torch.block_diag(*up).T + shift)
                    for weight, up, shift in zip(weights, pia.up, pia.shift, strict=True))
        expected = hidden + parts.feed_forward(parts.scale * p + parts.shift)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def test_what_is_skipped_is_chosen_once_and_never_the_first_block(tiny_lm, frame, tmp_path):
    method = create_method('eas', tiny_lm())
    method.plug(method.new_link('camera', 'encoder', 6, hidden=8, skipped=2))
    shared, examples = method.links()['camera'].shared, questions_of(method)
    assert shared.skipped == (2, 3) and not shared.measured
    frames = [{'camera': frame(seed)} for seed in range(3)]
    method.calibrate(examples, frames)
    profile = method.profile(examples, [{}], 3)
    assert set(profile.order) == {1, 2, 3} and len(profile.harm) == 3
    assert set(shared.skipped) == set(profile.order[:2]) and shared.measured
    method.calibrate(examples[:1], frames)
    assert set(shared.skipped) == set(profile.order[:2])


def test_a_new_modality_takes_over_what_is_skipped(tiny_lm):
    method = create_method('eas', tiny_lm())
    method.plug(method.new_link('camera', 'encoder', 6, hidden=8))
    method.links()['camera'].shared.choose([1])
    method.plug(method.new_link('lidar', 'encoder', 6, hidden=8))
    assert method.links()['lidar'].shared.skipped == (1,)


def test_harm_is_how_far_skipping_moves_the_answers(tiny_lm, frame):
    method = create_method('eas', tiny_lm())
    method.plug(method.new_link('camera', 'encoder', 6, hidden=8, skipped=1))
    examples, frames = questions_of(method), [{'camera': frame()}] * 4
    profile = method.profile(examples, frames, 1)
    method.links()['camera'].shared.choose(profile.order)
    whole = create_method('eas', method.lm)
    whole.plug(whole.new_link('camera', 'encoder', 6, hidden=8, skipped=0))
    whole.links()['camera'].start_from(method.links()['camera'])
    with torch.no_grad():
        moved = method.answer_losses(examples, frames) - whole.answer_losses(examples, frames)
    assert float(moved.abs().mean()) == pytest.approx(profile.harm[0], abs=1e-5) and profile.harm[0] > 0


def test_links_that_skip_already_are_measured_as_they_are(new_altered, frame):
    """Trained, so that every adapter says something, and one block skipped."""
    method = new_altered('eas', modalities=('camera',))
    examples, frames = questions_of(method), [{'camera': frame()}] * 4
    trial, skipped = Trial(method), frozenset(method.links()['camera'].shared.skipped)
    with torch.no_grad():
        own = method.answer_losses(examples, frames)
    assert skipped
    torch.testing.assert_close(trial.losses(examples, frames, skipped), own, rtol=0, atol=1e-5)
    assert not torch.allclose(trial.losses(examples, frames, frozenset()), own)


def test_the_published_search_gives_as_many_blocks_as_are_wanted(tiny_lm, frame):
    method = create_method('eas', tiny_lm())
    method.plug(method.new_link('camera', 'encoder', 6, hidden=8))
    before = {name: tensor.clone() for name, tensor in method.links()['camera'].state_dict().items()}
    examples, frames = questions_of(method) * 4, [{'camera': frame()}] * 16
    found = method.search(examples, frames, 2, SearchConfig(steps=6, warm_up=2, turn=2, subsets=2))
    assert len(found) == 2 and found <= {1, 2, 3}
    after = method.links()['camera'].state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


@pytest.mark.parametrize('wrong', [{'skipped': 4}, {'skipped': -1}, {'skipped_rank': 3}])
def test_wrong_sizes_are_refused(tiny_lm, wrong):
    with pytest.raises(ConfigurationError, match='camera'):
        EasConfig.for_model(tiny_lm(), 'camera', 'encoder', 6, **wrong)


def test_three_blocks_of_eight_are_skipped_by_default(tiny_lm):
    assert EasConfig.for_model(tiny_lm(), 'camera', 'encoder', 6).skipped == 1


TEXT = {'means': 'text'}
QUESTIONS = ('how many cars are there?', 'what is it?', 'is it a truck?')


def answers(method, frames):
    asked = [method.prepare(question, CHOICES) for question in QUESTIONS]
    return [reply.probabilities for reply in method.answer_batch(asked, frames)]


@pytest.mark.parametrize('family', ['llama', 'opt', 'bloom', 'gpt2'])
def test_with_means_over_the_text_company_changes_nothing(new_altered, frame, family):
    method = new_altered('eas', family, link=TEXT)
    same = frame(0)
    frames = [{'camera': same}, {'camera': same, 'lidar': frame(1, 3, 'lidar')}, {}]
    for question, tokens, together in zip(QUESTIONS, frames, answers(method, frames), strict=True):
        alone = method.answer(method.prepare(question, CHOICES), tokens).probabilities
        assert together == pytest.approx(alone, abs=1e-5)


@pytest.mark.parametrize('family', ['llama', 'opt', 'bloom', 'gpt2'])
def test_generating_goes_on_with_the_means_of_the_question_folded_or_not(new_altered, frame, family):
    method, tokens = new_altered('eas', family, modalities=('camera',), link=TEXT), {'camera': frame()}
    told = []
    for fold in (True, False):
        method.fold = fold
        told.append([(part.text, part.probability) for part in
                     method.stream(method.prepare(QUESTIONS[1]), tokens, 6)])
    assert [text for text, _ in told[0]] == [text for text, _ in told[1]] != []
    assert [chance for _, chance in told[0]] == pytest.approx([chance for _, chance in told[1]], abs=1e-5)


def test_links_with_means_over_the_text_learn_what_only_the_frame_tells(new_altered, frame):
    method = new_altered('eas', modalities=('camera',), link=TEXT)
    frames, parameters = [{'camera': frame(seed)} for seed in range(4)], list(method.trainable_parameters())
    examples = questions_of(method)
    optimiser = torch.optim.Adam(parameters, lr=1e-2)
    for _ in range(40):
        optimiser.zero_grad()
        method.answer_losses(examples, frames).mean().backward()
        optimiser.step()
    assert all(bool(parameter.grad.any()) for parameter in parameters)
    replies = method.answer_batch([example.question for example in examples], frames)
    assert [reply.text for reply in replies] == list(CHOICES)


def test_what_is_skipped_is_measured_and_searched_with_means_over_the_text_too(tiny_lm, frame):
    method = create_method('eas', tiny_lm())
    method.plug(method.new_link('camera', 'encoder', 6, hidden=8, skipped=1, **TEXT))
    examples, frames = questions_of(method) * 4, [{'camera': frame(seed)} for seed in range(4)] * 4
    method.calibrate(examples, frames)
    assert method.links()['camera'].shared.measured
    found = method.search(examples, frames, 2, SearchConfig(steps=2, warm_up=1, turn=1, subsets=2))
    assert len(found) == 2


def test_saved_links_keep_their_means_and_older_ones_have_constants(new_altered, frame, tmp_path):
    frames = [{'camera': frame(seed)} for seed in range(3)]
    for name, options in (('text', TEXT), ('set', {})):
        method = new_altered('eas', modalities=('camera',), link=options)
        save_link(method.links()['camera'], tmp_path / name)
        manifest = tmp_path / name / MANIFEST
        entries = json.loads(manifest.read_bytes())
        if name == 'set':  # as written before there were these options
            entries['config'] = {key: value for key, value in entries['config'].items()
                                 if key not in ('means', 'bos')}
            manifest.write_text(json.dumps(entries))
        again = create_method('eas', method.lm)
        again.plug(load_link(tmp_path / name, lm=method.lm))
        assert answers(again, frames) == answers(method, frames)
    config = again.links()['camera'].config
    assert (config.means, config.bos) == ('set', 'behind')
    with pytest.raises(LinksError, match='is not made alike'):
        again.plug(create_method('eas', again.lm).new_link('lidar', 'encoder', 6, **{
            'hidden': 8, 'skipped': 2, 'skipped_rank': 4, **TEXT, 'bos': 'behind'}))


def test_columns_behind_the_first_token_do_not_change_what_older_links_answer(begun_lm, frame, tmp_path):
    """A link of a file without the option has its columns before the whole text."""
    lm, found = begun_lm(), {}
    for bos in ('before', 'behind'):
        method = create_method('mma', lm)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            method.plug(method.new_link('camera', 'encoder', 6, hidden=8, bos=bos))
        found[bos] = answers(method, [{'camera': frame()}] * 3)
    save_link(method.links()['camera'], tmp_path / 'old')
    manifest = tmp_path / 'old' / MANIFEST
    entries = json.loads(manifest.read_bytes())
    del entries['config']['bos']
    manifest.write_text(json.dumps(entries))
    again = create_method('mma', lm)
    again.plug(load_link(tmp_path / 'old', lm=lm))
    again.plug(again.new_link('lidar', 'encoder', 6, hidden=8))  # takes over where columns stand
    again.unplug('lidar')
    assert answers(again, [{'camera': frame()}] * 3) == found['behind']
    assert found['before'][0] != pytest.approx(found['behind'][0], abs=1e-4)
