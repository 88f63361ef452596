"""Worth of a sensor's counts, from moments in which a trusted sensor looks at the same place.

It needs no question and no label: the counts of the new sensor are compared, sector by sector, with the true
or trusted ones.  First the new sensor is turned to the best agreement.  Then the confusion of categories, and
the missed share, follow from non-negative least squares with a perfect sensor as prior.  It takes a second;
learning the same from answers takes minutes.
"""
from __future__ import annotations

import math

import torch

from mpnp_ros.errors import TrainingError
from mpnp_ros.methods.mpnp.counting import Counts
from mpnp_ros.methods.mpnp.link import Worth, in_sectors
from mpnp_ros.tokens import SECTORS

WINDOW, BLUR = 12, 5
"""Sectors that are compared together: as wide as questions ask, and in the search for the turn."""
FEWEST = 20
"""Frames below which there is no result."""
PRIOR = 20.0
"""Number of objects of a channel that weigh as much as the prior of a perfect sensor."""
ROUNDS = 500


@torch.no_grad()
def fit_worth(worth: Worth, seen: Counts, trusted: Counts) -> Worth:
    """Set the worth of a sensor's counts; returns `worth`.

    seen: counts of the sensor in some frames [F, ...], unchanged, and trusted: known counts of the same
    frames. Raises TrainingError if there are too few frames.
    """
    if len(seen.numbers) < FEWEST:
        raise TrainingError(f'{len(seen.numbers)} frames are too few to compare two sensors in; '
                            f'wait until there are {FEWEST}')
    there, _ = in_sectors(trusted)
    turn = _turn(in_sectors(seen)[0], there, trusted.covered)
    own, _ = in_sectors(seen._replace(azimuth=seen.azimuth + turn))
    looked = torch.roll(seen.covered, round(turn / math.tau * SECTORS), 1).amax(2) * trusted.covered.amax(2)
    windows = [_around(part, WINDOW) for part in (own, there, looked[..., None])]
    known = windows[2][..., 0] > WINDOW - .5
    source, target = windows[0][known], windows[1][known]
    source = torch.cat([source, source.new_full((len(source), 1), float(WINDOW))], 1)
    channels = there.shape[2]
    start = torch.cat([torch.eye(channels), torch.zeros(1, channels)]).to(source)
    stiffness = torch.cat([source.new_full((channels,), PRIOR), source.new_full((1,), PRIOR * WINDOW)])
    solution = _least_squares(source, target, start, stiffness * WINDOW)
    told = trusted.covered.amax((0, 1)) > 0
    worth.turn.fill_(turn)
    worth.confusion.copy_(torch.where(told[:, None], solution[:channels].T, start[:channels]))
    worth.missed.copy_(solution[channels] * told)
    return worth


def _turn(seen: torch.Tensor, there: torch.Tensor, covered: torch.Tensor) -> float:
    """Return the radians to the left by which numbers [F, SECTORS, C] agree best with the true ones."""
    seen, there = (_around(part.sum(2, keepdim=True), BLUR) for part in (seen, there * covered))
    seen, there = seen - seen.mean(), there - there.mean()
    agreement = torch.stack([(torch.roll(seen, shift, 1) * there).sum() for shift in range(SECTORS)])
    best = int(agreement.argmax())
    before, here, behind = (float(agreement[(best + step) % SECTORS]) for step in (-1, 0, 1))
    bend = before - 2 * here + behind
    exact = best + (0.5 * (before - behind) / bend if bend < 0 else 0.)
    return (exact + SECTORS / 2) % SECTORS * math.tau / SECTORS - math.pi


def _around(numbers: torch.Tensor, width: int) -> torch.Tensor:
    """Return sums [F, SECTORS, C] over so many sectors around each."""
    return sum(torch.roll(numbers, step - width // 2, 1) for step in range(width))


def _least_squares(source: torch.Tensor, target: torch.Tensor, start: torch.Tensor,
                   stiffness: torch.Tensor) -> torch.Tensor:
    """X >= 0, [n, m], that makes |source X - target|^2 + |sqrt(stiffness) (X - start)|^2 least.

    By accelerated projected gradients (Beck and Teboulle, SIAM J. Imaging Sciences 2, 2009).
    """
    gram = source.T @ source + torch.diag(stiffness)
    wanted = source.T @ target + stiffness[:, None] * start
    step = 1 / torch.linalg.matrix_norm(gram, 2)
    found, ahead, momentum = start, start, 1.
    for _ in range(ROUNDS):
        new = (ahead - step * (gram @ ahead - wanted)).clamp(min=0)
        later = (1 + math.sqrt(1 + 4 * momentum ** 2)) / 2
        ahead = new + (momentum - 1) / later * (new - found)
        found, momentum = new, later
    return found
