"""The state of a training run on disk: safetensors and JSON, written atomically, never a pickle."""
from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from mpnp_ros.errors import TrainingError
from mpnp_ros.files import new_folder, write_file
from mpnp_ros.methods.link import Link

TENSORS, STATE = 'training.safetensors', 'training.json'
SCHEMA = 1

Tensors = dict[str, torch.Tensor]


@dataclass
class TrainingState:
    """Progress of a training run.

    step: steps done.  losses: mean loss of each.  accuracies: (step, value) of every evaluation.
    best: the links at the best evaluation, None before the first.  seconds: spent in steps.
    """

    step: int = 0
    losses: list[float] = field(default_factory=list)
    accuracies: list[tuple[int, float]] = field(default_factory=list)
    best: Tensors | None = None
    seconds: float = 0.

    @property
    def best_accuracy(self) -> float:
        """Return the accuracy of the best evaluation, -1 before the first."""
        return max((value for _, value in self.accuracies), default=-1.)

    @property
    def evaluations_since_best(self) -> int:
        """Return the number of evaluations since the best one."""
        values = [value for _, value in self.accuracies]
        return len(values) - 1 - values.index(max(values)) if values else 0


def link_tensors(links: Mapping[str, Link]) -> Tensors:
    """Return a copy of all parameters and statistics of the links, as <modality>/<name>."""
    return {f'{modality}/{name}': tensor.detach().clone()
            for modality, link in links.items() for name, tensor in link.state_dict().items()}


def restore_links(links: Mapping[str, Link], tensors: Tensors) -> None:
    """Restore parameters and statistics.  Raises TrainingError if they belong to other links."""
    for modality, link in links.items():
        own = {name.removeprefix(f'{modality}/'): tensor for name, tensor in tensors.items()
               if name.startswith(f'{modality}/')}
        try:
            link.load_state_dict(own)
        except RuntimeError as error:
            raise TrainingError(f'the checkpoint does not fit the {modality} link: {error}') from None


def save_checkpoint(folder: Path, identity: str, progress: TrainingState, links: Mapping[str, Link],
                    optimiser: torch.optim.Optimizer) -> None:
    """Write links, optimiser and progress; identity: hash of recipe and data, see load_checkpoint."""
    tensors = {f'links/{name}': tensor for name, tensor in link_tensors(links).items()}
    tensors |= {f'best/{name}': tensor for name, tensor in (progress.best or {}).items()}
    tensors |= {f'optimiser/{place}/{name}': tensor
                for place, state in optimiser.state_dict()['state'].items() for name, tensor in state.items()}
    state = {'schema': SCHEMA, 'identity': identity, 'step': progress.step, 'losses': progress.losses,
             'accuracies': progress.accuracies, 'seconds': progress.seconds}
    folder.parent.mkdir(parents=True, exist_ok=True)
    with new_folder(folder) as path:
        write_file(path / TENSORS, save({name: tensor.cpu().contiguous()
                                         for name, tensor in tensors.items()}))
        write_file(path / STATE, json.dumps(state).encode())


def load_checkpoint(folder: Path, identity: str, links: Mapping[str, Link],
                    optimiser: torch.optim.Optimizer) -> TrainingState:
    """Restore links and optimiser, and return the progress; a missing folder is a fresh start.

    Raises TrainingError for a damaged checkpoint or one of another recipe or other data.
    """
    if not folder.exists():
        return TrainingState()
    try:
        state = json.loads((folder / STATE).read_bytes())
        if state['schema'] != SCHEMA:
            raise ValueError(f'schema {state["schema"]!r}, but this package reads {SCHEMA}')
        tensors = load_file(folder / TENSORS)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise TrainingError(f'checkpoint {folder} cannot be read ({error}); remove it to start afresh'
                            ) from None
    if state['identity'] != identity:
        raise TrainingError(f'checkpoint {folder} is of another recipe or other data; remove it or choose '
                            'another folder')
    restore_links(links, _below('links', tensors))
    moments: dict[int, Tensors] = {}
    for name, tensor in _below('optimiser', tensors).items():
        place, _, key = name.partition('/')
        moments.setdefault(int(place), {})[key] = tensor
    optimiser.load_state_dict({**optimiser.state_dict(), 'state': moments})
    return TrainingState(state['step'], state['losses'], [tuple(entry) for entry in state['accuracies']],
                         _below('best', tensors) or None, state['seconds'])


def _below(head: str, tensors: Tensors) -> Tensors:
    """Return the tensors whose names begin with `head`/, without it."""
    return {name.removeprefix(f'{head}/'): tensor for name, tensor in tensors.items()
            if name.startswith(f'{head}/')}
