"""Environment variables for the transport of camera images; for launch files, bringup and doctor.

Fast DDS loses nearly every large best-effort message by default: of six cameras of 1600 x 900 at 10 Hz no
image arrives.  With ``config/fastdds.xml`` all do.  A process reads these variables once, when it starts, so
the process that starts it must set them.
"""
from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from mpnp_ros.files import shared_file

# Jazzy and Humble read the first name, later distributions the second.
PROFILE_VARIABLES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')
# glibc would give the memory of every image back to the kernel and fetch it anew: 13 instead of 3.5 ms each.
ALLOCATOR = {'MALLOC_MMAP_THRESHOLD_': str(256 << 20), 'MALLOC_TRIM_THRESHOLD_': str(512 << 20)}
# Nodes share the cores: a thread of torch that waits must not spin (a factor of 7 on two cores).
WAITING = {'OMP_WAIT_POLICY': 'PASSIVE'}
SHARED_MEMORY = Path('/dev/shm')
SHARED_MEMORY_NEEDED = 512 << 20


def profile_file() -> Path:
    """Return the Fast DDS profile; raises ConfigurationError if it is not installed."""
    return shared_file('config/fastdds.xml')


def transport_environment() -> dict[str, str]:
    """Return the variables to set before a node is started."""
    return {**dict.fromkeys(PROFILE_VARIABLES, str(profile_file())), **ALLOCATOR, **WAITING}


def additions(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables to add to ``environ``; the user's own profile or limit is kept."""
    own_profile = any(environ.get(name) for name in PROFILE_VARIABLES)
    return {name: value for name, value in transport_environment().items()
            if name not in environ and not (own_profile and name in PROFILE_VARIABLES)}


def problems(environ: Mapping[str, str]) -> list[str]:
    """Return problems of ``environ`` or this machine that lose images or delay them, with the remedy."""
    found = [f'{name} is not set: large images take four times as long; set it to {value}'
             for name, value in ALLOCATOR.items() if name not in environ]
    if environ.get('RMW_IMPLEMENTATION', 'rmw_fastrtps_cpp') == 'rmw_fastrtps_cpp':
        given = [name for name in PROFILE_VARIABLES if environ.get(name)]
        if not given:
            found.append(f'neither {" nor ".join(PROFILE_VARIABLES)} is set: Fast DDS loses camera images; '
                         f'set both to {profile_file()}')
        found += [f'{name} names {environ[name]}, which does not exist; set it to {profile_file()}'
                  for name in given if not Path(environ[name]).is_file()]
        if SHARED_MEMORY.is_dir():
            state = os.statvfs(SHARED_MEMORY)
            free = state.f_bavail * state.f_frsize
            if free < SHARED_MEMORY_NEEDED:
                found.append(f'{SHARED_MEMORY} has {free >> 20} MB free and {SHARED_MEMORY_NEEDED >> 20} are '
                             'needed: give a container more (--shm-size=1g), or remove what killed processes '
                             'left (fastdds shm clean)')
    return found
