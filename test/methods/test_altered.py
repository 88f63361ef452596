"""What holds for all methods that alter blocks by the set of modalities."""
from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mpnp_ros.llm.layout import TextLayout
from mpnp_ros.llm.text_cache import TextCache
from mpnp_ros.methods.link_files import load_link, save_link
from mpnp_ros.methods.registry import create_method

CHOICES = ('one', 'not one', 'car', 'car truck')
QUESTIONS = ('how many cars are there?', 'what is it?', 'is it a truck?')
NAMES = st.sampled_from(['mma', 'eas'])
FAMILIES = st.sampled_from(['llama', 'qwen3', 'opt', 'gpt2', 'bloom'])
IDS = torch.tensor([[5, 9, 40, 7, 21, 33, 8, 12], [30, 31, 2, 3, 60, 61, 62, 63]])
prove = settings(deadline=None, max_examples=12, derandomize=True)
each_method = pytest.mark.parametrize('name', ['mma', 'eas'])
each_family = pytest.mark.parametrize('family', ['llama', 'opt', 'gpt2', 'bloom'])


def sets_of(frame, seed=0):
    """A frame of each set of the two modalities."""
    camera, lidar = frame(seed), frame(seed + 1, 3, 'lidar')
    return [{}, {'camera': camera}, {'lidar': lidar}, {'camera': camera, 'lidar': lidar}]


def run(lm, layout, cache=None):
    return lm.run_blocks(lm.embed(layout), layout, 0, lm.blocks, cache=cache)


def close(states, expected):
    """Within 1e-5 of how large the states are."""
    torch.testing.assert_close(states, expected, rtol=0, atol=1e-5 * float(expected.abs().max().clamp(min=1)))


def chances(replies):
    return [pytest.approx(reply.probabilities, abs=1e-5) for reply in replies]


@prove
@given(NAMES, FAMILIES, st.integers(0, 99))
def test_folded_is_unfolded_for_every_set_and_in_mixed_batches(new_altered, frame, name, family, seed):
    folded, unfolded = (new_altered(name, family, seed=seed, fold=fold) for fold in (True, False))
    frames = sets_of(frame, seed)
    asked = [folded.prepare(QUESTIONS[row % 3], CHOICES) for row in range(4)]
    expected = chances(unfolded.answer(*each) for each in zip(asked, frames, strict=True))
    for replies in (folded.answer_batch(asked, frames), unfolded.answer_batch(asked, frames),
                    [folded.answer(*each) for each in zip(asked, frames, strict=True)]):
        assert [reply.probabilities for reply in replies] == expected


@each_method
@each_family
def test_folded_states_are_unfolded_states(new_altered, model_of, name, family):
    method, layout = new_altered(name, family), TextLayout.causal(IDS)
    for seen in (((), ('camera',)), (('camera', 'lidar'), ('camera',)), (('lidar',), ('lidar',))):
        with torch.no_grad():
            folded, stock = run(model_of(method, *seen), layout), run(method.lm, layout)
        close(folded, run(model_of(method, *seen), layout).detach())
        assert not torch.allclose(folded, stock, atol=1e-2)


@each_method
def test_modalities_say_how_blocks_run_and_a_new_one_changes_nothing(new_altered, model_of, name):
    method, layout = new_altered(name, modalities=('camera',)), TextLayout.causal(IDS)
    with torch.no_grad():
        before = run(model_of(method, ('camera',), ()), layout)
        assert not torch.allclose(before[0], run(model_of(method, (), ()), layout)[0], atol=1e-4)
        method.plug(method.new_link('lidar', 'encoder', 6, **vars_of(method)))
        for seen in (('camera',), ()), (('camera', 'lidar'), ('lidar',)):
            close(run(model_of(method, *seen), layout), before)


def vars_of(method):
    """The sizes of the links of a method."""
    config = next(iter(method.links().values())).config
    sizes = 'hidden', 'skipped', 'skipped_rank'
    return {name: getattr(config, name) for name in sizes if hasattr(config, name)}


@prove
@given(NAMES, FAMILIES, st.integers(1, 7), st.booleans())
def test_a_token_changes_nothing_before_it(new_altered, model_of, name, family, place, folding):
    method, other = new_altered(name, family, fold=folding), IDS.clone()
    other[:, place:] = (other[:, place:] + 5) % 200
    with torch.no_grad():
        model = model_of(method, ('camera',), ('lidar',))
        left, right = run(model, TextLayout.causal(IDS)), run(model, TextLayout.causal(other))
    close(left[:, :place], right[:, :place])
    assert not torch.allclose(left[:, place:], right[:, place:], atol=1e-3)


@each_method
@each_family
def test_decoding_with_a_cache_is_reading_again(new_altered, model_of, name, family):
    method, whole, cache = new_altered(name, family), TextLayout.causal(IDS), TextCache()
    with torch.no_grad():
        model = model_of(method, ('camera',), ())
        expected, layout = run(model, whole), whole.head(5)
        steps = [run(model, layout, cache)]
        for place in range(5, 8):
            layout = layout.next(IDS[:, place:place + 1])
            steps.append(run(model, layout, cache))
    close(torch.cat(steps, 1), expected)
    skipped = (2, 3) if name == 'eas' else ()
    assert [cache.length(block) for block in range(4)] == [0 if block in skipped else 8 for block in range(4)]


@each_method
@pytest.mark.parametrize('side', ['left', 'right'])
def test_padding_and_company_change_nothing(new_altered, model_of, name, side):
    method, pad, short = new_altered(name), [0, 0, 0], IDS[1, :5].tolist()
    ids = torch.tensor([IDS[0].tolist(), short + pad if side == 'right' else pad + short])
    valid = torch.tensor([[1] * 8, [1] * 5 + [0] * 3 if side == 'right' else [0] * 3 + [1] * 5]).bool()
    with torch.no_grad():
        alone = run(model_of(method, ('lidar',)), TextLayout.causal(IDS[1:, :5]))
        together = run(model_of(method, ('camera',), ('lidar',)), TextLayout.causal(ids, valid))
    close(together[1][valid[1]], alone[0])


@each_method
@pytest.mark.parametrize('optimiser', [torch.optim.AdamW, torch.optim.SGD])
def test_training_reaches_every_parameter_and_answers_follow(new_altered, frame, name, optimiser):
    method = new_altered(name, 'gpt2')
    frozen = {key: tensor.clone() for key, tensor in method.lm.model.state_dict().items()}
    frames, parameters = sets_of(frame), list(method.trainable_parameters())
    assert len({id(parameter) for parameter in parameters}) == len(parameters)
    examples = [method.prepare_answer(QUESTIONS[row % 3], CHOICES[row], CHOICES) for row in range(4)]
    asked = [example.question for example in examples]
    before = method.answer_batch(asked, frames)
    steps = optimiser(parameters, lr=.1)
    method.answer_losses(examples, frames).mean().backward()
    assert all(bool(parameter.grad.any()) for parameter in parameters)
    steps.step()
    after = method.answer_batch(asked, frames)
    method.fold = False
    assert [reply.probabilities for reply in after] == chances(method.answer_batch(asked, frames))
    assert after[1].probabilities != pytest.approx(before[1].probabilities, abs=1e-3)
    assert all(torch.equal(tensor, frozen[key]) for key, tensor in method.lm.model.state_dict().items())


@each_method
def test_links_learn_what_only_the_frame_tells(new_altered, frame, name):
    method = new_altered(name, modalities=('camera',))
    frames = [{'camera': frame(seed)} for seed in range(4)]
    examples = [method.prepare_answer('what is it?', answer, CHOICES) for answer in CHOICES]
    optimiser = torch.optim.Adam(method.trainable_parameters(), lr=1e-2)
    for _ in range(40):
        optimiser.zero_grad()
        method.answer_losses(examples, frames).mean().backward()
        optimiser.step()
    replies = method.answer_batch([example.question for example in examples], frames)
    assert [reply.text for reply in replies] == list(CHOICES)


@each_method
def test_links_are_kept_and_the_newest_shared_part_serves_all(new_altered, tiny_lm, frame, tmp_path, name):
    method, again = new_altered(name), create_method(name, tiny_lm())
    for modality, link in method.links().items():
        save_link(link, tmp_path / modality)
        again.plug(load_link(tmp_path / modality, lm=again.lm))
    assert len({id(link.shared) for link in again.links().values()}) == 1
    for tokens in sets_of(frame):
        pair = [each.answer(each.prepare(QUESTIONS[0], CHOICES), tokens) for each in (method, again)]
        assert pair[0].probabilities == pair[1].probabilities


@each_method
def test_streams_as_the_unfolded_model_does(new_altered, frame, name):
    method, texts = new_altered(name), []
    for fold in (True, False):
        method.fold = fold
        asked = method.prepare(QUESTIONS[1])
        texts.append([part.text for part in method.stream(asked, {'camera': frame()}, 6)])
    assert texts[0] == texts[1] != []


@each_method
def test_learned_constants_take_the_place_of_a_sensor(tiny_lm, name):
    method = create_method(name, tiny_lm())
    method.plug(method.spec.link(method.spec.link.config_type.blind(method.lm, 6, 2)))
    examples = [method.prepare_answer(QUESTIONS[1], answer, CHOICES) for answer in CHOICES[:2]]
    method.answer_losses(examples, [{}, {}]).mean().backward()
    assert all(parameter.grad is not None for parameter in method.trainable_parameters())
    assert method.answer(examples[0].question, {}).used == ()
