"""Links of different modalities that have something in common."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mpnp_ros.errors import LinksError
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.methods.connections import LatentConnections


class SharingConnections(LatentConnections):
    """Links to the same blocks of one model, of which one part is the same object for all.

    shared_name: that part; that of the link plugged last serves all modalities.  :attr:`shared`: what answers
    are to read, as links that are plugged beside others get another one.
    """

    shared_name: str

    def __init__(self, lm: LanguageModel, links: Mapping[str, Any] | None = None) -> None:
        super().__init__(lm, links)
        self._shared: Any = next(
            (getattr(link, self.shared_name) for link in self._links.values()), None)

    @property
    def shared(self) -> Any:
        """What all links have in common; None without links."""
        return self._shared if self._links else None

    def snapshot(self) -> SharingConnections:
        """See LatentConnections; with the shared part of this moment."""
        with self._lock:
            taken = type(self)(self.lm, self._links)
            taken._shared = self._shared
        return taken

    @property
    def question_blocks(self) -> tuple[int, ...]:
        """None: nothing pools by the question."""
        return ()

    def replace(self, link: Any) -> Any:
        """Plug a link in place of the modality's present one; what it shares now serves all modalities.

        Raises LinksError where others have other blocks, or share a part that is made otherwise.
        """
        for name, other in self._links.items():
            if name == link.config.modality:
                continue
            if other.config.blocks != link.config.blocks:
                raise LinksError(f'the {link.config.modality} link has blocks {list(link.config.blocks)}, '
                                 f'the {name} link {list(other.config.blocks)}; links of kind {link.kind!r} '
                                 'have the same blocks for all modalities')
            if other.together != link.together:
                raise LinksError(f'what the {link.config.modality} link and the {name} link have in common '
                                 'is not made alike; train one of them with the other plugged')
        return super().replace(link)

    def _plugged(self, link: Any) -> None:
        self._shared = getattr(link, self.shared_name)
        for other in self._links.values():
            setattr(other, self.shared_name, self._shared)

    def prune(self, threshold: float) -> dict[str, int]:
        """There is no gate that is exactly closed.  Raises LinksError."""
        raise LinksError('links that share a part cannot be pruned, they have no gates; use the method mpnp')
