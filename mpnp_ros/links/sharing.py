"""Links of different modalities that have something in common."""
from __future__ import annotations

from typing import Any

from mpnp_ros.errors import LinksError
from mpnp_ros.links.connections import LatentConnections


class SharingConnections(LatentConnections):
    """Links to the same blocks of one model, of which one part is the same object for all.

    shared_name: that part; that of the link plugged last serves all modalities.
    """

    shared_name: str

    @property
    def question_blocks(self) -> tuple[int, ...]:
        """None: nothing pools by the question."""
        return ()

    def replace(self, link: Any) -> Any:
        """Plug a link in place of the modality's present one; what it shares now serves all modalities.

        Raises LinksError where others have other blocks.
        """
        others = [other for name, other in self._links.items() if name != link.config.modality]
        for other in others:
            if other.config.blocks != link.config.blocks:
                raise LinksError(f'the {link.config.modality} link has blocks {list(link.config.blocks)}, '
                                 f'the {other.config.modality} link {list(other.config.blocks)}; links of '
                                 f'kind {link.kind!r} have the same blocks for all modalities')
        before = super().replace(link)
        for other in others:
            setattr(other, self.shared_name, getattr(link, self.shared_name))
        return before

    def prune(self, threshold: float) -> dict[str, int]:
        """There is no gate that is exactly closed.  Raises LinksError."""
        raise LinksError('links that share a part cannot be pruned, they have no gates; use the method mpnp')
