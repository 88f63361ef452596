"""Measuring what links standardise by, through a method."""
from __future__ import annotations

import numpy as np
import pytest
import torch

from mpnp_ros.errors import LinksError
from mpnp_ros.methods.link_options import LinkConfig
from mpnp_ros.methods.mpnp.link import LatentLink
from mpnp_ros.methods.registry import create_method

CHOICES = ('one', 'not one', 'car', 'car truck')
TEXTS = ('how many cars are there?', 'what is it?', 'is the truck to the front moving?', 'what?')


def examples_of(method):
    """The questions, with an answer."""
    return [method.prepare_answer(text, 'car', CHOICES) for text in TEXTS]


def statistics(method, modality='camera'):
    """Copies of what a link has measured."""
    return {name: tensor.clone() for name, tensor in method.links()[modality].named_buffers()}


@pytest.mark.parametrize('reach', ['answer', 'all'])
def test_states_and_tokens_are_standardised_by_what_the_questions_and_frames_are(new_method, frame, reach):
    method = new_method(reach=reach)
    frames, examples = [{'camera': frame(seed)} for seed in range(3)], examples_of(method)
    method.calibrate(examples, frames)
    found = statistics(method)
    values = torch.from_numpy(np.concatenate([tokens['camera'].values for tokens in frames]))
    ends = torch.cat([example.question.prepared.hidden[:, example.question.prepared.prompt_tokens - 1]
                      for example in examples])
    inner = torch.cat([example.question.prepared.hidden[0, 1:example.question.prepared.prompt_tokens]
                       for example in examples])
    for name, samples in (('standard', values), ('pooling.standard_end', ends),
                          ('pooling.standard_question', inner)):
        torch.testing.assert_close(found[f'{name}.mean'], samples.mean(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('modality', ['camera', 'lidar'])
def test_each_link_measures_its_own_tokens_at_its_own_block_once(new_method, plug, frame, modality):
    method = new_method()
    plug(method, 'lidar', 1, last=3)
    examples = examples_of(method)
    frames = [{'camera': frame(0), 'lidar': frame(7)}, {'camera': frame(1)}, {'lidar': frame(8)}, {}]
    method.calibrate(examples, frames)
    found = statistics(method, modality)
    values = np.concatenate([tokens[modality].values for tokens in frames if modality in tokens])
    torch.testing.assert_close(found['standard.mean'], torch.from_numpy(values.mean(0)))
    method.calibrate(examples[:2], [{'camera': frame(2), 'lidar': frame(3)}])
    assert all(torch.equal(tensor, found[name]) for name, tensor in statistics(method, modality).items())


def test_a_plain_link_beside_a_pooling_one_and_one_pruned_away(new_method, plug, frame):
    method = new_method()
    plug(method, 'lidar', 1, last=3, pooling='none')
    plug(method, 'radar', 2)
    method.links()['radar'].prune(1.)
    method.calibrate(examples_of(method), [{'camera': frame(), 'lidar': frame(1), 'radar': frame(2)}])
    measured = {name: link.standard.measured for name, link in method.links().items()}
    assert measured == {'camera': True, 'lidar': True, 'radar': False}


def test_the_blind_link_measures_questions_only(tiny_lm):
    method = create_method('mpnp', tiny_lm('llama'))
    method.plug(LatentLink(LinkConfig.blind(method.lm, 6, 4, last=2)))
    method.calibrate(examples_of(method), [{}])
    link = method.links()['blind']
    assert link.pooling.standard_end.measured and not link.standard.measured


def test_the_published_form_has_nothing_to_measure(new_method, frame):
    method = new_method(name='mpnp_published')
    before = [parameter.clone() for parameter in method.trainable_parameters()]
    method.calibrate(examples_of(method), [{'camera': frame()}])
    assert all(torch.equal(*pair) for pair in zip(before, method.trainable_parameters(), strict=True))


def test_questions_for_other_links_are_refused(new_method, frame):
    method = new_method(reach='all')
    examples = examples_of(method)
    method.replace(new_method().links()['camera'])
    with pytest.raises(LinksError, match="for links that reach 'all'"):
        method.calibrate(examples, [{'camera': frame()}])
    assert not method.links()['camera'].standard.measured
