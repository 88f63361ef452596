"""Options of the adaptation node, which are its parameters."""
from __future__ import annotations

import math
from dataclasses import dataclass

from mpnp_ros.adaptation.policy import DISTILLED, LABELLED, PolicyLimits
from mpnp_ros.adaptation.replay_buffer import Limits
from mpnp_ros.options import Options, option
from mpnp_ros.training.budget import Budget
from mpnp_ros.training.trainer import TrainerConfig

MB = 1_000_000


@dataclass(frozen=True)
class AdapterConfig(Options):
    """Options of :class:`~mpnp_ros.adaptation.adapter.AdaptationManager`.  Raises ConfigurationError."""

    automatic: bool = option(
        True, 'whether links are plugged and trained without being asked; links that were in use are plugged '
        'again in any case')
    supervision: str = option(
        'any', 'what links are trained on: labelled questions, the distilled answers of a trusted modality, '
        'or any of them, labels first', choices=('any', LABELLED, DISTILLED))
    budget_duration: float = option(
        120., 'maximum duration of a training, from the decision on; 0: unlimited', unit='s', low=0, high=1e6)
    budget_macs: float = option(
        0., 'maximum multiply-accumulates per training; 0: unlimited', low=0, high=1e21)
    budget_memory: float = option(
        0., 'maximum memory of the training process; 0: unlimited', unit='MB', low=0, high=1e7)
    target_accuracy: float = option(
        0., 'accuracy on held-out questions at which a training ends; 0: none', low=0, high=1)
    linked_blocks: int = option(
        0, 'number of linked blocks of links without a start; 0: as many as the budget allows',
        low=0, high=1000)
    steps: int = option(400, 'maximum number of training steps', low=1, high=1_000_000)
    batch: int = option(64, 'questions per training step', low=1, high=65536)
    learning_rate: float = option(3e-4, 'learning rate of links with a start', low=1e-7, high=1)
    scratch_learning_rate: float = option(6e-4, 'learning rate of links without a start', low=1e-7, high=1)
    seed: int = option(0, 'random seed of a training', low=0, high=2 ** 31)
    threads: int = option(1, 'threads of the training process on a CPU', low=1, high=256)
    niceness: int = option(
        10, 'niceness of the training process; a higher value yields more to other processes', low=0, high=19)
    copy_links: bool = option(
        True, 'give a new modality whose tokens count objects a copy of links that count the same, until it '
        'is trained')
    min_trial_questions: int = option(
        200, 'labelled questions about a new modality after which candidate initial links are evaluated; 0: '
        'never', low=0, high=1_000_000)
    min_labelled_questions: int = option(
        1200, 'minimum number of labelled questions before a modality is trained', low=1, high=1_000_000)
    min_paired_moments: int = option(
        20, 'minimum number of moments that a new modality shares with the trusted one that teaches it',
        low=1, high=1_000_000)
    min_healthy_duration: float = option(
        3., 'time for which a modality must have been healthy before it is trained',
        unit='s', low=0, high=3600)
    min_interval: float = option(
        60., 'minimum time between two trainings of a modality, between two times that its stored links are '
        'plugged, and from such a time to a training', unit='s', low=0, high=1e6)
    retry_delay: float = option(
        60., 'delay before a failed training is repeated; doubled after each failure',
        unit='s', low=0, high=1e6)
    retrain_accuracy_drop: float = option(
        .1, 'accuracy drop on new labelled questions that triggers retraining', low=0, high=1)
    confidence: float = option(.6, 'minimum confidence for an answer to serve as a label', low=0, high=1)
    questions_per_moment: int = option(
        40, 'questions generated per moment when answers are distilled', low=1, high=1000)
    headings_per_frame: int = option(
        6, 'headings in which each moment is trained on: 1, 2, 3 or 6', low=1, high=6)
    max_questions: int = option(12_000, 'maximum number of questions of a training', low=1, high=10_000_000)
    max_distinct_questions: int = option(
        600, 'maximum number of distinct questions of a training; each is read once', low=1, high=1_000_000)
    max_held_out_questions: int = option(
        400, 'maximum number of held-out questions on which links are evaluated before they are offered',
        low=0, high=100_000)
    offer_starts: bool = option(
        True, 'whether initial links that see something are used until the training has ended')
    replay_mb: float = option(256., 'maximum size of the replay buffer', unit='MB', low=1, high=1e6)
    replay_questions: int = option(
        40_000, 'maximum number of questions in the replay buffer', low=1, high=10_000_000)
    kept_versions: int = option(8, 'versions of a modality that the link store keeps', low=1, high=10_000)

    @property
    def budget(self) -> Budget:
        """Return the budget of an automatic training."""
        return Budget(self.budget_duration, self.budget_macs, self.budget_memory * MB, self.target_accuracy)

    @property
    def policy(self) -> PolicyLimits:
        """Return the limits of the policy."""
        return PolicyLimits(
            automatic=self.automatic, copy_links=self.copy_links, linked_blocks=self.linked_blocks,
            min_trial_questions=self.min_trial_questions,
            min_labelled_questions=math.inf if self.supervision == DISTILLED else self.min_labelled_questions,
            min_paired_moments=math.inf if self.supervision == LABELLED else self.min_paired_moments,
            min_interval=self.min_interval, min_healthy_duration=self.min_healthy_duration,
            retry_delay=self.retry_delay, retrain_accuracy_drop=self.retrain_accuracy_drop)

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
