"""Label a recording of replayed nuScenes frames with true answers, in place of the person who reviews it.

    python -m bench.own_robot --root ROOT --recording FOLDER --output labels.jsonl
    mpnp review FOLDER --labels labels.jsonl

The labels are those of the key frames of a root that was replayed while `mpnp record` ran.  Questions that
have no one answer, such as the status of the car where there are two, get none.
"""
from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from mpnp_ros.bags.labels import PERSON, Label
from mpnp_ros.cli.recording import RecordedAnswer, Recording
from mpnp_ros.files import write_file
from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_ros.questions.generator import NEARBY, SceneFacts, objects_of
from mpnp_ros.questions.key_frame import KeyFrame
from mpnp_ros.questions.wording import TEMPLATES
from mpnp_ros.tokens import SECOND

WINDOW = .15
"""Seconds between the oldest image of a set and its key frame, at most."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the labels and print how many there are; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--root', type=Path, required=True, help='nuScenes root that was replayed')
    parser.add_argument('--recording', type=Path, required=True, help='written by mpnp record')
    parser.add_argument('--output', type=Path, required=True, help='file of JSON lines')
    given = parser.parse_args(arguments)
    root = NuScenes(given.root)
    frames = [frame for scene in root.scenes for frame in root.key_frames(scene['name'])]
    with Recording(given.recording) as recording:
        labels = list(true_labels(recording.answers, frames))
        asked = len(recording.answers)
    write_file(given.output, b''.join(json.dumps(asdict(label)).encode() + b'\n' for label in labels))
    print(f'{given.output}: true answers to {len(labels)} of {asked} questions')
    return 0


def true_labels(answers: Iterable[RecordedAnswer], frames: Sequence[KeyFrame]) -> Iterator[Label]:
    """Yield the true answers to the questions that have one, at moments of key frames."""
    facts: dict[str, dict[str, str]] = {}
    for answer in answers:
        frame = min(frames, key=lambda frame: abs(frame.stamp_ns - answer.stamp_ns))
        if abs(frame.stamp_ns - answer.stamp_ns) > WINDOW * SECOND:
            continue
        if frame.token not in facts:
            facts[frame.token] = true_answers(frame)
        if truth := facts[frame.token].get(answer.question):
            yield answer.label(truth, PERSON)


def true_answers(frame: KeyFrame) -> dict[str, str]:
    """Return the answer to every question about a key frame, in every wording."""
    return {template.format(**fact.slots): fact.answer
            for fact in SceneFacts(objects_of(frame, NEARBY), False) for template in TEMPLATES[fact.kind]}


if __name__ == '__main__':
    raise SystemExit(main())
