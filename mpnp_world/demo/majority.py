"""Majority answers of the demo: the most frequent answer to each question, on other streets."""
from __future__ import annotations

import hashlib
import json
from pathlib import Path

from mpnp_ros import __version__
from mpnp_ros.files import cache_root, cached_folder, write_file
from mpnp_ros.questions.generator import Scope, scene_questions
from mpnp_ros.questions.majority import Majority

SEEDS, KEY_FRAMES, INTERVAL = range(60), 8, 3.0
FILE = 'majority.json'


def count_majority(scope: Scope, per_kind: int) -> Majority:
    """Return the majority of questions about true objects in scenes that the demo does not use.

    scope, per_kind: as in scene_questions.  Cached.
    """
    recipe = f'{__version__} {scope} {per_kind} {SEEDS} {KEY_FRAMES} {INTERVAL}'
    folder = cache_root() / 'demo' / f'majority-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}'
    folder.parent.mkdir(parents=True, exist_ok=True)

    def build(empty: Path) -> None:
        from mpnp_world.dataset.key_frames import object_key_frames

        frames = object_key_frames(SEEDS, KEY_FRAMES, INTERVAL, workers=1, progress=False)
        counted = Majority.of(one for frame in frames for one in scene_questions(frame, 0, per_kind, scope))
        write_file(empty / FILE, json.dumps([counted.by_text, counted.by_type]).encode())

    return Majority(*json.loads((cached_folder(folder, recipe, build) / FILE).read_bytes()))
