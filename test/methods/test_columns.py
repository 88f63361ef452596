"""Methods whose modalities are columns of the text: what holds for all, and what each one computes."""
from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mpnp_ros.errors import LinksError
from mpnp_ros.llm.layout import TextLayout
from mpnp_ros.llm.prepared import choice_log_probabilities, prepare
from mpnp_ros.methods.columns.method import ColumnMethod
from mpnp_ros.methods.link import TokenBatch
from mpnp_ros.methods.link_files import load_link, save_link
from mpnp_ros.methods.registry import create_method, methods

QUESTION = 'how many cars are there?'
CHOICES = ('one', 'not one', 'car', 'car truck')
FAMILIES = st.sampled_from(['llama', 'opt', 'bloom', 'gpt2'])
SEEDS = st.integers(0, 20)
PROMPTED = ('prompt_fuse', 'ep_alm')
prove = settings(deadline=None, max_examples=12, derandomize=True)


def peers() -> list[str]:
    """All methods of columns."""
    return [name for name, spec in methods().items() if issubclass(spec.method, ColumnMethod)]


def plugged(lm, name, seed=0, modalities=('camera',), **options) -> ColumnMethod:
    """A method with random links, their zero parts too."""
    method = create_method(name, lm)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for modality in modalities:
            own = {'prompts': 2} if name in PROMPTED else {}
            method.plug(method.new_link(modality, 'encoder', 6, **own, **options))
        if name != 'full_llm':
            stir(method)
    return method


def stir(method: ColumnMethod) -> None:
    """Give all parameters some spread, so that nothing stays at zero."""
    with torch.no_grad():
        for parameter in method.trainable_parameters():
            parameter.add_(.2 * torch.randn_like(parameter))


def answered(method, tokens, question=QUESTION):
    return method.answer(method.prepare(question, CHOICES), tokens)


def close(reply, other, tolerance=1e-5):
    return reply.probabilities == pytest.approx(other.probabilities, abs=tolerance)


@prove
@given(st.sampled_from(peers()), st.sampled_from(['llama', 'opt']), SEEDS)
def test_a_batch_answers_as_one_by_one(tiny_lm, frame, name, family, seed):
    method = plugged(tiny_lm(family), name, seed, ('camera', 'lidar'))
    camera, other = frame(seed), frame(seed + 1, 3, 'lidar')
    questions = [(QUESTION, {'camera': camera}), ('what is it?', {'camera': camera, 'lidar': other}),
                 ('is the truck moving?', {}), (QUESTION, {'lidar': other}), (QUESTION, {'camera': camera})]
    together = method.answer_batch([method.prepare(text, CHOICES) for text, _ in questions],
                                   [tokens for _, tokens in questions])
    for (text, tokens), reply in zip(questions, together, strict=True):
        assert close(reply, answered(method, tokens, text)) and reply.used == tuple(sorted(tokens))


@pytest.mark.parametrize('name', peers())
def test_without_links_the_answer_is_the_text_only_models_and_unplugging_gives_it_back(tiny_lm, frame, name):
    lm = tiny_lm('llama')
    method = plugged(lm, name)
    alone = choice_log_probabilities(lm, prepare(lm, method.template, QUESTION, CHOICES, 0)).exp()
    seen = answered(method, {'camera': frame()})
    assert not close(seen, answered(method, {'camera': frame(1)}))
    link = method.unplug('camera')
    assert answered(method, {'camera': frame()}).probabilities == pytest.approx(alone.tolist(), abs=1e-6)
    method.plug(link)
    assert answered(method, {'camera': frame()}).probabilities == seen.probabilities


@pytest.mark.parametrize('name', peers())
def test_a_saved_link_answers_as_before(tiny_lm, frame, tmp_path, name):
    method = plugged(tiny_lm('llama'), name)
    before = answered(method, {'camera': frame()})
    digest = save_link(method.links()['camera'], tmp_path / '000001')
    other = create_method(name, method.lm)
    other.plug(load_link(tmp_path / '000001', lm=method.lm, sha256=digest))
    assert answered(other, {'camera': frame()}).probabilities == before.probabilities


@pytest.mark.parametrize('name', peers())
def test_all_that_is_trained_gets_a_gradient_and_nothing_else_changes(tiny_lm, frame, name):
    lm = tiny_lm('llama')
    method = plugged(lm, name, modalities=('camera', 'lidar'))
    frozen = {key: tensor.clone() for key, tensor in lm.model.state_dict().items()}
    parameters = list(method.trainable_parameters())
    assert len({id(parameter) for parameter in parameters}) == len(parameters)
    optimiser = torch.optim.AdamW(parameters, lr=1e-3)
    items = [('how many cars?', 'one'), ('what is the truck?', 'not one'), (QUESTION, 'car truck')]
    questions = [method.prepare_answer(*item, CHOICES) for item in items]
    tokens = [{'camera': frame(at), 'lidar': frame(at + 9, 4, 'lidar')} for at in range(3)]
    losses = []
    for _ in range(20):
        optimiser.zero_grad()
        loss = method.answer_losses(questions, tokens).mean()
        loss.backward()
        if not losses:
            named = [pair for link in method.links().values() for pair in link.named_parameters()]
            without = [key for key, parameter in named if key != 'direction.none'
                       and (parameter.grad is None or not bool(parameter.grad.any()))]
            assert not without
        losses.append(loss.item())
        optimiser.step()
    assert losses[-1] < losses[0]
    assert all(torch.equal(tensor, lm.model.state_dict()[key]) for key, tensor in frozen.items())


@prove
@given(st.sampled_from(peers()), st.sampled_from(['llama', 'opt']), SEEDS)
def test_generating_equals_reading_the_whole_text_again(tiny_lm, frame, name, family, seed):
    method = plugged(tiny_lm(family), name, seed)
    lm, tokens = method.lm, {'camera': frame(seed)}
    reply = method.answer(method.prepare(QUESTION), tokens)
    fragments = list(method.stream(method.prepare(QUESTION), tokens, 6))
    assert reply.text.startswith(''.join(fragment.text for fragment in fragments).strip())
    ids = method.template.ids(lm.tokenizer, QUESTION)
    for fragment in fragments:
        scores = text_rows(method, ids, tokens)[0][-1]
        best = int(scores.argmax())
        assert float(scores.softmax(-1)[best]) == pytest.approx(fragment.probability, abs=1e-4)
        ids = torch.cat([ids, torch.tensor([best])])


near = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-4)


def text_rows(method, ids, tokens) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores [T, V] and states [T, d] of a text behind the columns of a frame."""
    connections = method._connections.snapshot()
    completion = method.completion([method.prepare(QUESTION).prepared], [tokens], connections)
    layout = TextLayout.causal(ids[None])
    with torch.no_grad():
        model = completion.lm
        behind = layout.behind(completion.columns.real, method.counted, completion.ahead)
        hidden = completion.writer.run_blocks(model.embed(layout), behind, 0, model.blocks,
                                              cache=completion.cache.fork())
        return model.logits(hidden)[0], hidden[0]


@prove
@given(st.sampled_from(peers()), st.sampled_from(['llama', 'opt']), SEEDS, st.integers(1, 6))
def test_a_later_token_changes_nothing_before_it(tiny_lm, frame, name, family, seed, place):
    method = plugged(tiny_lm(family), name, seed)
    ids = method.template.ids(method.lm.tokenizer, QUESTION)
    other = ids.clone()
    other[-place] = (other[-place] + 7) % 300 + 2
    tokens = {'camera': frame(seed)}
    before, after = (text_rows(method, text, tokens)[0] for text in (ids, other))
    torch.testing.assert_close(before[:-place], after[:-place], rtol=0, atol=1e-5)
    assert not torch.allclose(before[-1], after[-1])


@prove
@given(FAMILIES, SEEDS)
def test_prompt_fuse_reads_one_sequence_of_tokens_prompts_and_text(tiny_lm, frame, family, seed):
    method = plugged(tiny_lm(family), 'prompt_fuse', seed)
    lm, link = method.lm, method.links()['camera']
    ids = method.template.ids(lm.tokenizer, QUESTION)
    columns = link(TokenBatch.stack([frame(seed)])).states[0]
    front = torch.cat([columns, link.shared.states[None]], 1)
    whole = TextLayout.causal(torch.cat([torch.zeros(front.shape[1], dtype=torch.long), ids])[None])
    with torch.no_grad():
        text = lm.embed(whole)
        if family in ('opt', 'gpt2'):  # their positions are part of the embedding, which columns do not get
            text = lm.embed(TextLayout.causal(ids[None]))
            text = torch.cat([front, text], 1)
        else:
            text = torch.cat([front, text[:, front.shape[1]:]], 1)
        expected = lm.run_blocks(text, whole, 0, lm.blocks)[0, front.shape[1]:]
    near(text_rows(method, ids, {'camera': frame(seed)})[1], expected)


@prove
@given(FAMILIES, SEEDS, st.sampled_from(['link', 'input']), st.integers(1, 3))
def test_ep_alm_overwrites_its_columns_block_by_block(tiny_lm, frame, family, seed, prompt_at, last):
    lm = tiny_lm(family)
    method = plugged(lm, 'ep_alm', seed, prompt_at=prompt_at, blocks=range(lm.blocks - last, lm.blocks),
                     connectors=2)
    link, ids = method.links()['camera'], method.template.ids(lm.tokenizer, QUESTION)
    states, prompts = link(TokenBatch.stack([frame(seed)])).states, link.shared.states[None]
    first, asked = link.config.blocks[0], TextLayout.causal(ids[None])
    with torch.no_grad():
        front, hidden = prompts[:, :0], lm.embed(asked)
        for block in range(lm.blocks):
            if block == link.first_block:
                front = prompts
            if block in states:
                front = torch.cat([states[block], front[:, front.shape[1] - prompts.shape[1]:]], 1)
            count = front.shape[1]
            layout = TextLayout.causal(torch.zeros(1, count + len(ids), dtype=torch.long))
            positions = torch.cat([torch.zeros(1, count, dtype=torch.long), asked.positions], 1)
            layout = TextLayout(layout.ids, positions, positions, layout.full_visible())
            both = lm.run_blocks(torch.cat([front, hidden], 1), layout, block, block + 1)
            front, hidden = both[:, :count], both[:, count:]
    assert first == min(states) and set(states) == set(link.config.injected)
    near(text_rows(method, ids, {'camera': frame(seed)})[1], hidden[0])


def test_ep_alm_pairs_blocks_and_depths_as_published(tiny_lm):
    link = create_method('ep_alm', tiny_lm()).new_link('camera', 'encoder', 6, blocks=range(4), connectors=6)
    assert link.config.injected == (0, 1, 2) and list(link.entering) == [0, 1, 2]
    config = link.config
    served = [min((block - 19) // 2, 5) for block in range(19, 31)]
    wide = type(config)(**{**vars(config), 'blocks': tuple(range(19, 32))})
    assert [wide.connector(block) for block in wide.injected] == served


def test_columns_are_means_over_neighbouring_tokens(tiny_lm, frame):
    method = create_method('prompt_fuse', tiny_lm())
    link = method.new_link('camera', 'encoder', 6, columns=3)
    tokens = TokenBatch.stack([frame(0, 6), frame(1, 4), frame(2, 2)])
    averaged = link(tokens)
    read = link.read(tokens)
    with torch.no_grad():
        pairs = link.projections['0'](read[0].unflatten(0, (3, 2)).mean(1))
        uneven = link.projections['0'](torch.stack([read[1, :2].mean(0), read[1, 2], read[1, 3]]))
        few = link.projections['0'](read[2, :2])
    torch.testing.assert_close(averaged.states[0][:2], torch.stack([pairs, uneven]))
    torch.testing.assert_close(averaged.states[0][2, :2], few)
    assert averaged.seen.tolist() == [[True] * 3, [True] * 3, [True, True, False]]


@settings(deadline=None, max_examples=25, derandomize=True)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(1, 5), st.sampled_from([1, 2]))
def test_columns_of_a_frame_are_the_same_in_any_batch(tiny_lm, frame, counts, columns, depths):
    method = create_method('ep_alm', tiny_lm())
    link = method.new_link('camera', 'encoder', 6, columns=columns, depths=depths, connectors=2)
    frames = [frame(seed, count * depths) for seed, count in enumerate(counts)]
    batch = link(TokenBatch.stack(frames))
    for row, own in enumerate(frames):
        alone = link(TokenBatch.stack([own]))
        real = batch.seen[row]
        assert int(real.sum()) == int(alone.seen.sum()) == min(columns, counts[row])
        for block, states in alone.states.items():
            torch.testing.assert_close(batch.states[block][row][real], states[0][alone.seen[0]])


def test_an_answer_that_has_begun_ends_with_what_was_shared_then(tiny_lm):
    method = create_method('prompt_fuse', tiny_lm())
    camera, lidar = (method.new_link(name, 'encoder', 6) for name in ('camera', 'lidar'))
    method.plug(camera)
    begun, before = method._connections.snapshot(), camera.shared
    method.plug(lidar)
    assert begun.shared is before and method._connections.snapshot().shared is lidar.shared is camera.shared
    method.unplug('lidar')
    assert method._connections.shared is lidar.shared
    method.unplug('camera')
    assert method._connections.shared is None


def test_what_links_share_must_be_made_alike(tiny_lm):
    method = create_method('prompt_fuse', tiny_lm())
    method.plug(method.new_link('camera', 'encoder', 6, prompts=2))
    with pytest.raises(LinksError, match='a lidar link with such options cannot share'):
        method.new_link('lidar', 'encoder', 6, prompts=3)
    other = create_method('prompt_fuse', tiny_lm()).new_link('lidar', 'encoder', 6, prompts=3)
    with pytest.raises(LinksError, match='lidar link and the camera link have in common is not made alike'):
        method.plug(other)
    assert list(method.links()) == ['camera']
    eas = create_method('eas', tiny_lm())
    for name, block in (('camera', 1), ('lidar', 2)):
        link = create_method('eas', tiny_lm()).new_link(name, 'encoder', 6, hidden=8, skipped=1)
        link.shared.choose([block])
        if name == 'camera':
            eas.plug(link)
    with pytest.raises(LinksError, match='is not made alike'):
        eas.plug(link)


def test_the_shared_part_of_the_link_plugged_last_serves_all(tiny_lm):
    method = create_method('prompt_fuse', tiny_lm())
    camera = method.new_link('camera', 'encoder', 6, prompts=2)
    method.plug(camera)
    lidar = method.new_link('lidar', 'encoder', 6, prompts=2)
    assert torch.equal(lidar.shared.states, camera.shared.states)
    method.plug(lidar)
    assert camera.shared is lidar.shared
    other = create_method('ep_alm', tiny_lm()).new_link('radar', 'encoder', 6)
    with pytest.raises(LinksError, match="'ep_alm'.*prompt_fuse takes 'prompt_fuse'"):
        method.plug(other)
    with pytest.raises(LinksError, match='cannot start from the radar link'):
        camera.start_from(other)
    with pytest.raises(LinksError, match='cannot be pruned'):
        method.prune(.1)


def test_the_weights_of_another_model_are_refused(tiny_lm):
    link = create_method('full_llm', tiny_lm('llama')).new_link('camera', 'encoder', 6)
    link.shared = create_method('full_llm', tiny_lm('opt')).new_link('camera', 'encoder', 6).shared
    with pytest.raises(LinksError, match='not those of a model like tiny-llama'):
        create_method('full_llm', tiny_lm('llama')).plug(link)
