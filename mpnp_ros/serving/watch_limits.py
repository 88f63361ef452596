"""Limits for healthy, degraded and stale, and the use of degraded modalities."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mpnp_ros.options import Options, option

ALONE, ALWAYS, NEVER = 'alone', 'always', 'never'


@dataclass(frozen=True)
class WatchLimits(Options):
    """Limits of :class:`~mpnp_ros.serving.modality_board.ModalityBoard`.

    Raises ConfigurationError for a value out of range, and where the qualities are in the wrong order.
    """

    stale_after: float = option(
        3.0, 'time without tokens after which a modality is not used any more; stamps that are off by more '
             'are late', unit='s', low=0.05, high=3600)
    probe_tokens: int = option(2, 'frames of tokens after which a modality is known', low=1, high=1000)
    quality_low: float = option(0.5, 'smoothed quality below which a modality is poor', low=0, high=1)
    quality_high: float = option(0.7, 'smoothed quality from which a poor modality is good again',
                                 low=0, high=1)
    quality_weight: float = option(
        0.3, 'share of the newest frame in the smoothed quality; by default one bad frame does not degrade '
             'and one good one does not heal', low=0.01, high=1)
    lowest_rate: float = option(0.2, 'share of its usual rate below which a modality is slow; 0: it never is',
                                low=0, high=1)
    rate_memory: float = option(60.0, 'a rate that lasts so long becomes the usual one', unit='s',
                                low=1, high=86400)
    degrade_after: float = option(1.0, 'a healthy modality is degraded when it has been poor, slow, late or '
                                       'rejected for so long', unit='s', low=0.1, high=3600)
    recover_after: float = option(3.0, 'a degraded or stale modality is healthy again when nothing has been '
                                       'wrong with it for so long', unit='s', low=0.1, high=3600)
    use_degraded: str = option(
        ALONE, 'whether answers rest on degraded modalities that are not plugged by hand; alone: where no '
               'healthy one can be used', choices=(ALONE, ALWAYS, NEVER))

    def check(self) -> Iterator[str]:
        """The qualities must be in order."""
        if self.quality_low > self.quality_high:
            yield f'quality_low is {self.quality_low}; it must be at most quality_high = {self.quality_high}'
