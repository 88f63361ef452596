"""Write the results of bench.paper_scale as JSON, page and picture."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.adaptation_memory.training_process import PROMPTS
from bench.common.figures import BLUE, FAINT, INK, YELLOW, new_figure, save_png
from bench.common.page import markdown_table, write_page
from bench.paper_scale.accounting import (
    COUNTED_PATCHES,
    NOT_DERIVED,
    PETA,
    TRUE_PATCHES,
    Reproduced,
    full_depth,
)
from bench.paper_scale.costs import (
    KEPT,
    LINKED,
    OPERATIONS_LIMITS,
    OURS,
    OURS_ALL_ROWS,
    PUBLISHED,
    Claim,
    Cost,
)
from bench.paper_scale.models import SWITCH
from mpnp_ros.cli.output import UNKNOWN
from mpnp_ros.training.budget import ADAMW

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GIGA, MEGA = 1e9, 1e6
PARTS = {'encoders': ('encoders', FAINT), 'reading': ('questions, read once', YELLOW),
         'steps': ('training steps', BLUE)}
BYTES = {'weights': ('weights', FAINT), 'moments': ('AdamW', YELLOW),
         'rest': ('gradients, activations', BLUE)}
WAYS = {PUBLISHED: 'nothing kept', KEPT: 'kept'}
COST_HEADS = ('method', 'way', 'trained, M', 'encoders', 'questions', 'steps', 'AdamW', 'PMAC in all',
              'weights, GB', 'AdamW, GB', 'rest, GB', 'peak, GB', 'beforehand, GB', 'on disk, GB')
MEASURED = 'on the GPU, GB'
PAPER_HEADS = ('model', 'method', 'printed', 'formula', 'counted', 'counted / formula')
CLAIM_HEADS = ('ours to theirs', 'reading', 'ratio', 'asked for', '')
DEPTH_HEADS = ('linked blocks', 'trained, M', 'PMAC in all', 'training step, GB', 'beforehand, GB',
               'on disk, GB')
PAGE = """# Cost of adapting at the sizes of the paper

Output of `python -m bench.paper_scale --output docs/results`, which takes {minutes:.0f} minutes of
one CPU thread. The paper is arXiv:2312.07886. All figures are in [paper_scale.json](paper_scale.json).
Nothing was trained and no weights were loaded: operations are counted by torch in real training steps on
tensors without data, memory is that of the storages alive in such steps.
One PMAC is 1e15 multiply-accumulates.

## The paper's accounting, reproduced

{paper}

- The formula gives every row above: within {printed:.3f} of the tables as printed, and within {figure:.3f} of
  OPT-2.7B, which is read from a figure. Torch's counter on the real modules agrees with it within
  {counted:.1f} %. What the paper calls FLOPs are multiply-accumulates.
- In it a LiDAR sweep has {patches} tokens, where RangeViT has {true_patches}; links and prompts cost nothing;
  the head reads all positions.
- Not reproduced within 0.01, as printed and by the formula with gradients through all blocks:
  {lost}.
  The paper does not state their sizes. Its memory column (23 to 30 GB) does not follow from the sizes
  either.

## Everything counted

{text} tokens of text, {answer} of them the answer's; {samples} questions, {epochs} epochs, batches of
{batch}; {frames} different frames and {samples} different questions. Frozen weights are bfloat16, what is
trained is float32; attention is fused as torch does it; no gradient checkpointing.

- **Nothing kept**, as published: encoders run in every epoch, one frame at a time, and the head on all
  positions. **Kept**: tokens of a frame and all of a question that does not depend on what is trained are
  computed once and read from disk, and the head reads the positions of the answer only. The same is kept
  for the other methods where possible. *Beforehand* is the peak of encoding, and of reading questions with
  the whole model.
- Encoders are complete: all patches of every view, and the convolutions of RangeViT. Steps have blocks, head
  and trained parts, forward and backward. AdamW counts as {adamw} multiply-adds a parameter and step.
- Peers with learned prompts have {prompts} of them (the paper counts none). LaVIN's adapters within the image
  encoder are left out, so that all methods read the same tokens. Ours scores the whole vocabulary here,
  though with choices it reads only those rows of the head that score them.
- This page contains no accuracy. In ours only the rows that decide the answer see the prefix; its
  [accuracy](accuracy.md) is measured separately. *{all_rows}* is ours with the paper's reach.

{tables}

![costs](paper_scale.png)

### By number of linked blocks

Ours, {depth_model}, {depth_task}.

{depth}

### By length of the questions

Ratios of operations, {depth_model}, {depth_task}, all methods kept what can be kept.

{lengths}

- 72 tokens are the longest text that the paper allows. A question of this package with its answer has 17
  tokens in the mean, and 95 % have at most 24 (tokenizer of SmolLM2). Others pay for every row in every
  epoch, ours for the rows of the answer; so the shorter the questions, the smaller the lead.
- {length_verdict}
- Ours links only the rows of the answer. With the paper's reach, all rows linked, it takes
  {all_rows_share:.2f} of the operations of PromptFuse instead of {share:.2f}, at the longest text.

## Ratios

Ours with {linked} linked blocks, {depth_model}, {depth_task}, compared with the other methods, under every
accounting.

{claims}

- If encoders run in every epoch for both, they dominate the cost of both.
- Reading questions takes the whole model in memory for a short time, which the training step does not.
- The states of all questions, {stored:.1f} GB, exceed the rest unless they stay on disk. Links are
  trained here with files mapped into memory on a CPU; on a GPU the trainer keeps it there.

{others}

{measured}
"""
TABLE = '### {model}, {adaptation}\n\n{table}'
NOT_MEASURED = (
    'Memory was not measured on a GPU for this page, as there was none: `--device cuda` runs the same steps\n'
    'with random weights and shows `torch.cuda.max_memory_allocated` beside. That part was not run.\n'
    'The tracker itself is tested against what the CPU allocator really gave to small models.')
WAS_MEASURED = 'The last column of the tables is `torch.cuda.max_memory_allocated` of the same steps.'


@dataclass(frozen=True)
class PaperScale:
    """All results: rows of the paper, costs of all pairs of model and adaptation, and of ours by depth.

    lengths: ratios of ours to others by the tokens of a question with its answer.
    claims: (model, adaptation) -> ratios; the first pair is the main one.
    """

    paper: Sequence[Reproduced]
    costs: Sequence[Cost]
    depths: Mapping[int, Cost]
    lengths: Mapping[int, Mapping[str, float]]
    claims: Mapping[tuple[str, str], Sequence[Claim]]
    seconds: float

    def costs_of(self, model: str, adaptation: str) -> list[Cost]:
        """The costs of one model and adaptation."""
        return [cost for cost in self.costs if (cost.model, cost.adaptation) == (model, adaptation)]


def write_report(found: PaperScale, folder: Path) -> Path:
    """Write paper_scale.json, .md and .png; returns the path of the page."""
    model, adaptation = next(iter(found.claims))
    return write_page(folder / 'paper_scale.md', text_of(found), as_json(found),
                      lambda path: draw(found.costs_of(model, adaptation), f'{model}, {adaptation}', path))


def as_json(found: PaperScale) -> dict[str, object]:
    """The results as plain values."""
    return {'paper': [asdict(entry) for entry in found.paper],
            'costs': [{**asdict(cost), 'macs': cost.macs, 'peak': cost.memory.peak} for cost in found.costs],
            'lengths': {length: dict(ratios) for length, ratios in found.lengths.items()},
            'depths': {number: {**asdict(cost), 'macs': cost.macs} for number, cost in found.depths.items()},
            'claims': [{'model': model, 'adaptation': adaptation, **asdict(claim), 'holds': claim.holds}
                       for (model, adaptation), some in found.claims.items() for claim in some]}


def text_of(found: PaperScale) -> str:
    """The page as Markdown."""
    pairs = list(found.claims)
    model, task = pairs[0]
    measured = any(cost.memory.measured for cost in found.costs)
    ours = next(cost for cost in found.costs if cost.method == OURS)
    tables = [TABLE.format(model=pair[0], adaptation=pair[1],
                           table=markdown_table(*cost_table(found.costs_of(*pair)))) for pair in pairs]
    lost = ', '.join(f'{method} on {name} ({printed:.2f}, {full_depth(name):.3f})'
                     for (name, method), printed in NOT_DERIVED.items())
    longest, shortest = (found.lengths[pick(found.lengths)] for pick in (max, min))
    beyond = [f'{of} {shortest[of]:.3f} (asked {limit})' for rival, limit in OPERATIONS_LIMITS.items()
              if shortest[of := f'frames of their own: mPnP / {rival}'] > limit]
    failed = [f'- {name}, {adaptation}: {claim.of}, {claim.reading}: {claim.ratio:.3f}, above {claim.limit}'
              for name, adaptation in pairs[1:] for claim in found.claims[name, adaptation]
              if not claim.holds]
    others = '\n'.join(['At the other sizes all hold but for:', '', *failed]) if failed else \
        'At the other sizes all hold.' * (len(pairs) > 1)

    def off(figure: bool) -> float:
        """The largest difference of the formula from the published rows, of tables or of a figure."""
        return max((abs(entry.formula - entry.row.published) for entry in found.paper
                    if entry.row.figure == figure), default=0.)

    return PAGE.format(
        paper=markdown_table(PAPER_HEADS, paper_cells(found.paper)), printed=off(False), figure=off(True),
        counted=100 * max(abs(entry.counted / entry.formula - 1) for entry in found.paper),
        text=SWITCH.text, answer=SWITCH.answer, samples=SWITCH.samples, epochs=SWITCH.epochs,
        batch=SWITCH.batch, frames=SWITCH.frames, patches=COUNTED_PATCHES, true_patches=TRUE_PATCHES,
        lost=lost, adamw=ADAMW, prompts=PROMPTS, all_rows=OURS_ALL_ROWS,
        minutes=max(1, found.seconds / 60), tables='\n\n'.join(tables),
        depth_model=model, depth_task=task, linked=LINKED[model],
        depth=markdown_table(DEPTH_HEADS, depth_cells(found.depths)),
        lengths=markdown_table(*length_table(found.lengths)),
        length_verdict=f'Not reached with {min(found.lengths)} tokens: {"; ".join(beyond)}.' if beyond else
        f'Both limits on operations hold with {min(found.lengths)} tokens and frames of their own, too.',
        share=longest['mPnP / PromptFuse'], all_rows_share=longest['all rows linked / PromptFuse'],
        stored=ours.memory.stored / GIGA,
        claims=markdown_table(CLAIM_HEADS, claim_cells(found.claims[model, task])), others=others,
        measured=WAS_MEASURED if measured else NOT_MEASURED)


def paper_cells(paper: Sequence[Reproduced]) -> list[list[str]]:
    """Rows of the paper's own accounting."""
    return [[entry.row.model, entry.row.method, f'{entry.row.published:.2f}', f'{entry.formula:.3f}',
             f'{entry.counted:.3f}', f'{entry.counted / entry.formula:.3f}'] for entry in paper]


def cost_table(costs: Sequence[Cost]) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of the table of costs; with measured memory if a GPU was used."""
    measured = any(cost.memory.measured for cost in costs)
    rows = []
    for cost in costs:
        parts, memory = (cost.encoders, cost.reading, cost.steps, cost.optimiser, cost.macs), cost.memory
        sizes = (memory.weights, memory.moments, memory.rest, memory.peak, memory.reading, memory.stored,
                 *[memory.measured] * measured)
        rows.append([cost.method, WAYS[cost.way], f'{cost.parameters / MEGA:.1f}',
                     *(f'{part / PETA:.4f}' if part else UNKNOWN for part in parts), *map(_giga, sizes)])
    return [*COST_HEADS, *[MEASURED] * measured], rows


def depth_cells(depths: Mapping[int, Cost]) -> list[list[str]]:
    """Rows of ours by linked blocks."""
    return [[str(number), f'{cost.parameters / MEGA:.1f}', f'{cost.macs / PETA:.3f}', _giga(cost.memory.peak),
             _giga(cost.memory.reading), _giga(cost.memory.stored)] for number, cost in depths.items()]


def claim_cells(some: Sequence[Claim]) -> list[list[str]]:
    """Rows of ratios."""
    return [[claim.of, claim.reading, f'{claim.ratio:.3f}', f'<= {claim.limit}',
             'yes' if claim.holds else '**no**'] for claim in some]


def length_table(lengths: Mapping[int, Mapping[str, float]]) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of the ratios by the length of questions."""
    heads = ['text tokens', *next(iter(lengths.values()))]
    return heads, [[str(length), *(f'{ratio:.3f}' for ratio in ratios.values())]
                   for length, ratios in lengths.items()]


def _giga(count: float) -> str:
    return f'{count / GIGA:.2f}' if count else UNKNOWN


def draw(costs: Sequence[Cost], title: str, path: Path) -> None:
    """Draw bars of operations and of memory, one for each method and way."""
    figure = new_figure(15, 6.8, dpi=100)
    left, right = figure.subplots(1, 2, sharey=True)
    figure.subplots_adjust(left=.235, right=.985, top=.86, bottom=.085, wspace=.05)
    figure.text(.012, .95, f'Adapting at the size of {title}: everything counted', fontsize=14, color=INK)
    places: list[float] = []  # bars of one method are close together
    for number, cost in enumerate(costs):
        near = number and costs[number - 1].method == cost.method
        places.append((places[-1] if places else 0) + (.85 if near else 1.25))
    _bars(left, places, [[getattr(cost, name) / PETA for name in PARTS] for cost in costs], PARTS)
    _bars(right, places, [[getattr(cost.memory, name) / GIGA for name in BYTES] for cost in costs], BYTES)
    for place, cost in zip(places, costs, strict=True):
        weight = 'bold' if cost.method == OURS else 'normal'
        _write(left, cost.macs / PETA, place, f'{cost.macs / PETA:.2f}', weight)
        peak, reading, before = cost.memory.peak / GIGA, cost.memory.reading / GIGA, ''
        if reading > peak:  # a line where reading beforehand takes more than the step
            before = f', reading questions beforehand {reading:.1f}'
            right.plot([reading] * 2, [place - .38, place + .38], color=INK, lw=1.4)
        _write(right, max(peak, reading), place, f'{peak:.1f}{before}', weight)
    left.set_xlabel('1e15 multiply-accumulates of the whole adaptation', color=INK)
    right.set_xlabel('GB at the peak of a training step', color=INK)
    left.set_yticks(places, [f'{cost.method}, {WAYS[cost.way]}' for cost in costs], color=INK)
    left.invert_yaxis()
    save_png(figure, path)


def _bars(axes: Axes, places: Sequence[float], values: Sequence[Sequence[float]],
          parts: Mapping[str, tuple[str, str]]) -> None:
    """Stacked bars; parts: name -> label and colour."""
    ends = [0.] * len(values)
    for number, (label, colour) in enumerate(parts.values()):
        lengths = [bar[number] for bar in values]
        axes.barh(places, lengths, .7, ends, color=colour, label=label)
        ends = [end + length for end, length in zip(ends, lengths, strict=True)]
    axes.set_xlim(0, 1.08 * max(ends))
    axes.legend(frameon=False, ncols=3, loc='lower left', bbox_to_anchor=(-.01, 1.), labelcolor=INK)
    axes.spines[['top', 'right']].set_visible(False)
    axes.tick_params(colors=FAINT)


def _write(axes: Axes, end: float, place: float, text: str, weight: str) -> None:
    axes.text(end + axes.get_xlim()[1] * .011, place, text, va='center', fontsize=9, color=INK, weight=weight)
