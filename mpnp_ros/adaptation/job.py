"""One adaptation: what is to be trained from the replay buffer, in a folder, and what came of it.

    <job>/spec.json      what was decided; written first
    <job>/data/          questions and tokens, drawn from the buffer once
    <job>/checkpoint/    of the trainer
    <job>/result.json    written last; a job without one is not finished and goes on when it is run again

Two processes do the work one after the other (`job_process.py`): `read` needs the whole language model and
little else, `train` needs the blocks from the first linked one on and the question states that reading left
on disk.  Neither knows ROS, and both end within a training step when they are told to.
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
    """A link to train, the encoder of its tokens, and its possible starts.

    starts: link folders, of this modality or of another whose tokens mean the same; the best on held-out
    questions is chosen.  Without any the link starts untrained.
    """

    modality: str
    encoder: str
    token_width: int
    starts: tuple[str, ...] = ()


@dataclass(frozen=True)
class JobSpec:
    """What is to be trained, on what, and within which bounds.

    new: links to be trained.  beside: folders of links that are plugged meanwhile and stay as they are.
    supervision: LABELLED, or DISTILLED: the answers of the `teachers`, modalities among those beside, where
    their confidence is at least `confidence`; each: questions that are made up for a moment then.
    anew_learning_rate, link: of links that begin untrained, the latter as options of LinkConfig.for_model.
    linked_blocks: 0: those of what is begun with, else as many as the budget allows.  turns: headings a
    frame.  most_questions, most_held_out: of those in the buffer, drawn at random, evenly by type;
    most_texts: different ones among either, as each has to be read once.  offer_starts: whether what training
    begins with may be used meanwhile, where it answers more questions rightly than the most frequent answers.
    only_try: whether what could be begun with is tried, and nothing trained, as little is known yet.
    device, dtype: see load_language_model.  threads: of PyTorch.  niceness: of the processes.
    """

    new: tuple[NewLink, ...]
    buffer: str
    store: str
    questions: str
    beside: tuple[str, ...] = ()
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
        return tuple(one.modality for one in self.new)

    def save(self, folder: Path) -> None:
        """Create the folder of a job with its spec."""
        folder.mkdir(parents=True, exist_ok=True)
        write_file(folder / SPEC, json.dumps(asdict(self), indent=1).encode())

    @classmethod
    def load(cls, folder: Path) -> JobSpec:
        """Read a spec.  Raises TrainingError, naming the file."""
        try:
            entries = json.loads((folder / SPEC).read_bytes())
            new = tuple(NewLink(**{**one, 'starts': tuple(one['starts'])}) for one in entries.pop('new'))
            parts = {'budget': Budget(**entries.pop('budget')),
                     'training': TrainerConfig(**entries.pop('training'))}
            plain = {name: tuple(value) if isinstance(value, list) else value
                     for name, value in entries.items()}
            return cls(new=new, **parts, **plain)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TrainingError(f'{folder / SPEC} is not a valid job file ({error}); remove the folder'
                                ) from None


@dataclass(frozen=True)
class JobResult:
    """What came of a job.

    status: TRAINED; WORSE: no better than what there was, so nothing is offered; CANCELLED or FAILED, see
    `message`.  links: modality -> folder of its new version in the store.  accuracy, start_accuracy,
    blind_accuracy: 0..1 on held-out questions, of the new links, of those it began with, and of the most
    frequent answer to each type of question.  held_out: how many these were.  seconds: of both processes.
    macs: of reading, training and every evaluation.  peak_bytes: of the training process.
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
    questions.
    seconds: of training so far; remaining: of the budget.  macs: so far.  memory: bytes, peak of the
    process.  offers: modality -> folder of links that may be used until training ends.
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
        """Return one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_line(cls, line: str) -> JobProgress:
        """Parse :meth:`to_line`.  Raises ValueError for other output of a process."""
        entries = json.loads(line)
        if not isinstance(entries, dict) or 'stage' not in entries:
            raise ValueError('no progress of a job')
        return cls(**entries)
