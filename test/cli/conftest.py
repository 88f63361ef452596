"""The demo in small: a generated key frame, a tiny language model, tiny encoders, three steps."""
from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from mpnp_ros.adaptation.trainer import Trainer
from mpnp_ros.cli import demo_learning, demo_scene
from mpnp_ros.cli.demo_scene import DemoScene, find_scene
from mpnp_ros.modalities import registry

SMALL = {'HEADINGS': 8, 'OF_EACH_TYPE': 20, 'STEPS': 3, 'LINKED_BLOCKS': 2, 'QUESTIONS': 5}


@pytest.fixture(scope='session')
def demo_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache that tests of the demo share, to be read only."""
    return tmp_path_factory.mktemp('demo_cache')


@pytest.fixture(scope='session')
def make_small(demo_cache: Path, tiny_lm_folder: Path, tiny_camera: dict,
               tiny_lidar: dict) -> Callable[[pytest.MonkeyPatch], None]:
    """Give a function that makes the demo small, without any data but its own, until the patch is undone."""
    create = registry.create_encoder
    options = {name: {key.removeprefix('encoder.'): value for key, value in parameters.items()}
               for name, parameters in (('camera', tiny_camera), ('lidar', tiny_lidar))}

    def make(patch: pytest.MonkeyPatch) -> None:
        patch.setenv('MPNP_CACHE', str(demo_cache))
        patch.delenv('NUSCENES_ROOT', raising=False)
        patch.setattr(demo_scene, 'source_folder', lambda: None)
        patch.setattr(registry, 'create_encoder', lambda name, _: create(name, options[name]))
        patch.setattr(demo_learning, 'MODEL', str(tiny_lm_folder))
        for name, value in SMALL.items():
            patch.setattr(demo_learning, name, value)
    return make


@pytest.fixture
def small_demo(make_small: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo is small during this test."""
    make_small(monkeypatch)


@pytest.fixture
def console() -> Console:
    """A console that writes nowhere."""
    return Console(file=io.StringIO(), width=160)


@pytest.fixture(scope='session')
def scene(make_small: Callable) -> DemoScene:
    """The key frame of the generated stand-in."""
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        return find_scene()


@pytest.fixture(scope='session')
def lesson(make_small: Callable, scene: DemoScene) -> SimpleNamespace:
    """The learned lesson, and the frames of every training set (`trained_on`)."""
    trained_on, fit = [], Trainer.fit
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        patch.setattr(Trainer, 'fit', lambda self, train, *more, **options: (
            trained_on.append(train) or fit(self, train, *more, **options)))
        learned = demo_learning.learn(scene, Console(file=io.StringIO()))
    return SimpleNamespace(learned=learned, trained_on=trained_on)
