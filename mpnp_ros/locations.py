"""Locations of files that are installed beside the code: config/, launch/, msg/."""
from __future__ import annotations

import os
import sys
from pathlib import Path

from mpnp_ros.errors import ConfigurationError


def source_folder() -> Path | None:
    """Return the source checkout of the running code, or None for an installed package."""
    folder = Path(__file__).resolve().parents[1]
    return folder if (folder / 'package.xml').is_file() else None


def shared_file(relative: str | Path) -> Path:
    """Return a file of the source checkout or, failing that, of the installed share folder.

    relative: such as ``config/mpnp.yaml``.  Raises ConfigurationError where it is in none of them.
    """
    prefixes = [*filter(None, os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)), sys.prefix]
    places = [*filter(None, [source_folder()]), *(Path(prefix, 'share', 'mpnp_ros') for prefix in prefixes)]
    for place in places:
        if (place / relative).exists():
            return place / relative
    raise ConfigurationError(f'{relative} is in none of {", ".join(map(str, places))}; '
                             'install the package again')
