"""Accuracies that tell what answers rest on: what sensors show and where, or the words of questions alone."""
from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from mpnp_ros.llm.question_files import QuestionFiles
from mpnp_ros.methods.method import Method
from mpnp_ros.questions.rule import parse_question, rule_answer
from mpnp_ros.questions.vocabulary import Channel
from mpnp_ros.tokens import ModalityTokens
from mpnp_ros.training.batches import PreparedQuestions
from mpnp_ros.training.dataset import Example, Frame, TokenDataset
from mpnp_ros.training.evaluation import Accuracy, InSteps, answers_of, majority_answers
from mpnp_ros.training.key_frames import heading_of, sample_of, scene_of, turn_tokens, twins
from mpnp_ros.training.true_objects import OBJECTS

AWAY = math.radians(120)
"""How far tokens are turned away: by two of the six directions of questions."""


class Comparison:
    """Answers of one method to the questions of a data set, from true and from wrong tokens.

    Intervals are over key frames.
    """

    def __init__(self, method: Method, dataset: TokenDataset, channels: Mapping[str, Sequence[Channel]], *,
                 train: Sequence[Example] = (), truth: Method | None = None, seed: int = 0,
                 files: QuestionFiles | None = None, in_steps: InSteps | None = None) -> None:
        """method: with the links to measure.

        channels: of the modalities whose tokens count objects.  train: questions whose answers the majority
        goes by, default: those of the data set.  truth: a method with links to true objects, whose tokens the
        data set has then.  seed: of the choice of wrong images.  files: folder of questions for the next run.
        in_steps: answers some questions from the tokens of sensors in another way.
        """
        self.method, self.dataset, self.truth, self._seed = method, dataset, truth, seed
        self._channels = {name: channels[name] for name in method.links() if name in channels}
        self._train, self._files = train or dataset.examples, files
        self._book, self._in_steps = PreparedQuestions(method, files), in_steps

    def rows(self) -> Iterator[tuple[str, Accuracy]]:
        """Yield accuracies by name, each when it is measured.

        sensors: the links with their tokens; NAME alone: with one modality of several.  rule: the fixed rule
        on tokens that count, on the questions that it reads.  turned away: the tokens turned by 120 degrees.
        wrong image: the tokens of another key frame, of another scene where there is one; left out where
        there is one key frame.  blind: links to tokens that count, which see nothing.  unplugged: the
        language model without links.  majority: the most frequent answer of each text.  true objects: the
        links to true objects.  Rows blind, unplugged and true objects do without `in_steps`.
        """
        frames, names = self.dataset.frames, tuple(self.method.links())

        def alone(name: str) -> Callable[[str], Frame]:
            return lambda key: {name: frames[key][name]}

        yield 'sensors', self._links(lambda key: frames[key])
        for name in names if len(names) > 1 else ():
            yield f'{name} alone', self._links(alone(name))
        for name in self._channels:
            if (rule := self._rule(name)).n:
                yield 'rule' if len(names) == 1 else f'{name} rule', rule
        yield 'turned away', self._links(lambda key: {
            name: turn_tokens(frames[key][name], AWAY) for name in names})
        if wrong := wrong_frames(frames, self._seed):
            yield 'wrong image', self._links(lambda key: frames[wrong[key]])
        some = next(iter(frames.values()))
        if self._channels:
            yield 'blind', self._without_frames({name: nothing_seen(some[name]) for name in self._channels})
        yield 'unplugged', self._without_frames({})
        yield 'majority', self._accuracy(majority_answers(self._train, self.dataset.examples))
        if self.truth is not None:
            book = PreparedQuestions(self.truth, self._files)
            yield 'true objects', self._accuracy(answers_of(
                self.truth, self.dataset.examples, book,
                lambda example: {OBJECTS: frames[example.frame][OBJECTS]}))

    def _links(self, see: Callable[[str], Frame]) -> Accuracy:
        """Return the accuracy of the links; see: key of a frame -> tokens; links read those of their own."""
        return self._accuracy(answers_of(self.method, self.dataset.examples, self._book,
                                         lambda example: see(example.frame), in_steps=self._in_steps))

    def _without_frames(self, frame: Frame) -> Accuracy:
        """Return the accuracy with the same tokens for all questions; each text is asked once."""
        texts = {(example.question, example.choices): example for example in self.dataset.examples}
        given = dict(zip(texts, answers_of(self.method, [*texts.values()], self._book, lambda example: frame),
                         strict=True))
        return self._accuracy([given[example.question, example.choices]
                               for example in self.dataset.examples])

    def _rule(self, name: str) -> Accuracy:
        """Return the accuracy of the rule on the tokens of a modality."""
        meanings = {text: parse_question(text)
                    for text in {example.question for example in self.dataset.examples}}
        read = [example for example in self.dataset.examples if meanings[example.question]]
        return self._accuracy([rule_answer(
            meanings[example.question], self.dataset.frames[example.frame][name], self._channels[name])
            for example in read], read)

    def _accuracy(self, answers: Sequence[str | None], examples: Sequence[Example] | None = None) -> Accuracy:
        return Accuracy.of(self.dataset.examples if examples is None else examples,
                           [answer or '' for answer in answers], self.dataset.conditions, sample_of)


def wrong_frames(keys: Iterable[str], seed: int = 0) -> dict[str, str]:
    """Return for the key of every frame that of a wrong one in the same heading; keys: of all frames.

    It is of another scene where there is one, otherwise of another key frame of the scene.  Twins of the
    simulated world count as one scene.  Empty where there is one key frame.
    """
    rng, wrong = random.Random(seed), {}
    of_heading: dict[int, list[str]] = defaultdict(list)
    for key in sorted(keys):
        of_heading[heading_of(key)].append(key)
    for alike in of_heading.values():
        scenes = {key: twins(scene_of(key)) for key in alike}
        several = len(set(scenes.values())) > 1
        if len(alike) < 2:
            return {}
        for key in alike:
            wrong[key] = key
            while wrong[key] == key or several and scenes[wrong[key]] == scenes[key]:
                wrong[key] = rng.choice(alike)
    return wrong


def nothing_seen(tokens: ModalityTokens) -> ModalityTokens:
    """Return tokens of the same encoder in which nothing is counted: one of zeros without a direction."""
    return ModalityTokens(tokens.modality, tokens.encoder, np.zeros_like(tokens.values[:1]),
                          np.full(1, math.nan, np.float32))
