"""A latent connection: what carries one modality into the linked blocks of the language model."""
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.functional import logsigmoid

from mpnp_ros.errors import LinksError
from mpnp_ros.links.aligner import Aligner, Direction
from mpnp_ros.links.config import LinkConfig
from mpnp_ros.links.pooling import QuestionPooling
from mpnp_ros.links.standardise import Standardise
from mpnp_ros.links.take_over import take_over
from mpnp_ros.llm.prefix import BlockPrefix

#: What a link and the one it starts from have in common.
SAME_AT_START = (
    'base_model', 'blocks', 'kv_heads', 'head_dim', 'text_width', 'hidden', 'per_block', 'pooling', 'entries',
    'pooling_width', 'pooling_layers', 'pooling_heads', 'harmonics', 'additive')

Question = tuple[torch.Tensor, torch.Tensor]


class LatentLink(nn.Module):
    """Tokens of one modality -> a gated K/V prefix for every linked block (papers.md A.1, A.7).

    Parameters are float32 and all of them are trained.  Each linked block has its own gate
    g = sigmoid(w / temperature), handed on as log g; a pruned gate is exactly 0 and its block gets no
    prefix at all.

    config: what it was made for.  version: of the file it came from; '' for a link never saved.
    """

    kind = 'latent'
    config_type = LinkConfig

    def __init__(self, config: LinkConfig) -> None:
        super().__init__()
        self.config = config
        self.version = ''
        blind, pooled = config.soft_tokens > 0, config.pooling == 'question'
        constants = torch.randn(config.soft_tokens, config.token_width)
        self.soft_tokens = nn.Parameter(constants) if blind else None
        self.standard = Standardise(config.token_width)
        self.norm = nn.LayerNorm(config.token_width)
        self.direction = None if blind else Direction(config.token_width)
        self.pooling = QuestionPooling(
            config.token_width, config.text_width, config.pooling_width, config.entries,
            config.pooling_layers, config.pooling_heads, config.harmonics,
            config.additive) if pooled else None
        sizes = (config.pooling_width if pooled else config.token_width, config.hidden,
                 len(config.blocks) if config.per_block else 1, config.kv_heads, config.head_dim)
        self.key_aligner, self.value_aligner = Aligner(*sizes), Aligner(*sizes)
        self.gate_weights = nn.Parameter(torch.full((len(config.blocks),), config.gate))
        self.register_buffer('closed', torch.zeros(len(config.blocks), dtype=torch.bool))
        self._start()

    def forward(self, values: torch.Tensor | None = None, azimuth: torch.Tensor | None = None,
                valid: torch.Tensor | None = None, question: Question | None = None,
                rows: torch.Tensor | None = None) -> dict[int, BlockPrefix]:
        """The prefix of every linked block that is not pruned.

        values [F, P, D], azimuth [F, P], valid [F, P], rows [B]: see TokenBatch; a link with soft tokens
        takes none of them.  question: states [B, T, d] at the input of block `config.question_block`
        and their mask [B, T]; only needed, and only read, with question pooling.
        """
        linked = [place for place, closed in enumerate(self.closed.tolist()) if not closed]
        if not linked:
            return {}
        tokens = self._read(values, azimuth, valid)
        if self.pooling is not None:
            tokens, valid, rows = self._pool(tokens, azimuth, valid, rows, question)
        keys, values = (aligner(tokens, linked) for aligner in (self.key_aligner, self.value_aligner))
        if rows is not None:
            keys, values, valid = keys[:, rows], values[:, rows], None if valid is None else valid[rows]
        gates = self._columns(valid)
        of_block = [0] * len(linked) if len(keys) == 1 else range(len(linked))
        return {self.config.blocks[place]: BlockPrefix(keys[i], values[i], gates[place])
                for i, place in zip(of_block, linked, strict=True)}

    @property
    def gates(self) -> torch.Tensor:
        """Of each linked block in config.blocks its g, [N] in [0, 1]; exactly 0 where pruned."""
        return torch.sigmoid(self.gate_weights / self.config.temperature).masked_fill(self.closed, 0.)

    @property
    def open_blocks(self) -> tuple[int, ...]:
        """The linked blocks that are not pruned."""
        return tuple(block for block, closed in zip(self.config.blocks, self.closed.tolist(), strict=True)
                     if not closed)

    @property
    def first_block(self) -> int | None:
        """The lowest block whose input this link needs; None if it is pruned away."""
        if not self.open_blocks:
            return None
        return self.open_blocks[0] if self.pooling is None else self.config.question_block

    @torch.no_grad()
    def calibrate(self, questions: Sequence[Question], values: torch.Tensor | None) -> None:
        """Measure what is standardised, once; a link that has been measured keeps what it has.

        questions: as in forward, of the training set; read by a link that pools.  values: [n, D] tokens of
        the training set; None without a sensor.
        """
        if values is not None and not self.config.additive and not self.standard.measured:
            self.standard.measure(values.to(self.standard.mean.device))
        if self.pooling is not None and not self.pooling.standard_end.measured:
            self.pooling.measure(questions)

    def start_from(self, other: LatentLink) -> tuple[str, ...]:
        """Take over what another link has learned; gives the names of tensors that were not taken over.

        Everything of equal name and shape is, with its statistics: a link to another sensor whose tokens
        count the same things begins with all of it.  Raises LinksError where their pooling, blocks or
        heads differ.
        """
        odd = [name for name in SAME_AT_START if getattr(self.config, name) != getattr(other.config, name)]
        if odd:
            raise LinksError(f'a {self.config.modality} link cannot start from the {other.config.modality} '
                             f'link: {", ".join(odd)} differ; make it with the same options')
        return take_over(self, other)

    def prune(self, threshold: float) -> int:
        """Close all gates below the threshold for good; gives how many were open before."""
        closed = self.closed | (self.gates.detach() < threshold)
        newly = int((closed & ~self.closed).sum())
        self.closed = closed
        return newly

    def _start(self) -> None:
        nn.init.normal_(self.key_aligner.output.weight, std=self.config.key_gain / self.config.hidden ** 0.5)
        if self.config.zero_values:
            nn.init.zeros_(self.value_aligner.output.weight)
            nn.init.zeros_(self.value_aligner.output.bias)

    def _read(self, values: torch.Tensor | None, azimuth: torch.Tensor | None,
              valid: torch.Tensor | None) -> torch.Tensor:
        """Normalised tokens with their direction, [F, P, D]."""
        if self.soft_tokens is not None:
            return self.norm(self.soft_tokens)[None]
        if values is None or azimuth is None or values.shape[-1] != self.config.token_width:
            width = 'no' if values is None or azimuth is None else values.shape[-1]
            raise LinksError(f'the {self.config.modality} link reads tokens of width '
                             f'{self.config.token_width} with azimuths, but was given {width}; '
                             'use the encoder it was trained with')
        values = values if valid is None else values.masked_fill(~valid[..., None], 0.)
        if self.config.additive:
            return values
        return self.direction(self.norm(self.standard(values)), azimuth.float())

    def _pool(self, tokens: torch.Tensor, azimuth: torch.Tensor | None, valid: torch.Tensor | None,
              rows: torch.Tensor | None, question: Question | None,
              ) -> tuple[torch.Tensor, torch.Tensor | None, None]:
        """Entries [B, M, w] and which of them are real [B, M]."""
        if question is None:
            raise LinksError(f'the {self.config.modality} link pools by the question; hand it the states of '
                             f'the question at block {self.config.question_block}')
        seen = self.pooling.see(tokens, None if self.soft_tokens is not None else azimuth)
        entries = self.pooling(seen.of_rows(rows, valid), question)
        valid = valid if valid is None or rows is None else valid[rows]
        present = None if valid is None else valid.any(1, keepdim=True).expand(entries.shape[:2])
        return entries, present, None

    def _columns(self, valid: torch.Tensor | None) -> torch.Tensor:
        """Of every linked block log g of its columns, [N, B or 1, 1, P or 1]; -inf where nothing is real."""
        gates = logsigmoid(self.gate_weights / self.config.temperature)[:, None, None, None]
        return gates if valid is None else torch.where(valid[:, None, :], gates, -torch.inf)
