"""Links successive records of nuScenes tables: samples of a scene, boxes of an instance."""
from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

Record = dict[str, Any]


def link_records(records: Iterable[Record], field: str) -> dict[str, list[Record]]:
    """Set prev and next of records with the same value of a field; returns the records by value."""
    chains: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        chains[record[field]].append(record)
    for chain in chains.values():
        for earlier, later in zip(chain, chain[1:], strict=False):
            earlier['next'], later['prev'] = later['token'], earlier['token']
    return chains
