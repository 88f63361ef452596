"""Accuracy of links to own motion and sounds, alone and beside links to objects, and who claims what."""
from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench.subjects.links import PAINTERS, TEST, SubjectStudy
from mpnp_ros.llm.question_files import QuestionFiles
from mpnp_ros.methods.method import Method
from mpnp_ros.methods.registry import create_method
from mpnp_ros.questions.generator import NEARBY
from mpnp_ros.questions.phrasing import Meaning
from mpnp_ros.questions.rule import state_answer
from mpnp_ros.questions.subjects import MOTION, OBJECTS, SOUNDS, SUBJECTS, States, all_answers
from mpnp_ros.questions.wording import Description
from mpnp_ros.tokens import ModalityTokens
from mpnp_ros.training.answerable import probes_of, reader_of
from mpnp_ros.training.batches import PreparedQuestions
from mpnp_ros.training.dataset import Example, Frame, TokenDataset
from mpnp_ros.training.evaluation import answers_of, majority_answers
from mpnp_ros.training.painted_frames import Painter
from mpnp_ros.training.painted_questions import PaintedDataset, painted_questions
from mpnp_world.dataset.objects_only import scene_key_frames

FAMILIES: tuple[States, ...] = (MOTION, SOUNDS)
OWN_WORDS = {MOTION.name: 'motion_words.txt', SOUNDS.name: 'sound_words.txt', OBJECTS.name: 'own_words.txt'}
FRAMES, OF_EACH_TYPE, PER_KIND = 400, 70, 5
OBJECT_SEEDS = range(40_000, 40_006)
TEXTS = 100
"""Texts of each subject that are put to every reader."""
ASKED_EACH = 3
"""Times that a question in own words is asked, about frames with different answers."""

Shares = dict[str, float]


def percent(values: Sequence[bool]) -> float:
    """The share of True in percent, rounded to one digit."""
    return round(100 * float(np.mean(values)), 1)


def shares(examples: Sequence[Example], answers: Sequence[str | None]) -> Shares:
    """Accuracies of all examples and by type, in percent."""
    right: dict[str, list[bool]] = defaultdict(list)
    for example, answer in zip(examples, answers, strict=True):
        for kind in ('all', example.type):
            right[kind].append(answer == example.answer)
    return {kind: percent(values) for kind, values in right.items()}


def of_meanings(data: PaintedDataset) -> list[Example]:
    """The questions with their meanings in place of their words, so that those of all words are one."""
    return [replace(example, question=repr(data.meanings[example.question]))
            for example in data.dataset.examples]


def lines(path: Path) -> list[str]:
    """The lines of a file, without comments."""
    return [line for line in path.read_text('utf-8').splitlines() if line[:1] != '#']


class Measurement:
    """Links of all subjects, each plugged alone and all together, and what they answer.

    words: folder of the questions in own words.
    """

    def __init__(self, study: SubjectStudy, words: Path) -> None:
        self.study, self.words = study, words
        self.alone = {name: study.link(name) for name in SUBJECTS}
        self.together = create_method('mpnp', study.lm)
        for method in self.alone.values():
            for link in method.links().values():
                self.together.plug(link)
        self.book = PreparedQuestions(self.together, QuestionFiles())
        self.tests = {subject.name: [self._test(subject, held_out) for held_out in (False, True)]
                      for subject in FAMILIES}
        self.objects = self._objects()

    def families(self) -> dict[str, dict[str, Shares]]:
        """Accuracies of the families of questions, by subject and words, of everyone who answers."""
        found: dict[str, dict[str, Shares]] = {}
        for subject in FAMILIES:
            train = self.study.training(subject)
            blind = self.study.blind(subject)
            for words, data in zip(('words of training', 'held-out words'), self.tests[subject.name],
                                   strict=True):
                examples, frames = data.dataset.examples, data.dataset.frames
                answers: dict[str, Sequence[str | None]] = {
                    'links': self._answers(self.alone[subject.name], data.dataset),
                    'rule': [state_answer(data.meanings[example.question],
                                          frames[example.frame][subject.name], subject)
                             for example in examples],
                    'blind': self._answers(blind, data.dataset),
                    'majority': majority_answers(of_meanings(train), of_meanings(data))}
                found[f'{subject.name}, {words}'] = {who: shares(examples, given)
                                                     for who, given in answers.items()}
        return found

    def beside(self) -> dict[str, Shares]:
        """Accuracy of each subject's link alone and beside all others, and the share of equal answers."""
        data = {name: tests[0].dataset for name, tests in self.tests.items()} | {
            OBJECTS.name: self.objects.dataset}
        others = {name: [frame[name] for frame in part.frames.values()] for name, part in data.items()}
        found: dict[str, Shares] = {}
        for name, part in data.items():
            rng = random.Random(0)
            frames: dict[str, Frame] = {
                key: {**{other: rng.choice(tokens) for other, tokens in others.items()}, **frame}
                for key, frame in part.frames.items()}
            alone = self._answers(self.alone[name], part)
            all_plugged = self._answers(self.together, replace(part, frames=frames))
            found[name] = {'alone': shares(part.examples, alone)['all'],
                           'beside the others': shares(part.examples, all_plugged)['all'],
                           'same answer': percent([one == other for one, other
                                                   in zip(alone, all_plugged, strict=True)])}
        return found

    def claims(self) -> dict[str, Shares]:
        """Share of texts of each kind that each reader says it can answer, and that none does, in percent."""
        rng = random.Random(TEST)
        texts = {f'{name}, {words}': [subject.say(subject.any_meaning(rng), rng, held_out)
                                      for _ in range(TEXTS)]
                 for name, subject in SUBJECTS.items()
                 for words, held_out in (('words of training', False), ('held-out words', True))}
        texts |= {f'{name}, own words': [text for text, _ in self.own_words(name)] for name in SUBJECTS}
        texts |= {f'close to {name}': [subject.say_near(rng) for _ in range(TEXTS)]
                  for name, subject in SUBJECTS.items()}
        texts['beyond all, own words'] = list(lines(self.words / 'beyond.txt'))
        every = sorted({text for part in texts.values() for text in part})
        links = self.together.links()
        probes = probes_of(self.together, sorted(links), every)
        place = {text: row for row, text in enumerate(every)}
        able = {name: (reader_of(links[name]).can_answer(asked) > 0).tolist()
                for name, asked in probes.items()}
        return {kind: {**{name: percent([able[name][place[text]] for text in part]) for name in SUBJECTS},
                       'none': percent([not any(able[name][place[text]] for name in SUBJECTS)
                                        for text in part])}
                for kind, part in texts.items()}

    def people(self) -> dict[str, Shares]:
        """Accuracies of questions in own words, by type, with all links plugged."""
        found = {}
        for subject in FAMILIES:
            rng = random.Random(0)
            painter = PAINTERS[subject.name](TEST)
            painted = [painter.paint(index, 'hard', whole=True) for index in range(FRAMES)]
            right: dict[str, list[bool]] = defaultdict(list)
            for text, meaning in self.own_words(subject.name):
                by_answer = defaultdict(list)
                for frame in painted:
                    by_answer[frame.answer(meaning)].append(frame.tokens)
                asked = self.together.prepare(text, all_answers())
                for answer in rng.choices(sorted(by_answer), k=ASKED_EACH):
                    tokens = self._seen(rng.choice(by_answer[answer]))
                    reply = self.together.answer(asked, {subject.name: tokens})
                    for kind in ('all', meaning.type):
                        right[kind].append(reply.text == answer)
            found[subject.name] = {kind: percent(values) for kind, values in right.items()}
        return found

    def own_words(self, name: str) -> Iterator[tuple[str, Meaning]]:
        """Questions in own words; a line is: words | type | category: status | direction."""
        for line in lines(self.words / OWN_WORDS[name]):
            text, kind, thing, direction, *_ = (part.strip() for part in line.split('|'))
            category, _, status = thing.partition(': ')
            yield text, Meaning(kind, Description(category, status or None), direction or None)

    def _test(self, subject: States, held_out: bool) -> PaintedDataset:
        return self.study.painted(subject, TEST + held_out, FRAMES, PER_KIND, OF_EACH_TYPE, held_out=held_out)

    def _objects(self) -> PaintedDataset:
        """Questions about painted frames of held-out streets."""
        base = [frame for seed in OBJECT_SEEDS for frame in scene_key_frames(seed, 6, 4.)]
        painter = Painter(base, NEARBY, TEST)
        data = painted_questions(map(painter.paint, range(FRAMES // 2)), TEST, of_each_type=OF_EACH_TYPE,
                                 choices=all_answers())
        frames = {key: {OBJECTS.name: self._seen(frame[OBJECTS.name])}
                  for key, frame in data.dataset.frames.items()}
        return replace(data, dataset=replace(data.dataset, frames=frames))

    def _seen(self, tokens: ModalityTokens) -> ModalityTokens:
        """The tokens, labelled as those of the encoder of the link."""
        return replace(tokens, encoder=self.together.links()[tokens.modality].config.encoder)

    def _answers(self, method: Method, data: TokenDataset) -> list[str | None]:
        return answers_of(method, data.examples, self.book, lambda example: data.frames[example.frame])
