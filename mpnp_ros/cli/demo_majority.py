"""Majority answers of the demo: the most frequent answer to each question, on other streets."""
from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mpnp_ros import __version__
from mpnp_ros.files import cache_root, cached_folder, write_file
from mpnp_ros.nuscenes.questions import LabelledQuestion, Scope, scene_questions

SEEDS, KEY_FRAMES, INTERVAL = range(60), 8, 3.0
FILE = 'majority.json'


@dataclass(frozen=True)
class Majority:
    """The most frequent answer of each question text and, for unknown texts, of its type."""

    by_text: Mapping[str, str]
    by_type: Mapping[str, str]

    @classmethod
    def of(cls, questions: Iterable[LabelledQuestion]) -> Majority:
        """Count the answers."""
        texts: dict[str, Counter[str]] = defaultdict(Counter)
        types: dict[str, Counter[str]] = defaultdict(Counter)
        for question in questions:
            texts[question.text][question.answer] += 1
            types[question.type][question.answer] += 1
        return cls(*({key: answers.most_common(1)[0][0] for key, answers in table.items()}
                     for table in (texts, types)))

    def guess(self, question: LabelledQuestion) -> str:
        """Return the majority answer; empty for an unknown type."""
        return self.by_text.get(question.text, self.by_type.get(question.type, ''))


def count_majority(scope: Scope, per_kind: int) -> Majority:
    """Return the majority of questions about true objects in scenes that the demo does not use.

    scope, per_kind: as in scene_questions.  Cached.
    """
    recipe = f'{__version__} {scope} {per_kind} {SEEDS} {KEY_FRAMES} {INTERVAL}'
    folder = cache_root() / 'demo' / f'majority-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}'
    folder.parent.mkdir(parents=True, exist_ok=True)

    def build(empty: Path) -> None:
        from mpnp_ros.world.key_frames import object_key_frames

        frames = object_key_frames(SEEDS, KEY_FRAMES, INTERVAL, workers=1, progress=False)
        counted = Majority.of(one for frame in frames for one in scene_questions(frame, 0, per_kind, scope))
        write_file(empty / FILE, json.dumps([counted.by_text, counted.by_type]).encode())

    return Majority(*json.loads((cached_folder(folder, recipe, build) / FILE).read_bytes()))
