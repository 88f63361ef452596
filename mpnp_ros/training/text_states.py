"""States of many texts at the input of one block, which readers learn words from."""
from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.nn.utils.rnn import pad_sequence

from mpnp_ros.llm.layout import TextLayout
from mpnp_ros.methods.method import Method


def text_states(method: Method, texts: Sequence[str], block: int,
                batch: int) -> Iterator[list[tuple[str, torch.Tensor]]]:
    """Yield texts with their states [T, d] at the input of a block, in batches of similar length.

    They are read as questions without choices, by the frozen language model alone.
    """
    lm = method.lm
    ids = {text: method.template.ids(lm.tokenizer, text) for text in texts}
    ordered = sorted(ids, key=lambda text: len(ids[text]))
    for start in range(0, len(ordered), batch):
        part = ordered[start:start + batch]
        layout = TextLayout.stack([TextLayout.causal(ids[text][None]) for text in part]).to(lm.device)
        with torch.no_grad():
            hidden = lm.run_blocks(lm.embed(layout), layout, 0, block)
        yield [(text, states[:len(ids[text])]) for text, states in zip(part, hidden, strict=True)]


def padded_states(states: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the states [T, d] of some texts as float32 [B, T, d], and their mask [B, T]."""
    lengths = torch.tensor([len(rows) for rows in states], device=states[0].device)
    padded = pad_sequence(list(states), batch_first=True).float()
    return padded, torch.arange(padded.shape[1], device=lengths.device) < lengths[:, None]
