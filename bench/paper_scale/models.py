"""Sizes of the experiments of arXiv:2312.07886, its models without weights, and the memory of a step."""
from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM, BloomConfig, OPTConfig, PretrainedConfig

from mpnp_ros.errors import ConfigurationError
from mpnp_ros.llm.families import family_of
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.modalities.lidar.rangevit import COLUMNS, ROWS, build_rangevit
from mpnp_ros.modalities.lidar.rangevit import SHAPE as RANGEVIT
from mpnp_ros.modalities.vision import VisionTransformer, VitShape

#: Width of a token; both encoders are ViT-S.
TOKEN_WIDTH = RANGEVIT.width
#: ViT-S/16 as `WinKawaks/vit-small-patch16-224`.
VIT = VitShape(patch=(16, 16), grid=(14, 14), epsilon=1e-12, layer_scale=False)
IMAGE = 224
#: Tokens of a view: one per depth of the encoder, or per band of elevation.
TOKENS_OF_A_VIEW = 4


@dataclass(frozen=True)
class SensorViews:
    """The views of one sensor at one moment.

    views: images or sweeps, four tokens each.  size: [channels, rows, columns] of a view.
    """

    modality: str
    views: int
    size: tuple[int, int, int]

    @property
    def tokens(self) -> int:
        """Tokens of all views."""
        return self.views * TOKENS_OF_A_VIEW


CAMERA = SensorViews('camera', 6, (3, IMAGE, IMAGE))
LIDAR = SensorViews('lidar', 1, (RANGEVIT.channels, ROWS, COLUMNS))


@dataclass(frozen=True)
class AdaptationTask:
    """An adaptation at night with the data and batches of the paper (nuScenes-QA-mini).

    sensors: in use afterwards.  text: maximum tokens of question and answer; answer: those of the answer and
    the end of text, which are learned.  samples, epochs, batch: as published.  frames: distinct moments of
    the samples; of 1318 questions at night, about 11 per frame, half are for training, so nearly every frame
    occurs.
    """

    name: str
    sensors: tuple[SensorViews, ...]
    text: int = 72
    answer: int = 3
    samples: int = 659
    epochs: int = 8
    batch: int = 16
    frames: int = 118

    @property
    def tokens(self) -> int:
        """Modality tokens of a moment."""
        return sum(sensor.tokens for sensor in self.sensors)

    @property
    def views(self) -> int:
        """Views of a moment."""
        return sum(sensor.views for sensor in self.sensors)

    @property
    def seen(self) -> int:
        """Samples of all epochs."""
        return self.samples * self.epochs

    @property
    def steps(self) -> int:
        """Steps of the optimiser; the last batch of an epoch may be smaller."""
        return -(-self.samples // self.batch) * self.epochs


SWITCH = AdaptationTask('camera to LiDAR', (LIDAR,))
ADD = AdaptationTask('camera to camera + LiDAR', (CAMERA, LIDAR))

MODELS: dict[str, PretrainedConfig] = {
    'OPT-1.3B': OPTConfig(
        hidden_size=2048, ffn_dim=8192, num_hidden_layers=24, num_attention_heads=32, vocab_size=50272,
        word_embed_proj_dim=2048, max_position_embeddings=2048),
    'OPT-2.7B': OPTConfig(
        hidden_size=2560, ffn_dim=10240, num_hidden_layers=32, num_attention_heads=32, vocab_size=50272,
        word_embed_proj_dim=2560, max_position_embeddings=2048),
    'BLOOMZ-1.1B': BloomConfig(hidden_size=1536, n_layer=24, n_head=16, vocab_size=250880),
}


def language_model(name: str, dtype: torch.dtype = torch.bfloat16, first: int = 0) -> LanguageModel:
    """One of MODELS on the default device, with uninitialised or random weights.

    first: leave out the blocks below it and the token embeddings.  Raises ConfigurationError for unknown
    names.
    """
    if name not in MODELS:
        raise ConfigurationError(f'{name!r} is not a model of the paper; choose one of {", ".join(MODELS)}')
    model = AutoModelForCausalLM.from_config(MODELS[name], dtype=dtype)
    if first:
        family_of(model, name).leave_out(first)
    return LanguageModel(model, None, name, weights_identity=name)


def encoder(sensor: SensorViews) -> VisionTransformer:
    """The encoder of a sensor on the default device."""
    network = build_rangevit() if sensor.modality == LIDAR.modality else VisionTransformer(VIT)
    return network.eval().requires_grad_(False)


class Encoders(nn.Module):
    """All encoders of an adaptation, frozen, in the half precision of the language model."""

    def __init__(self, adaptation: AdaptationTask, dtype: torch.dtype = torch.bfloat16) -> None:
        super().__init__()
        self.adaptation = adaptation
        with default_dtype(dtype):
            self.networks = nn.ModuleDict({sensor.modality: encoder(sensor) for sensor in adaptation.sensors})

    @torch.no_grad()
    def forward(self) -> dict[str, torch.Tensor]:
        """Tokens [1, P, D] float32 of one moment by modality, from views of zeros."""
        found = {}
        for sensor in self.adaptation.sensors:
            network = self.networks[sensor.modality]
            views = torch.zeros(sensor.views, *sensor.size, dtype=network.cls_token.dtype)
            if sensor.modality == LIDAR.modality:
                patches = network.norm(network(views, (RANGEVIT.depth,)).patches[0])
                tokens = patches.unflatten(1, (TOKENS_OF_A_VIEW, -1)).mean((2, 3))
            else:
                taps = range(VIT.depth - TOKENS_OF_A_VIEW + 1, VIT.depth + 1)
                tokens = network(views, tuple(taps)).cls.transpose(0, 1)
            found[sensor.modality] = tokens.reshape(1, sensor.tokens, TOKEN_WIDTH).float()
        return found


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """A context in which new tensors have this data type by default."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


class PeakMemory(TorchDispatchMode):
    """Counts the bytes of all live storages that operations create.

    Works with real tensors and with fake tensors under FakeTensorMode.  Workspace of kernels is not counted.
    held: bytes now.  peak: maximum of held.  MemTracker of torch.distributed._tools cannot be used: in torch
    2.13 it hooks every parameter and fails at frozen ones.
    """

    def __init__(self) -> None:
        super().__init__()
        self.held = self.peak = 0
        self._storages: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def hold(self, tensors: Iterable[torch.Tensor]) -> PeakMemory:
        """Also count existing tensors, such as weights."""
        for tensor in tensors:
            self._add(tensor.untyped_storage())
        return self

    def __torch_dispatch__(self, function: Callable[..., Any], types: Any, arguments: tuple[Any, ...] = (),
                           options: dict[str, Any] | None = None) -> Any:
        """Run an operation and count its results."""
        made = function(*arguments, **(options or {}))
        for leaf in tree_leaves(made):
            if isinstance(leaf, torch.Tensor):
                self._add(leaf.untyped_storage())
        return made

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = id(storage)
        if key in self._storages:
            return
        size = storage.nbytes()

        def free(_: weakref.ref[torch.UntypedStorage]) -> None:
            del self._storages[key]
            self.held -= size

        self._storages[key] = weakref.ref(storage, free)
        self.held += size
        self.peak = max(self.peak, self.held)
