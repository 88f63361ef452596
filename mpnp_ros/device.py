"""Device and number format of frozen weights, and lack of memory.

bfloat16 halves the memory and, on processors with matrix instructions for it, runs a matrix product about
four times as fast as float32; on others it is several times slower.  So the speed is measured once per
process.  Small models are not measured; their products are too short.
"""
from __future__ import annotations

import errno
import gc
import time
from functools import cache

import torch
from torch.nn import functional

from mpnp_ros.errors import ConfigurationError

DEVICES = ('auto', 'cpu', 'cuda')
DTYPES = ('auto', 'float32', 'bfloat16')
WORTH_IT = 1.3
"""Factor by which bfloat16 must be faster to be chosen: it rounds."""
SMALL = 256
"""Width of a model up to which bfloat16 gains too little."""

LEAN = {'ONEDNN_PRIMITIVE_CACHE_CAPACITY': '32', 'LRU_CACHE_CAPACITY': '32', 'MALLOC_ARENA_MAX': '2'}
"""Environment variables of a process that shall need little memory.

In bfloat16, oneDNN and PyTorch each keep the code compiled for the last 1024 shapes of products: 0.7 GB after
50 training steps on texts of all lengths.  With 32 shapes the steps are as fast.
"""
OUT_OF_MEMORY = ('out of memory', 'not enough memory', "can't allocate memory", 'failed to map segment',
                 'cannot allocate memory')
"""Parts of messages: of torch, and of the loader of libraries."""


def choose_device(requested: str) -> torch.device:
    """Return the device named by ``requested``: ``auto``, ``cpu``, ``cuda`` or ``cuda:<index>``.

    ``auto`` takes the first CUDA device where there is one.  Raises ConfigurationError.
    """
    if requested == 'auto':
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        device = torch.device(requested)
    except (RuntimeError, TypeError):
        device = None
    if device is None or device.type not in DEVICES:
        raise ConfigurationError(f'device {requested!r} is unknown; use auto, cpu, cuda or cuda:<index>')
    if device.type == 'cuda' and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigurationError(f'device {requested!r} is not on this machine, which has '
                                 f'{torch.cuda.device_count()} CUDA devices; use auto or cpu')
    return device


def choose_dtype(requested: str, device: torch.device | str, width: int) -> torch.dtype:
    """Return the parameter dtype for ``requested``: ``auto``, ``float32`` or ``bfloat16``.

    ``auto`` is float32 for a model of ``width`` up to 256; above, it measures a feed-forward product on
    ``device``, in tens of milliseconds and once per process, and takes bfloat16 only where that is
    clearly faster.  Raises ConfigurationError.
    """
    if requested not in DTYPES:
        raise ConfigurationError(f'dtype {requested!r} is unknown; use one of {", ".join(DTYPES)}')
    if requested != 'auto':
        return getattr(torch, requested)
    return torch.bfloat16 if width > SMALL and _gains(torch.device(device), width) else torch.float32


def product_seconds(device: torch.device, width: int, tokens: int = 64,
                    tries: int = 30) -> tuple[float, float]:
    """Return the best times in seconds of ``tokens`` rows [width] times a matrix [4 width, width].

    Measured in float32 and bfloat16 in turn, so that a busy moment affects both.
    """
    def timed(rows: torch.Tensor, weight: torch.Tensor) -> float:
        start = time.perf_counter()
        with torch.inference_mode():
            functional.linear(rows, weight)
            if rows.is_cuda:
                torch.cuda.synchronize(rows.device)
        return time.perf_counter() - start

    operands = [(torch.ones(tokens, width, dtype=dtype, device=device),
                 torch.ones(4 * width, width, dtype=dtype, device=device))
                for dtype in (torch.float32, torch.bfloat16)]
    exact, rounded = zip(*([timed(*pair) for pair in operands] for _ in range(tries)), strict=True)
    return min(exact), min(rounded)


@cache
def _gains(device: torch.device, width: int) -> bool:
    """Return whether bfloat16 is clearly faster; the first result is kept."""
    if device.type == 'cuda' and not torch.cuda.is_bf16_supported(including_emulation=False):
        return False
    exact, rounded = product_seconds(device, width)
    return rounded * WORTH_IT < exact


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out: Python's, the system's, the CPU allocator's of torch, or a device's.

    A library that is imported then cannot be loaded.
    """
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError | ImportError) and any(text in str(error) for text in OUT_OF_MEMORY)


def release_memory() -> None:
    """Release unreferenced memory, on the device too."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
