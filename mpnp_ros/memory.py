"""Detecting a lack of memory, and releasing memory."""
from __future__ import annotations

import errno
import gc

import torch

LEAN = {'ONEDNN_PRIMITIVE_CACHE_CAPACITY': '32', 'LRU_CACHE_CAPACITY': '32', 'MALLOC_ARENA_MAX': '2'}
"""Environment of a process to be started that is to hold little memory.

In bfloat16, oneDNN and PyTorch's use of it each keep what they compiled for the last 1024 shapes of products,
which came to 0.7 GB after 50 training steps on texts of all lengths; with 32 steps are as fast.
"""
TEXTS = ('out of memory', 'not enough memory', "can't allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out: Python's, the system's, the CPU allocator's of torch, or a device's."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(text in str(error) for text in TEXTS)


def release_memory() -> None:
    """Release unreferenced memory, on the device too."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
