"""Stand-ins for the attention of some blocks of a language model, learned from the whole model.

No labels are needed.  Which blocks are skipped is measured, and their stand-ins are learned, by how far the
states of the altered model are from those of the whole one on question texts: half way up, below which links
seldom begin, and at the end.  Stand-ins are never trained with a link, so blocks below the links still depend
on the question alone.
"""
from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from mpnp_ros.errors import ConfigurationError
from mpnp_ros.files import cache_root, write_file
from mpnp_ros.llm.block_parts import AffineMap
from mpnp_ros.llm.language_model import AlteredModel, BlockForm, LanguageModel
from mpnp_ros.llm.layout import TextLayout
from mpnp_ros.methods.eas.method import SkippedBlock
from mpnp_ros.methods.eas.redundancy import measure_skips
from mpnp_ros.options import Options, option

SCHEMA = 1
AMONG = ('all', 'lower', 'upper')
THINGS = ('car', 'truck', 'bus', 'pedestrian', 'bicycle', 'motorcycle', 'trailer', 'barrier', 'traffic cone')
STATES = ('moving', 'parked', 'stopped', 'standing', '')
PLACES = ('front', 'front left', 'front right', 'back', 'back left', 'back right')
QUESTIONS = (
    'Are there any {state} {thing}s to the {place} of me?', 'How many {state} {thing}s are there?',
    'What is the {state} thing to the {place} of the {thing}?', 'What is the status of the {thing}?',
    'Is there a {thing} to the {place} of the {state} {other}?',
    'Does the {thing} have the same status as the {other} to the {place}?')


class StandIns(nn.Module):
    """Stand-ins for the attention of some blocks: u -> u + up (down u) + shift of each, fixed.

    The adapter of methods/eas/method.py with one expert; all that does not depend on u is in its shift.
    down: [k, r, d].  up: [k, d, r].  shift: [k, d].
    """

    def __init__(self, skip: tuple[int, ...], rank: int, width: int) -> None:
        super().__init__()
        self.skip = skip
        self.register_buffer('down', torch.randn(len(skip), rank, width) * width ** -.5)
        self.register_buffer('up', torch.zeros(len(skip), width, rank))
        self.register_buffer('shift', torch.zeros(len(skip), width))

    @property
    def fingerprint(self) -> str:
        """32 hex digits, the same for the same blocks and numbers."""
        digest = hashlib.sha256(str(self.skip).encode())
        for tensor in (self.down, self.up, self.shift):
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:32]

    def change(self, block: int) -> AffineMap:
        """Return the stand-in for the attention of a block."""
        place = self.skip.index(block)
        shift = self.shift[place]
        return AffineMap(torch.ones_like(shift), self.up[place], self.down[place], shift)


class SkippingModel(AlteredModel):
    """A language model with some blocks without attention; it has an identity of its own.

    fold: whether stand-ins are in the model's matrices.
    """

    def __init__(self, lm: LanguageModel, stand_ins: StandIns, fold: bool = True) -> None:
        """lm: the unaltered model."""
        forms: dict[int, BlockForm] = {}
        for block in stand_ins.skip:
            change = stand_ins.change(block)
            if fold and block >= lm.first_block:
                parts = lm.parts(block)
                folded = parts.opening_after(change.then(parts.scale, parts.shift))
                forms[block] = SkippedBlock(folded=folded)
            else:
                forms[block] = SkippedBlock(change)
        identity = hashlib.sha256(f'{lm.fingerprint} {stand_ins.fingerprint}'.encode()).hexdigest()[:32]
        self.stand_ins = stand_ins
        super().__init__(lm, forms, identity)


@dataclass(frozen=True)
class DistilConfig(Options):
    """How to distil.  Raises OptionError for values out of range."""

    skipped: int = option(help='blocks without attention', low=0)
    first: int = option(
        help='a block below all links, where states are compared beside the last', low=0)
    among: str = option(
        'all', 'which blocks may be skipped: all; lower, those below `first`, which run once for a question; '
               'upper, the others, of which the linked ones run for every frame', choices=AMONG)
    rank: int = option(32, 'rank of the stand-ins', low=1)
    steps: int = option(100, 'training steps', low=0)
    texts: int = option(64, 'training texts', low=1)
    batch: int = option(4, 'texts per step', low=1)
    learning_rate: float = option(1e-3, 'learning rate', low=1e-30)
    breadth: int = option(2, 'as in measure_skips', low=1)
    seed: int = option(0, 'random seed')


def kept_stand_ins(lm: LanguageModel, texts: Sequence[torch.Tensor], config: DistilConfig,
                   folder: str | Path | None = None) -> StandIns:
    """As :func:`distil`, or what was distilled of the same before.

    folder: default `stand_ins` in the cache.
    """
    folder = Path(folder) if folder else cache_root() / 'stand_ins'
    facts = json.dumps([SCHEMA, lm.fingerprint, asdict(config), [text.tolist() for text in texts]])
    file = folder / f'{hashlib.sha256(facts.encode()).hexdigest()[:32]}.safetensors'
    try:
        tensors = load(file.read_bytes())
        stand_ins = StandIns(tuple(tensors.pop('skip').tolist()), config.rank, lm.width)
        stand_ins.load_state_dict(tensors)
        return stand_ins.to(lm.device)
    except (OSError, SafetensorError, KeyError, RuntimeError):
        stand_ins = distil(lm, texts, config)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.cpu().contiguous() for name, tensor in stand_ins.state_dict().items()}
    write_file(file, save({**tensors, 'skip': torch.tensor(stand_ins.skip)}))
    return stand_ins


def distil(lm: LanguageModel, texts: Sequence[torch.Tensor], config: DistilConfig) -> StandIns:
    """Choose which blocks go without attention, and return the stand-ins learned for it.

    texts: token ids [T] each.  Raises ConfigurationError for more blocks than can be skipped.
    """
    candidates = range(max(1, config.first) if config.among == 'upper' else 1,
                       config.first if config.among == 'lower' else lm.blocks)
    if config.skipped > len(candidates):
        raise ConfigurationError(f'{config.skipped} attentions are to be skipped; {lm.name} can go without '
                                 f'at most {len(candidates)}')
    if not config.skipped:
        return StandIns((), config.rank, lm.width).to(lm.device)
    whole = _Whole(lm, texts, min(config.first, lm.blocks - 1))
    skip = measure_skips(lambda blocks: whole.untrained_distance(tuple(sorted(blocks)), config), candidates,
                         config.skipped, config.breadth).order
    stand_ins = StandIns(tuple(sorted(skip)), config.rank, lm.width).to(lm.device)
    whole.begin_at(min(skip))
    _learn(whole, stand_ins, config)
    return stand_ins


def driving_questions(count: int, seed: int) -> list[str]:
    """Return questions as a driver might ask them, to distil on."""
    generator = torch.Generator().manual_seed(seed)

    def draw(options: Sequence[str]) -> str:
        return options[int(torch.randint(len(options), (1,), generator=generator))]

    texts = (draw(QUESTIONS).format(thing=draw(THINGS), other=draw(THINGS), state=draw(STATES),
                                    place=draw(PLACES)) for _ in range(count))
    return [' '.join(text.split()) for text in texts]


class _Whole:
    """States of the whole model on some texts at block `first` and at the end, [n, T, d] each."""

    def __init__(self, lm: LanguageModel, texts: Sequence[torch.Tensor], first: int) -> None:
        self.lm, self.first = lm, first
        layouts = [TextLayout.causal(text[None]) for text in texts]
        self.layout = TextLayout.stack(layouts).to(lm.device)
        lengths = torch.tensor([layout.tokens for layout in layouts], device=lm.device)
        self.real = torch.arange(self.layout.tokens, device=lm.device) < lengths[:, None]
        with torch.no_grad():
            self.start, self.inputs = 0, lm.embed(self.layout)
            self.middle, self.last = self.states(lm, torch.arange(len(texts), device=lm.device))
        self.scales = [1 / (states.float()[self.real].var(0) + 1e-6) for states in (self.middle, self.last)]

    @torch.no_grad()
    def begin_at(self, block: int) -> None:
        """Run the blocks below a block once and for all; at most up to block `first`."""
        stop = min(block, self.first)
        self.inputs = self.lm.run_blocks(self.inputs, self.layout, self.start, stop)
        self.start = stop

    def states(self, model: LanguageModel, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the states of some texts at the input of block `first` and at the end."""
        whole = self.layout
        layout = TextLayout(whole.ids[rows], whole.positions[rows], whole.column_positions[rows],
                            None if whole.visible is None else whole.visible[rows])
        middle = model.run_blocks(self.inputs[rows], layout, self.start, self.first)
        return middle, model.run_blocks(middle, layout, self.first, model.blocks)

    def distance(self, model: LanguageModel, rows: torch.Tensor) -> torch.Tensor:
        """Return the mean square error of the states of some texts, in deviations of each channel."""
        real, off = self.real[rows], self.last.new_zeros((), dtype=torch.float32)
        whole = self.middle, self.last
        for own, states, scale in zip(self.states(model, rows), whole, self.scales, strict=True):
            off = off + ((own.float() - states[rows].float())[real].square() * scale).mean()
        return off

    @torch.no_grad()
    def untrained_distance(self, skip: tuple[int, ...], config: DistilConfig) -> float:
        """Return the distance of a model with untrained stand-ins, on the first few texts."""
        stand_ins = StandIns(skip, config.rank, self.lm.width).to(self.lm.device)
        rows = torch.arange(min(config.batch, len(self.real)), device=self.lm.device)
        return float(self.distance(SkippingModel(self.lm, stand_ins, fold=False), rows))


@torch.enable_grad()
def _learn(whole: _Whole, stand_ins: StandIns, config: DistilConfig) -> None:
    generator = torch.Generator().manual_seed(config.seed)
    learned = [tensor.requires_grad_() for tensor in stand_ins.buffers()]
    optimiser = torch.optim.AdamW(learned, lr=config.learning_rate, weight_decay=0.)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1., .05, max(1, config.steps))
    for _ in range(config.steps):
        rows = torch.randperm(len(whole.real), generator=generator)[:config.batch].to(whole.lm.device)
        optimiser.zero_grad()
        whole.distance(SkippingModel(whole.lm, stand_ins, fold=False), rows).backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.)
        optimiser.step()
        schedule.step()
    for tensor in learned:
        tensor.requires_grad_(False)
        tensor.grad = None
