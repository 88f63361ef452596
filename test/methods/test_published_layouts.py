"""Methods of columns against the published formulas, written out on the blocks of stock models.

Each text is one sequence [modality token][first token][columns][rest of the text], run whole.  Compared are
the log-probability of an answer and the gradients of all that is trained.  Differences of these methods that
docs/guide/methods.md names are in the formulas: tokens are cut off, and carry their direction.
"""
from __future__ import annotations

import pytest
import torch
from torch.nn.functional import conv1d, cross_entropy, silu

from mpnp_ros.llm.choices import answer_tokens
from mpnp_ros.methods.registry import create_method

ITEMS = (('how many cars are there?', 'one'), ('what is it?', 'car truck'), ('is it a truck?', 'no'))
TAU = 10.


def trained(lm, name, modalities=('camera',), **options):
    """A method with random links, of which no part is zero, and their parameters."""
    method = create_method(name, lm)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for modality in modalities:
            method.plug(method.new_link(modality, 'encoder', 6, **options))
        parameters = list(method.trainable_parameters())
        with torch.no_grad():
            for parameter in parameters:
                parameter.add_(.3 * torch.randn_like(parameter))
    return method, parameters


def read_tokens(link, tokens):
    """Cut off at 5, with directions: [P, D]."""
    angles = torch.from_numpy(tokens.azimuth)[:, None] * torch.arange(1, 5)
    fourier = torch.cat([angles.sin(), angles.cos()], 1).nan_to_num() @ link.direction.fourier.weight.T
    unknown = torch.from_numpy(tokens.azimuth).isnan()[:, None]
    values = torch.from_numpy(tokens.values).clamp(-5, 5)
    return values + torch.where(unknown, link.direction.none, fourier)


class Stock:
    """The stock model of a family, block by block; states are [1, N, d]."""

    def __init__(self, model, family):
        self.model, self.family = model.requires_grad_(False), family
        self.body = model.model.decoder if family == 'opt' else model.model
        self.layers = self.body.layers

    def embed(self, ids):
        """The text at block 0; positions are of the text alone."""
        words = self.body.embed_tokens(ids[None])
        if self.family == 'llama':
            return words
        return self.body.project_in(words) + self.body.embed_positions(
            None, position_ids=torch.arange(len(ids))[None])

    def attend(self, block, normed, visible):
        """Attention without residual; visible: [N, N], and rows are at positions 0, 1, 2..."""
        mask = torch.where(visible, 0., -torch.inf)[None, None]
        options = {}
        if self.family == 'llama':
            options['position_embeddings'] = self.body.rotary_emb(normed, torch.arange(len(visible))[None])
        return self.layers[block].self_attn(hidden_states=normed, attention_mask=mask, **options)[0]

    def norms(self, block):
        """The norms before attention and before the feed-forward."""
        names = ('input_layernorm', 'post_attention_layernorm') if self.family == 'llama' else (
            'self_attn_layer_norm', 'final_layer_norm')
        return [getattr(self.layers[block], name) for name in names]

    def feed_forward(self, block, normed):
        layer = self.layers[block]
        if self.family == 'llama':
            mlp = layer.mlp
            return mlp.down_proj(silu(mlp.gate_proj(normed)) * mlp.up_proj(normed))
        return layer.fc2(layer.activation_fn(layer.fc1(normed)))

    def logits(self, hidden):
        if self.family == 'llama':
            return self.model.lm_head(self.body.norm(hidden))
        return self.model.lm_head(self.body.project_out(self.body.final_layer_norm(hidden)))


def whole_text(method, question, answer):
    """Token ids of question and answer, and the length of the question."""
    tokenizer = method.lm.tokenizer
    prompt = method.template.ids(tokenizer, question).tolist()
    return [*prompt, *answer_tokens(tokenizer, answer), tokenizer.eos_token_id], len(prompt)


def compare(method, parameters, frames, restated):
    """Losses of answers and gradients, of the method and of restated(ids, prompt, frame) -> states [T, d]."""
    stock, examples, losses = restated.stock, [], []
    for (question, answer), tokens in zip(ITEMS, frames, strict=True):
        examples.append(method.prepare_answer(question, answer))
        ids, prompt = whole_text(method, question, answer)
        scores = stock.logits(restated(torch.tensor(ids[:-1]), prompt, tokens))[prompt - 1:]
        losses.append(cross_entropy(scores, torch.tensor(ids[prompt:]), reduction='sum'))
    ours, theirs = method.answer_losses(examples, frames), torch.stack(losses)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    gradients = [torch.autograd.grad(loss.mean(), parameters) for loss in (ours, theirs)]
    for own, their in zip(*gradients, strict=True):
        torch.testing.assert_close(own, their, rtol=1e-3, atol=2e-5)
    assert all(bool(own.any()) for own in gradients[0])


class Lavin:
    """LaVIN, and EAS on it: [modality token][first token][columns][text] through adapted blocks.

    means: EAS reads means over columns and question; else what the set of modalities says.
    """

    def __init__(self, method, stock, ahead, means=False):
        self.method, self.stock, self.ahead, self.means = method, stock, ahead, means
        self.links = method.links()
        self.shared = next(iter(self.links.values())).shared

    def __call__(self, ids, prompt, tokens):
        own = [self.links[name] for name in sorted(tokens)]
        text, token = self.stock.embed(ids)[0], self.shared.token + sum(link.key for link in own)
        columns = [link.projections['0'](read_tokens(link, tokens[link.config.modality])) for link in own]
        count = 1 + sum(map(len, columns))
        hidden = torch.cat([token[None], text[:self.ahead], *columns, text[self.ahead:]])
        visible = torch.ones(len(hidden), len(hidden)).tril().bool()
        visible[1:, 0] = False
        for block in range(len(self.stock.layers)):
            hidden = self.block(block, hidden, visible, count + prompt, own)
        return torch.cat([hidden[1:1 + self.ahead], hidden[count + self.ahead:]])

    def block(self, block, hidden, visible, end, links):
        """One block; end: of the question."""
        before, behind = self.stock.norms(block)
        u, adapter = before(hidden), self.shared.adapter(block)
        routing = u[1:end].mean(0) if self.means else u[0]
        weights = torch.softmax((adapter.router.weight @ routing + adapter.router.bias) / TAU, 0)
        skipped = getattr(self.shared, 'skipped', ())
        z = u @ adapter.down.weight.T + adapter.down.bias
        if block in skipped:
            slot = skipped.index(block)
            m = (u[:end] @ adapter.mean.weight.T + adapter.mean.bias).mean(0) if self.means else \
                sum(link.signals[slot] for link in links)
            z = (m + z) / 2
        for weight, up, shift in zip(weights, adapter.up, adapter.shift, strict=True):
            u = u + weight * conv1d(z.T[None], up.flatten(0, 1)[..., None], shift, groups=len(up))[0].T
        if block in skipped:
            return hidden + self.stock.feed_forward(block, behind.weight * u + getattr(behind, 'bias', 0))
        hidden = hidden + self.stock.attend(block, u[None], visible)[0]
        return hidden + self.stock.feed_forward(block, behind(hidden))


@pytest.mark.parametrize('family', ['llama', 'opt'])
@pytest.mark.parametrize('first', [True, False], ids=['bos', 'no bos'])
@pytest.mark.parametrize(('name', 'options'), [
    ('mma', {}), ('eas', {'skipped': 2, 'skipped_rank': 4}),
    ('eas', {'skipped': 2, 'skipped_rank': 4, 'means': 'text'})], ids=['mma', 'eas', 'eas-text'])
def test_adapted_blocks_are_the_published_ones(begun_lm, tiny_lm, tiny_model, frame, family, first, name,
                                               options):
    lm = (begun_lm if first else tiny_lm)(family)
    method, parameters = trained(lm, name, ('camera', 'lidar'), hidden=8, **options)
    if name == 'eas':
        method.links()['camera'].shared.choose([1, 3])
    frames = [{'camera': frame(0)}, {'camera': frame(1), 'lidar': frame(2, 3, 'lidar')},
              {'lidar': frame(3, 4, 'lidar')}]
    restated = Lavin(method, Stock(tiny_model(family), family), int(first), 'means' in options)
    compare(method, parameters, frames, restated)


@pytest.mark.parametrize('first', [True, False], ids=['bos', 'no bos'])
@pytest.mark.parametrize('options', [{}, {'means': 'text'}], ids=['eas', 'eas-text'])
@pytest.mark.parametrize('fold', [True, False], ids=['folded', 'unfolded'])
def test_what_is_generated_goes_on_with_the_routing_of_the_question(begun_lm, tiny_lm, tiny_model, frame,
                                                                    first, options, fold):
    method, _ = trained((begun_lm if first else tiny_lm)('llama'), 'eas', hidden=8, skipped=2, skipped_rank=4,
                        **options)
    method.fold, tokens = fold, {'camera': frame()}
    stock = Stock(tiny_model('llama'), 'llama')
    restated = Lavin(method, stock, int(first), 'means' in options)
    ids = method.template.ids(method.lm.tokenizer, ITEMS[0][0])
    prompt, fragments = len(ids), list(method.stream(method.prepare(ITEMS[0][0]), tokens, 4))
    assert len(fragments) > 1
    for fragment in fragments:
        with torch.no_grad():
            chances = stock.logits(restated(ids, prompt, tokens)[-1]).softmax(-1)
        assert float(chances.max()) == pytest.approx(fragment.probability, abs=1e-4)
        ids = torch.cat([ids, chances.argmax()[None]])


class PromptFuse:
    """[first token][columns][prompts][text]."""

    def __init__(self, method, stock, ahead):
        self.link, self.stock, self.ahead = method.links()['camera'], stock, ahead

    def __call__(self, ids, prompt, tokens):
        text, ahead = self.stock.embed(ids)[0], self.ahead
        columns = self.link.projections['0'](read_tokens(self.link, tokens['camera']))
        hidden = torch.cat([text[:ahead], columns, self.link.shared.states, text[ahead:]])
        visible = torch.ones(len(hidden), len(hidden)).tril().bool()
        for block in range(len(self.stock.layers)):
            before, behind = self.stock.norms(block)
            hidden = hidden + self.stock.attend(block, before(hidden)[None], visible)[0]
            hidden = hidden + self.stock.feed_forward(block, behind(hidden))
        return torch.cat([hidden[:ahead], hidden[len(hidden) - len(ids) + ahead:]])


@pytest.mark.parametrize('family', ['llama', 'opt'])
@pytest.mark.parametrize('first', [True, False], ids=['bos', 'no bos'])
def test_prompt_fuse_is_one_sequence(begun_lm, tiny_lm, tiny_model, frame, family, first):
    method, parameters = trained((begun_lm if first else tiny_lm)(family), 'prompt_fuse', prompts=2)
    frames = [{'camera': frame(seed, 3 + seed)} for seed in range(3)]
    compare(method, parameters, frames, PromptFuse(method, Stock(tiny_model(family), family), int(first)))


class EpAlm:
    """[prompts][text], and from the first linked block on [column][prompts][text], overwritten each block.

    As released, but for the row of a column, which sees earlier columns and itself only.
    """

    def __init__(self, method, stock):
        self.link, self.stock = method.links()['camera'], stock

    def __call__(self, ids, prompt, tokens):
        config, read = self.link.config, read_tokens(self.link, tokens['camera'])
        front, hidden = 0, torch.cat([self.link.shared.states, self.stock.embed(ids)[0]])
        linked = config.blocks[:-1]
        for block in range(len(self.stock.layers)):
            if block in linked:
                step = max(1, len(linked) // config.connectors)
                number = min((block - linked[0]) // step, config.connectors - 1)
                served = sorted(map(int, self.link.projections))[number]
                hidden = torch.cat([self.link.projections[str(served)](read), hidden[front:]])
                front = len(read)
            visible = torch.ones(len(hidden), len(hidden)).tril().bool()
            before, behind = self.stock.norms(block)
            hidden = hidden + self.stock.attend(block, before(hidden)[None], visible)[0]
            hidden = hidden + self.stock.feed_forward(block, behind(hidden))
        return hidden[len(hidden) - len(ids):]


@pytest.mark.parametrize('first', [True, False], ids=['bos', 'no bos'])
def test_ep_alm_is_as_released_but_for_what_a_column_sees(begun_lm, tiny_lm, tiny_model, frame, first):
    method, parameters = trained((begun_lm if first else tiny_lm)('opt'), 'ep_alm', prompts=2,
                                 prompt_at='input', blocks=(1, 2, 3), connectors=2)
    frames = [{'camera': frame(seed, 2)} for seed in range(3)]
    compare(method, parameters, frames, EpAlm(method, Stock(tiny_model('opt'), 'opt')))
