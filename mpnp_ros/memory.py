"""Running out of memory, and giving it back."""
from __future__ import annotations

import gc

import torch

TEXTS = ('out of memory', 'not enough memory', "can't allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: Python's, the CPU allocator's of torch, or a device's."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in TEXTS)


def release_memory() -> None:
    """Give back what nothing refers to any more, on the device too."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
