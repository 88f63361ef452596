"""Average size of the questions of a training."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from statistics import fmean

from transformers import PreTrainedTokenizerBase

from mpnp_ros.errors import TrainingError
from mpnp_ros.llm.choices import ChoiceTrie, answer_tokens
from mpnp_ros.llm.prepared import PromptTemplate
from mpnp_ros.training.dataset import Example, TokenDataset

SAMPLED = 512


@dataclass(frozen=True)
class Workload:
    """Means over the questions of a training.

    prompt: tokens of a question.  rows: needed by the true answer, from the last one of the prompt on.  tree:
    rows needed by all choices.  decisions: rows on which the model decides.  candidates: tokens that compete
    there.  questions: their number; texts, frames: numbers of different ones among them.  tokens: modality ->
    tokens of a frame.
    """

    prompt: float
    rows: float
    tree: float
    decisions: float
    candidates: int
    questions: int
    texts: int
    frames: int
    tokens: Mapping[str, float]

    @classmethod
    def of(cls, dataset: TokenDataset, tokenizer: PreTrainedTokenizerBase,
           template: PromptTemplate | None = None, seed: int = 0) -> Workload:
        """Return the workload of at most 512 questions of a data set.  Raises TrainingError if empty.

        An unknown answer is replaced by any of the choices.
        """
        if not dataset.examples:
            raise TrainingError('no questions to train on')
        sampled = dataset.sample(SAMPLED, seed).examples
        counter = _Counter(tokenizer, template or PromptTemplate())
        counts = [counter(example) for example in sampled]
        prompt, rows, tree, decisions = (fmean(column) for column in zip(*counts, strict=True))
        texts = {(example.question, example.choices) for example in dataset.examples}
        frames = {example.frame for example in dataset.examples}
        seen = [dataset.frames[example.frame] for example in sampled]
        tokens = {name: fmean(frame[name].count for frame in seen if name in frame)
                  for name in dataset.modalities if any(name in frame for frame in seen)}
        return cls(prompt, rows, tree, decisions, len(counter.candidates), len(dataset.examples), len(texts),
                   len(frames), tokens)

    def distinct_frames(self, batch: int) -> float:
        """Return the mean number of different frames in a batch, drawn without replacement."""
        left_out = max(0., 1 - batch / self.questions)
        return self.frames * (1 - left_out ** (self.questions / self.frames))


class _Counter:
    """Counts prompt, rows, tree and decisions of an example; collects the candidates of all examples."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: PromptTemplate) -> None:
        self.tokenizer, self.template = tokenizer, template
        self.candidates: set[int] = set()
        self._trie = cache(lambda choices: ChoiceTrie(tokenizer, choices))

    def __call__(self, example: Example) -> tuple[int, int, int, int]:
        prompt = len(self.template.ids(self.tokenizer, example.question))
        if not example.choices:
            self.candidates.update(range(len(self.tokenizer)))
            length = len(answer_tokens(self.tokenizer, example.answer)) + 1
            return prompt, length, length, length
        trie = self._trie(example.choices)
        answer = example.answer or example.choices[prompt % len(example.choices)]
        targets = trie.targets(answer, prompt)
        self.candidates.update(token for target in targets for token in target.candidates)
        tree, path = trie.positions(prompt).tolist(), [target.position for target in targets]
        return prompt, _rows(path, prompt), _rows(tree, prompt), len(targets)


def _rows(positions: list[int], prompt: int) -> int:
    """Return the number of rows from the last one of the prompt to the last position."""
    return max((place - prompt + 2 for place in positions), default=1)
