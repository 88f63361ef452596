"""Links to own motion and sounds: trained, kept, measured and shipped, with small links to a tiny model."""
from __future__ import annotations

from pathlib import Path

import pytest

from bench.subjects import links, measure
from bench.subjects.__main__ import ship, write
from bench.subjects.links import SubjectRecipe, SubjectStudy
from mpnp_ros.methods.link_store import LinkStore
from mpnp_ros.methods.registry import create_method
from mpnp_ros.questions.subjects import MOTION, OBJECTS, SOUNDS, SUBJECTS, all_answers
from mpnp_ros.training.answerable import reader_of
from mpnp_ros.training.reader_trainer import ReaderConfig
from mpnp_ros.training.trainer import TrainerConfig

WORDS = Path(__file__).parents[1] / 'questions'
SMALL = {'last': 2, 'pooling': 'counting', 'pooling_width': 16, 'pooling_heads': 2, 'hidden': 8,
         'entries': 2, 'harmonics': 2}
STEPS = TrainerConfig(steps=2, batch=8, modality_dropout=0., warm_up=1, part='aligners')


@pytest.fixture
def study(tiny_lm, tmp_path, monkeypatch) -> SubjectStudy:
    """A study whose objects are those of a small link in a store."""
    lm = tiny_lm('llama')
    reader = ReaderConfig(word_steps=2, word_batch=8, number_steps=2, number_batch=8, warm_up=1)
    recipes = {name: SubjectRecipe({**SMALL, 'probes': 6, 'supervised': taught}, 30, 3, 20, 10, 10, reader,
                                   STEPS, STEPS, 10) for name, taught in ((MOTION.name, 2), (SOUNDS.name, 6))}
    monkeypatch.setattr(links, 'RECIPES', recipes)
    monkeypatch.setattr(links, 'CAN', dict.fromkeys(SUBJECTS, 12))
    monkeypatch.setattr(links, 'CANNOT', 12)
    for name, value in (('FRAMES', 12), ('OF_EACH_TYPE', 4), ('TEXTS', 6), ('ASKED_EACH', 1),
                        ('OBJECT_SEEDS', (40_000,))):
        monkeypatch.setattr(measure, name, value)
    shipped, method = LinkStore(tmp_path / 'shipped'), create_method('mpnp', lm)
    for name in (OBJECTS.name, 'camera'):
        shipped.save(method.new_link(name, f'{name}-encoder', len(OBJECTS.channels),
                                     channels=OBJECTS.channel_names, probes=3, **SMALL))
    monkeypatch.setattr(links, 'shipped_links', lambda: {link.modality: link for link in shipped.list()})
    return SubjectStudy(lm, tmp_path / 'work')


def test_links_are_trained_measured_and_shipped(study, tmp_path):
    measurement = measure.Measurement(study, WORDS)
    results = {'families': measurement.families(), 'beside': measurement.beside(),
               'claims': measurement.claims(), 'people': measurement.people()}
    assert set(results['beside']) == set(SUBJECTS)
    assert {'links', 'rule', 'blind', 'majority'} == set(results['families']['motion, held-out words'])
    assert results['families']['sounds, words of training']['rule']['all'] > 30
    write(results, tmp_path)
    page = (tmp_path / 'subjects.md').read_text()
    assert f'the {len(all_answers())} answers' in ' '.join(page.split()) and '| motion, own words |' in page
    store = LinkStore(tmp_path / 'shipped')
    before = reader_of(study.link(OBJECTS.name).links()[OBJECTS.name]).answerable.state_dict()
    ship(study, store)
    assert {link.modality for link in store.list()} == {'camera', 'motion', 'objects', 'sounds'}
    kept = links.load_link(store.latest('camera').path)
    assert all((tensor == before[name].half()).all() for name, tensor in
               reader_of(kept).answerable.state_dict().items())
