"""What the trainer needs of a method: losses on answers, with gradients into the links only."""
from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mpnp_ros.errors import LinksError, QuestionError
from mpnp_ros.llm.choices import answer_tokens
from mpnp_ros.llm.layout import TextLayout
from mpnp_ros.methods.link import QuestionStates, TokenBatch
from mpnp_ros.methods.link_options import LinkConfig
from mpnp_ros.methods.mpnp.link import LatentLink
from mpnp_ros.methods.mpnp.method import LatentConnections
from mpnp_ros.methods.registry import create_method

CHOICES = ('one', 'not one', 'car', 'car truck')
NAMES = st.sampled_from(['mpnp', 'mpnp_published'])
FAMILIES = st.sampled_from(['llama', 'opt', 'bloom', 'gpt2'])
POOLINGS = st.sampled_from(['none', 'question'])
REACHES = st.sampled_from(['answer', 'all'])
ITEMS = (('how many cars are there?', 'not one'), ('what is it?', 'car truck'), ('what is it?', 'car'))
prove = settings(deadline=None, max_examples=15, derandomize=True)


@prove
@given(NAMES, FAMILIES, POOLINGS, REACHES, st.integers(0, 50))
def test_losses_on_choices_are_what_answers_say(new_method, frame, name, family, pooling, reach, seed):
    pooling, reach = ('none', 'all') if name == 'mpnp_published' else (pooling, reach)
    method = new_method(family, name, seed=seed, pooling=pooling, reach=reach)
    tokens = [{'camera': frame(seed)}, {}, {'camera': frame(seed + 1, 3)}]
    examples = [method.prepare_answer(question, answer, CHOICES) for question, answer in ITEMS]
    losses = method.answer_losses(examples, tokens)
    for (question, answer), tokens_of_one, loss in zip(ITEMS, tokens, losses.tolist(), strict=True):
        reply = method.answer(method.prepare(question, CHOICES), tokens_of_one)
        assert math.exp(-loss) == pytest.approx(reply.probabilities[CHOICES.index(answer)], abs=1e-5)


@prove
@given(FAMILIES, POOLINGS, REACHES, st.integers(0, 50))
def test_losses_on_open_answers_equal_the_whole_run(
        new_method, frame, long_way, family, pooling, reach, seed):
    method = new_method(family, seed=seed, pooling=pooling, reach=reach)
    lm, camera = method.lm, frame(seed)
    losses = method.answer_losses([method.prepare_answer(*item) for item in ITEMS], [{'camera': camera}] * 3)
    for (question, answer), loss in zip(ITEMS, losses, strict=True):
        prompt = method.template.ids(lm.tokenizer, question)
        target = torch.tensor([*answer_tokens(lm.tokenizer, answer), lm.tokenizer.eos_token_id])
        asked, whole = (TextLayout.causal(ids[None]) for ids in (prompt, torch.cat([prompt, target[:-1]])))
        lower = lm.run_blocks(lm.embed(asked), asked, 0, 2)
        states = QuestionStates({2: lower}, torch.ones(1, len(prompt), dtype=torch.bool))
        prefix = LatentConnections(lm, method.links()).prefix({'camera': TokenBatch.stack([camera])}, states)
        sees = torch.arange(whole.tokens)[None] >= (len(prompt) - 1 if reach == 'answer' else 0)
        scores = lm.logits(long_way(lm, whole, prefix, sees))[0, len(prompt) - 1:]
        expected = torch.nn.functional.cross_entropy(scores, target, reduction='sum')
        torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-4)


@prove
@given(NAMES, FAMILIES, POOLINGS, REACHES, st.booleans())
def test_gradients_reach_every_parameter_of_the_links_and_no_other(
        new_method, plug, frame, name, family, pooling, reach, closed):
    pooling, reach = ('none', 'all') if name == 'mpnp_published' else (pooling, reach)
    method = new_method(family, name, pooling=pooling, reach=reach)
    plug(method, 'lidar', 1, pooling=pooling, reach=reach)
    for link in method.links().values() if name == 'mpnp_published' else ():
        torch.nn.init.normal_(link.lora.up, std=.1)  # from zero, the other matrix of LoRA has no gradient
    frozen = {key: tensor.clone() for key, tensor in method.lm.model.state_dict().items()}
    tokens = [{'camera': frame(1), 'lidar': frame(2)}, {'camera': frame(3)}, {'lidar': frame(4)}]
    choices = CHOICES if closed else ()
    examples = [method.prepare_answer(question, answer, choices) for question, answer in ITEMS]
    parameters = list(method.trainable_parameters())
    assert len({id(parameter) for parameter in parameters}) == len(parameters)
    before = [parameter.detach().clone() for parameter in parameters]
    optimiser = torch.optim.SGD(parameters, lr=1.)
    method.answer_losses(examples, tokens).mean().backward()
    optimiser.step()
    assert all(bool(parameter.grad.any()) for parameter in parameters)
    assert all(not torch.equal(parameter, old) for parameter, old in zip(parameters, before, strict=True))
    assert all(torch.equal(tensor, frozen[key]) for key, tensor in method.lm.model.state_dict().items())
    assert all(parameter.grad is None for parameter in method.lm.model.parameters())


@pytest.mark.parametrize('reach', ['answer', 'all'])
@pytest.mark.parametrize('pooling', ['none', 'question'])
def test_links_learn_what_only_the_frame_tells(new_method, frame, pooling, reach):
    method = new_method(pooling=pooling, reach=reach)
    frames = [{'camera': frame(seed)} for seed in range(4)]
    answers = ['one', 'car', 'not one', 'car truck']
    examples = [method.prepare_answer('what is it?', answer, CHOICES) for answer in answers]
    optimiser = torch.optim.Adam(method.trainable_parameters(), lr=1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        method.answer_losses(examples, frames).mean().backward()
        optimiser.step()
    replies = method.answer_batch([example.question for example in examples], frames)
    assert [reply.text for reply in replies] == answers


def test_the_blind_baseline_is_trained_by_the_same_code(tiny_lm):
    method = create_method('mpnp', tiny_lm('llama'))
    method.plug(LatentLink(LinkConfig.blind(method.lm, 6, 4, hidden=16, last=2)))
    examples = [method.prepare_answer(question, answer, CHOICES) for question, answer in ITEMS[:2]]
    optimiser = torch.optim.Adam(method.trainable_parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        optimiser.zero_grad()
        loss = method.answer_losses(examples, [{}, {}]).mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < .5 * losses[0]


def test_a_shared_frame_goes_through_the_aligner_once(new_method, frame):
    method, same = new_method(pooling='none'), frame()
    rows, aligner = [], method.links()['camera'].key_aligner
    aligner.register_forward_hook(lambda _, inputs, __: rows.append(len(inputs[0])))
    examples = [method.prepare_answer(question, answer, CHOICES) for question, answer in ITEMS]
    method.answer_losses(examples, [{'camera': same}, {'camera': same}, {'camera': frame(1)}])
    assert rows == [2]


def test_where_nothing_is_to_be_chosen_nothing_is_learned(new_method, frame):
    method = new_method()
    asked = method.prepare_answer('what is it?', 'car', ('car',))
    loss = method.answer_losses([asked], [{'camera': frame()}])
    loss.mean().backward()
    assert loss.tolist() == [0]
    gradients = [parameter.grad for parameter in method.trainable_parameters()]
    assert not any(gradient.any() for gradient in gradients if gradient is not None)


def test_examples_prepared_too_far_and_wrong_answers_are_refused(new_method, plug, frame):
    method = new_method()
    example = method.prepare_answer('what is it?', 'car', CHOICES)
    plug(method, 'lidar', last=3)
    with pytest.raises(LinksError, match="to block 2 for links that reach 'answer', but block 1 is linked"):
        method.answer_losses([example], [{'camera': frame()}])
    with pytest.raises(QuestionError, match="'bus' is not among the 4 choices"):
        method.prepare_answer('what is it?', 'bus', CHOICES)
    with pytest.raises(QuestionError, match='the answer is empty'):
        method.prepare_answer('what is it?', '  ')


def test_examples_for_another_reach_are_refused_unless_nothing_is_linked(new_method, plug, frame):
    method = new_method()
    examples = [method.prepare_answer(*item, CHOICES) for item in ITEMS]
    camera = method.unplug('camera')
    alone = method.answer_losses(examples, [{}] * 3)
    plug(method, reach='all')
    with pytest.raises(LinksError, match="for links that reach 'answer', .* linked now with reach 'all'"):
        method.answer_losses(examples, [{}] * 3)
    method.replace(camera)
    torch.testing.assert_close(method.answer_losses(examples, [{}] * 3), alone, rtol=0, atol=1e-5)


def test_examples_prepared_up_to_different_blocks_are_not_one_batch(new_method, plug):
    method = new_method()
    early = method.prepare_answer(*ITEMS[0], CHOICES)
    plug(method, 'lidar', last=3)
    late = method.prepare_answer(*ITEMS[1], CHOICES)
    method.unplug('lidar')
    with pytest.raises(LinksError, match=r'up to different blocks, \[1, 2\]; prepare all'):
        method.answer_losses([early, late], [{}] * 2)


@pytest.mark.parametrize('reach', ['answer', 'all'])
def test_a_loss_is_minus_the_log_probability_of_the_choice_whatever_rows_it_takes(new_method, frame, reach):
    choices = (*CHOICES, 'car park', '1', '10', '100')
    method, frames = new_method(reach=reach), [{'camera': frame(1)}, {'camera': frame(2)}] * len(choices)
    examples = [method.prepare_answer(f'is it a {word}?', choice, choices)
                for choice in choices for word in ('car', 'long dark truck')]
    losses = method.answer_losses(examples, frames)
    for example, tokens, loss in zip(examples, frames, losses.tolist(), strict=True):
        reply = method.answer(example.question, tokens)
        assert loss == pytest.approx(-math.log(reply.probabilities[example.target]), abs=1e-4)
