"""Accuracy of links to own motion and sounds, alone and beside links to objects, and who claims what."""
from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench.subjects.links import PAINTERS, TEST, TRAINING, SubjectStudy
from mpnp_ros.llm.question_files import QuestionFiles
from mpnp_ros.methods.link_files import load_link
from mpnp_ros.methods.link_store import shipped_links
from mpnp_ros.methods.method import Method
from mpnp_ros.questions.generator import Scope
from mpnp_ros.questions.phrasing import Meaning
from mpnp_ros.questions.rule import state_answer
from mpnp_ros.questions.subjects import MOTION, OBJECTS, SOUNDS, SUBJECTS, States, all_answers
from mpnp_ros.questions.wording import Description
from mpnp_ros.serving.coverage import CAN_ANSWER
from mpnp_ros.tokens import ModalityTokens
from mpnp_ros.training.batches import PreparedQuestions
from mpnp_ros.training.dataset import Example, Frame
from mpnp_ros.training.evaluation import majority_answers, replies_of
from mpnp_ros.training.painted_frames import Painter
from mpnp_ros.training.painted_questions import PaintedDataset, painted_questions
from mpnp_world.dataset.objects_only import scene_key_frames

FRAMES, OF_EACH_TYPE, PER_KIND = 400, 120, 5
SCOPE = Scope(30., 5, anchors=False)
OBJECT_SEEDS = range(40_000, 40_008)
CLAIMS = 300
"""Texts of each subject that are put to every reader."""
FAMILIES = (MOTION, SOUNDS)

Rows = dict[str, dict[str, float]]


class Measurement:
    """All links of the study plugged together with the shipped links to objects.

    own_words: folder with motion_words.txt, sound_words.txt and beyond.txt.
    """

    def __init__(self, study: SubjectStudy, own_words: Path) -> None:
        self.study, self.own_words = study, own_words
        self.alone: dict[str, Method] = {subject.name: study.link(subject) for subject in FAMILIES}
        objects = Method_of_objects(self.alone[MOTION.name])
        self.alone[OBJECTS.name] = objects
        self.together = Method_of_objects(objects)
        for subject in FAMILIES:
            self.together.plug(self.alone[subject.name].links()[subject.name])
        self.book = PreparedQuestions(self.together, QuestionFiles())
