"""Views of the simulated world: the encoders of a study on its held-out scenes."""
from __future__ import annotations

from collections.abc import Iterator

from bench.error_budget.measure import EncoderView
from bench.error_budget.parts import seen_in_tokens
from bench.study.study import Study
from mpnp_ros.training.evaluation import majority_answers
from mpnp_ros.training.key_frames import sample_of, scene_of

VIEWS = {'world, LiDAR by day': ('lidar', 'day'), 'world, camera by day': ('camera', 'day'),
         'world, camera at night': ('camera', 'night')}
"""Name of a view -> its sensor and light."""


def world_views(study: Study) -> Iterator[EncoderView]:
    """Yield the views of a study, made if its scenes are missing."""
    test, scope = study.test, study.config.questions.scope
    majority = majority_answers(study.sensor_training.examples, test.examples)
    scenes = {scene_of(key) for key in test.tokens['day']}
    root = study.root('test')
    objects = {frame.token: frame.objects for name in scenes for frame in root.key_frames(name)}
    for name, (sensor, light) in VIEWS.items():
        seen = {sample_of(key): seen_in_tokens(frame[sensor], objects[sample_of(key)], scope)
                for key, frame in test.tokens[light].items()}
        yield EncoderView(name, seen, test.examples, majority, sensor, len(scenes))
