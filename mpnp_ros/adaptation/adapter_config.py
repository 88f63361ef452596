"""Options of the adaptation node, which are its parameters."""
from __future__ import annotations

import math
from dataclasses import dataclass

from mpnp_ros.adaptation.budget import Budget
from mpnp_ros.adaptation.policy import DISTILLED, LABELLED, PolicyLimits
from mpnp_ros.adaptation.retention import Limits
from mpnp_ros.adaptation.trainer_config import TrainerConfig
from mpnp_ros.options import Options, option

MB = 1_000_000


@dataclass(frozen=True)
class AdapterConfig(Options):
    """Options of :class:`~mpnp_ros.adaptation.adapter.Adapter`.  Raises ConfigurationError."""

    automatic: bool = option(True, 'whether links are trained without being asked; links that were in use '
                                   'are plugged again in any case')
    supervision: str = option('any', 'what links are trained by: labelled questions, the distilled answers '
                                     'of a trusted modality, or any of them, labels first',
                              choices=('any', LABELLED, DISTILLED))
    budget_duration: float = option(120., 'longest training, from the decision on; 0: no limit', unit='s',
                                    low=0, high=1e6)
    budget_macs: float = option(0., 'most multiply-accumulates of a training; 0: no limit', low=0, high=1e21)
    budget_memory: float = option(0., 'most memory of the training process; 0: no limit', unit='MB', low=0,
                                  high=1e7)
    target_accuracy: float = option(0., 'share of held-out questions answered rightly at which training '
                                        'ends; 0: none', low=0, high=1)
    linked_blocks: int = option(0, 'of links that begin from nothing; 0: as many as the budget allows', low=0,
                                high=1000)
    steps: int = option(400, 'most training steps', low=1, high=1_000_000)
    batch: int = option(64, 'questions a step', low=1, high=65536)
    learning_rate: float = option(3e-4, 'of links that begin with something', low=1e-7, high=1)
    anew_learning_rate: float = option(6e-4, 'of links that begin from nothing', low=1e-7, high=1)
    seed: int = option(0, 'of everything that is drawn', low=0, high=2 ** 31)
    threads: int = option(1, 'of the training process on a CPU', low=1, high=256)
    niceness: int = option(10, 'of the training process: the higher, the more it lets others go first', low=0,
                           high=19)
    copy_links: bool = option(True, 'give a new modality whose tokens count things a copy of links that '
                                    'count the same, at once, until it is trained')
    least_tried: int = option(200, 'labelled questions about a new modality with which it is tried what its '
                                   'links could begin with; 0: it is not', low=0, high=1_000_000)
    least_questions: int = option(1200, 'labelled questions about a modality with fewer of which it is not '
                                        'trained', low=1, high=1_000_000)
    least_moments: int = option(20, 'moments that a trusted modality has in common with the new one, with '
                                    'fewer of which it does not teach it', low=1, high=1_000_000)
    settle: float = option(3., 'a modality that has been healthy for less is not trained', unit='s', low=0,
                           high=3600)
    between: float = option(60., 'shortest time between two trainings of a modality', unit='s', low=0,
                            high=1e6)
    retry: float = option(60., 'time after a failed training before it is tried again, doubled each time',
                          unit='s', low=0, high=1e6)
    drop: float = option(.1, 'fall of the accuracy on fresh labelled questions, against when links were '
                             'made, that is worth training again', low=0, high=1)
    confidence: float = option(.6, 'of answers that are taken for labels', low=0, high=1)
    made_up: int = option(40, 'questions that are made up about a moment where answers are distilled', low=1,
                          high=1000)
    turns: int = option(6, 'headings in which a moment is trained on: 1, 2, 3 or 6', low=1, high=6)
    most_questions: int = option(12_000, 'trained on', low=1, high=10_000_000)
    most_texts: int = option(600, 'different questions trained on: each is read once', low=1, high=1_000_000)
    held_out: int = option(400, 'most questions that links are tried on before they are offered', low=0,
                           high=100_000)
    offer_starts: bool = option(True, 'whether what training begins with may be used until it has ended, '
                                      'where it sees something')
    replay_mb: float = option(256., 'most that the replay buffer takes', unit='MB', low=1, high=1e6)
    replay_questions: int = option(40_000, 'most questions in the replay buffer', low=1, high=10_000_000)
    kept_versions: int = option(8, 'versions of a modality that are kept in the link store', low=1,
                                high=10_000)

    @property
    def budget(self) -> Budget:
        """Return the budget of an automatic training."""
        return Budget(self.budget_duration, self.budget_macs, self.budget_memory * MB, self.target_accuracy)

    @property
    def policy(self) -> PolicyLimits:
        """Return the limits of the policy; generated questions count as the moments they are about."""
        return PolicyLimits(
            automatic=self.automatic, copy_links=self.copy_links, least_tried=self.least_tried,
            linked_blocks=self.linked_blocks, settle=self.settle,
            least_labelled=math.inf if self.supervision == DISTILLED else self.least_questions,
            least_paired=math.inf if self.supervision == LABELLED else self.least_moments,
            between=self.between, retry=self.retry, drop=self.drop)

    @property
    def replay(self) -> Limits:
        """Return the limits of the replay buffer."""
        return Limits(round(self.replay_mb * MB), self.replay_questions)

    @property
    def training(self) -> TrainerConfig:
        """Return the training options of links with a start."""
        return TrainerConfig(
            steps=self.steps, batch=self.batch, seed=self.seed, modality_dropout=1., warm_up=20,
            learning_rate=self.learning_rate, evaluate_every=max(10, self.steps // 10), patience=4,
            checkpoint_every=max(5, min(50, self.steps // 4)))
