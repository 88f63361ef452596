"""What the simulator needs on this machine, for `mpnp doctor` and for the commands that start it."""
from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator

from mpnp_ros.cli.doctor import OK, WARNING, CheckResult, package_findings
from mpnp_ros.errors import ConfigurationError, WorldError

PACKAGES = ('moderngl', 'embreex')
USEFUL = {'matplotlib': ('matplotlib', 'draws the pictures of the demo'),
          'moderngl': ('moderngl', 'renders the cameras of the simulated world'),
          'embreex': ('embreex', 'casts the rays of the simulated LiDAR and radars')}


def check_packages() -> Iterator[CheckResult]:
    """Check the Python packages."""
    return package_findings({}, USEFUL)


def check_graphics() -> Iterator[CheckResult]:
    """Check OpenGL through EGL, a system library, for the simulated cameras."""
    if importlib.util.find_spec('moderngl') is None:
        return  # named among the packages
    from mpnp_world.sensors.graphics import open_context

    try:
        context = open_context()
    except WorldError as error:
        text, _, remedy = str(error).rpartition('; ')
        yield CheckResult('EGL', WARNING, text, remedy)
        return
    yield CheckResult('EGL', OK, f'{context.info["GL_RENDERER"]}, OpenGL {context.version_code / 100:.1f}')
    context.release()


CHECKS: tuple[Callable[[], Iterator[CheckResult]], ...] = (check_packages, check_graphics)


def require_packages() -> None:
    """Raise ConfigurationError if a package for rendering or ray casting is missing."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigurationError(f'the world needs {" and ".join(missing)}: pip install {" ".join(missing)}')


def require_cameras() -> None:
    """Raise ConfigurationError, with the remedy, unless the simulated cameras can render here."""
    require_packages()
    for found in check_graphics():
        if found.state != OK:
            raise ConfigurationError(f'the simulated cameras cannot render: {found.text}; {found.remedy}')
