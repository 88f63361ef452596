"""One adaptation as a folder: the spec of a training on the replay buffer, and its result.

    <job>/spec.json      the spec, written first
    <job>/data/          questions and tokens, taken from the buffer once
    <job>/reading.json   written at the end of the first stage
    <job>/checkpoint/    of the trainer
    <job>/result.json    written last; a job without a result resumes when it is run again

Two processes work one after the other (`job_process.py`).  The stage `read` needs the whole language model.
The stage `train` needs the blocks from the first linked one on, and the states of questions that the first
stage left on disk.  Neither uses ROS, and both end within a training step when they are told to.
"""
from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mpnp_ros.adaptation.policy import LABELLED
from mpnp_ros.errors import TrainingError
from mpnp_ros.files import write_file
from mpnp_ros.methods.registry import DEFAULT_METHOD
from mpnp_ros.training.budget import Budget
from mpnp_ros.training.trainer import TrainerConfig

SPEC, RESULT, DATA, CHECKPOINT = 'spec.json', 'result.json', 'data', 'checkpoint'
TRAINED, WORSE, CANCELLED, FAILED = 'trained', 'worse', 'cancelled', 'failed'


@dataclass(frozen=True)
class NewLink:
    """A link to train, the encoder of its tokens, and its possible initial links.

    starts: folders of initial links, of this modality or of another whose tokens mean the same; the best on
    held-out questions is chosen.  Without any, the link starts untrained.
    """

    modality: str
    encoder: str
    token_width: int
    starts: tuple[str, ...] = ()


@dataclass(frozen=True)
class JobSpec:
    """What is to be trained, on which data, and within which limits.  The fields are those of spec.json.

    new: links to train.  beside: folders of links that are plugged meanwhile and stay unchanged.  copied:
    such links without a folder, copies that the fusion node has made of the link in `starts`.
    supervision: LABELLED, or DISTILLED: by the answers of the `teachers`, modalities among those beside, with
    at least `confidence`.  each: generated questions for each moment with DISTILLED.
    anew_learning_rate, link: of untrained links; the latter are options of LinkConfig.for_model.
    linked_blocks: 0: those of the initial links, otherwise as many as the budget allows.  turns: headings of
    each frame.  most_questions, most_held_out: maximum numbers of questions from the buffer, evenly by type.
    most_texts: maximum number of different ones among either, as each has to be read once.  offer_starts:
    whether initial links may be used until training ends, if they answer better than the most frequent
    answers.  only_try: only evaluate initial links, as there is too little data to train on.
    device, dtype: see load_language_model.  threads: of PyTorch.  niceness: of the processes.
    """

    new: tuple[NewLink, ...]
    buffer: str
    store: str
    questions: str
    beside: tuple[str, ...] = ()
    copied: tuple[NewLink, ...] = ()
    supervision: str = LABELLED
    teachers: tuple[str, ...] = ()
    confidence: float = .6
    budget: Budget = field(default_factory=Budget)
    training: TrainerConfig = field(default_factory=TrainerConfig)
    anew_learning_rate: float = 6e-4
    turns: int = 6
    most_questions: int = 12_000
    most_held_out: int = 400
    most_texts: int = 600
    offer_starts: bool = True
    only_try: bool = False
    link: Mapping[str, Any] = field(default_factory=dict)
    language_model: str = 'smollm2-135m-instruct'
    linked_blocks: int = 0
    each: int = 40
    method: str = DEFAULT_METHOD
    device: str = 'auto'
    dtype: str = 'auto'
    threads: int = 1
    niceness: int = 10

    @property
    def modalities(self) -> tuple[str, ...]:
        """Return the modalities to train."""
        return tuple(link.modality for link in self.new)

    def save(self, folder: Path) -> None:
        """Create the folder of a job with its spec."""
        folder.mkdir(parents=True, exist_ok=True)
        write_file(folder / SPEC, json.dumps(asdict(self), indent=1).encode())

    @classmethod
    def load(cls, folder: Path) -> JobSpec:
        """Read a spec.  Raises TrainingError, naming the file."""
        try:
            entries = json.loads((folder / SPEC).read_bytes())
            new, copied = (tuple(NewLink(**{**link, 'starts': tuple(link['starts'])}) for link in links)
                           for links in (entries.pop('new'), entries.pop('copied', ())))
            budget, training = Budget(**entries.pop('budget')), TrainerConfig(**entries.pop('training'))
            others: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value
                                      for name, value in entries.items()}
            return cls(new=new, copied=copied, budget=budget, training=training, **others)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TrainingError(f'{folder / SPEC} is not a valid job file ({error}); remove the folder'
                                ) from None


@dataclass(frozen=True)
class JobResult:
    """The result of a job.

    status: TRAINED; WORSE: no better than before, so that no links are offered; CANCELLED or FAILED, see
    `message`.  links: modality -> folder of its new version in the store.  accuracy, start_accuracy,
    blind_accuracy: 0..1 on held-out questions, of the new links, of the initial links, and of the most
    frequent answer to each type of question.  held_out: number of these questions.  seconds: of both
    processes.  macs: of reading, training and every evaluation.  peak_bytes: of the training process.
    """

    status: str
    message: str
    links: Mapping[str, str] = field(default_factory=dict)
    accuracy: float = math.nan
    start_accuracy: float = math.nan
    blind_accuracy: float = math.nan
    held_out: int = 0
    steps: int = 0
    seconds: float = 0.
    macs: float = 0.
    peak_bytes: int = 0
    reading_seconds: float = 0.
    questions: int = 0

    def save(self, folder: Path) -> None:
        """Write the result."""
        write_file(folder / RESULT, json.dumps(asdict(self), indent=1).encode())

    @classmethod
    def load(cls, folder: Path) -> JobResult | None:
        """Read the result of a finished job; None for an unfinished one."""
        try:
            return cls(**json.loads((folder / RESULT).read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise TrainingError(f'{folder / RESULT} cannot be read ({error}); remove the job') from None


@dataclass(frozen=True)
class JobProgress:
    """Progress of a job.

    stage: reading, training or evaluating.  loss: of the newest step.  accuracy: newest on held-out
    questions.  seconds: of training so far; remaining: of the budget.  macs: so far.  memory: bytes, peak of
    the process.  offers: modality -> folder of links that may be used until training ends.
    """

    stage: str
    step: int = 0
    steps: int = 0
    loss: float = math.nan
    accuracy: float = math.nan
    start_accuracy: float = math.nan
    seconds: float = 0.
    remaining: float = math.nan
    macs: float = 0.
    memory: int = 0
    offers: Mapping[str, str] = field(default_factory=dict)

    def to_line(self) -> str:
        """Return the progress as one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_line(cls, line: str) -> JobProgress:
        """Parse the result of :meth:`to_line`.  Raises ValueError for other output of a process."""
        entries = json.loads(line)
        if not isinstance(entries, dict) or 'stage' not in entries:
            raise ValueError('not the progress of a job')
        return cls(**entries)
