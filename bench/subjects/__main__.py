"""Train links that answer about own motion and sounds, measure them, and write their page.

    python -m bench.subjects --work subjects --output docs/results
    python -m bench.subjects --work subjects --ship mpnp_ros/data/links/driving-world

The links learn on painted tokens: probabilities of states and sounds, from which the truth is drawn.  The
shipped links to objects learn which questions they cannot answer; nothing else of them changes.  Finished
work is kept in the work folder, and the same command resumes there.  --ship writes the links into the package
instead of measuring.  The page is subjects.md, with subjects.json beside it.
"""
from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bench.common.page import RESULTS, markdown_table
from bench.common.program import exit_code, program_parser
from bench.subjects.links import REFITTED, SubjectStudy
from bench.subjects.measure import FRAMES, OF_EACH_TYPE, TEXTS, Measurement
from mpnp_ros.llm.weights import load_language_model
from mpnp_ros.methods.link_files import load_link, read_manifest
from mpnp_ros.methods.link_store import LinkStore
from mpnp_ros.progress import progress
from mpnp_ros.questions.subjects import SUBJECTS, all_answers
from mpnp_ros.training.answerable import reader_of

WORDS = Path('test/questions')
PAGE = """# Questions about own motion and sounds

Written by `python -m bench.subjects --work subjects`. Links to own motion and to sounds learn on painted
tokens: probabilities of states and of sounds, from which the truth is drawn. So no sensor and no recording
is in these figures; how well an encoder hears or feels is measured elsewhere. All answers are chosen from
the {choices} answers of all subjects (`choices: all`), by the frozen language model. Painted frames:
{frames} of each kind, a third certain, the rest uncertain; channels are sometimes unknown, and sounds often
have no direction.

## Accuracy by family

Percent of {of_each} questions of each type. **rule**: the most probable answer by the tokens. Questions are
balanced by their answers, which links learn and the rule does not know, so they can be above it. **blind**:
links on learned constants, trained on the same questions. **majority**: the most frequent training answer
of each meaning. Held-out words are those of the grammar that training never says. One seed.

{families}

## Beside each other

All links are plugged, with tokens of every subject in every frame. Percent of right answers, and of answers
that are the same as with the one link alone.

{beside}

## Who answers

Percent of texts that each reader says it can answer, {texts} of each kind. Of those that say yes the surest
has the say; if none does, the answer is `UNKNOWN` (last column). The border of the reader of
objects was set by other texts in held-out words, all of which it claims. Own words are those of
people, written before the training. Some texts close to own motion or sounds, such as "Is anyone behind
us?", are questions about objects. Two of the questions beyond all are about a bump and a siren.

{claims}

## Own words

Percent of right answers to questions in own words, with all links plugged and certain tokens of the
subject. The answers are drawn evenly.

{people}
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Train what is missing, then measure or ship; returns the exit code."""
    parser = program_parser('subjects', __doc__)
    parser.add_argument('--work', type=Path, required=True, metavar='FOLDER',
                        help='folder that keeps links, questions and checkpoints')
    parser.add_argument('--output', type=Path, default=RESULTS, metavar='FOLDER',
                        help='folder for subjects.md and subjects.json (default: %(default)s)')
    parser.add_argument('--ship', type=Path, metavar='FOLDER', help='store to write the links into')
    parser.add_argument('--words', type=Path, default=WORDS, metavar='FOLDER',
                        help='folder of questions in own words (default: %(default)s)')
    parser.add_argument('--threads', type=int, default=1, help='CPU threads (default: %(default)s)')
    parser.add_argument('--quiet', action='store_true', help='no progress')
    given = parser.parse_args(arguments)

    def run() -> None:
        torch.set_num_threads(given.threads)
        with ExitStack() as stack:
            show = stack.enter_context(progress('subjects', quiet=given.quiet))
            study = SubjectStudy(
                load_language_model('smollm2-135m-instruct'), given.work,
                lambda name, step: show(step.step, step.steps, f'{name}: loss {step.loss:.3f}'))
            if given.ship:
                ship(study, LinkStore(given.ship))
                return
            measurement = Measurement(study, given.words)
            results = {'families': measurement.families(), 'beside': measurement.beside(),
                       'claims': measurement.claims(), 'people': measurement.people()}
        write(results, given.output)

    return exit_code('subjects', run)


def ship(study: SubjectStudy, store: LinkStore) -> None:
    """Write the links into a store; all links to objects get the same answerable questions."""
    objects = reader_of(study.link('objects').links()['objects'])
    for name in SUBJECTS:
        method = study.link(name)
        kept = study.store.latest(name)
        assert kept is not None  # link has made it
        if name != 'objects':
            store.save(method.links()[name], read_manifest(kept.path).provenance, half=True)
    for name in sorted({link.modality for link in store.list()} - (SUBJECTS.keys() - {'objects'})):
        stored = store.latest(name)
        assert stored is not None  # it is in the list
        link, provenance = load_link(stored.path, lm=study.lm), read_manifest(stored.path).provenance
        reader_of(link).answerable.load_state_dict(objects.answerable.state_dict())
        store.save(link, replace(provenance, text=f'{provenance.text}; {REFITTED}'), half=True)


def write(results: Mapping[str, Any], folder: Path) -> None:
    """Write page and figures."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'subjects.json').write_text(json.dumps(results, indent=1) + '\n', encoding='utf-8')
    families = [(f'{kind}: {who}', shares) for kind, rows in results['families'].items()
                for who, shares in rows.items()]
    tables = {
        'families': _table(families, 'asked'),
        'beside': _table(results['beside'].items(), 'questions about'),
        'claims': _table(results['claims'].items(), 'texts about'),
        'people': _table(results['people'].items(), 'questions about')}
    (folder / 'subjects.md').write_text(
        PAGE.format(choices=len(all_answers()), frames=FRAMES, of_each=OF_EACH_TYPE, texts=TEXTS, **tables),
        encoding='utf-8')


def _table(rows: Iterable[tuple[str, Mapping[str, float]]], first: str) -> str:
    """A table of shares; its columns are all names that occur."""
    rows = list(rows)
    heads = list(dict.fromkeys(name for _, shares in rows for name in shares))
    return markdown_table([first, *heads], [[name, *(shares.get(head, '') for head in heads)]
                                            for name, shares in rows], numbers=True)


if __name__ == '__main__':
    sys.exit(main())
