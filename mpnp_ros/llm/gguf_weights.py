"""Convert a Llama-like model in a GGUF file to a folder that transformers loads fast.

The file is read with the `gguf` package and dequantised to float32 once; transformers' own reader needs
another package and takes several times as long at every start.
"""
from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from gguf import MODEL_ARCH, GGUFReader, dequantize, get_tensor_name_map
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PretrainedConfig

from mpnp_ros.errors import WeightsError


def convert(source: Path, folder: Path) -> None:
    """Write config, tokenizer and float32 safetensors of the GGUF file `source` into `folder`.

    Raises WeightsError for a file that is not of a Llama model or lacks tensors.
    """
    config = AutoConfig.from_pretrained(source.parent, gguf_file=source.name)
    if config.model_type != 'llama':
        raise WeightsError(f'{source.name} holds a {config.model_type} model; only Llama models are read '
                           'from GGUF, give others as a folder of safetensors')
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    with torch.device('meta'):
        model = AutoModelForCausalLM.from_config(config)
    state = _read_tensors(source, config, list(model.state_dict()))
    model.load_state_dict(state, strict=True, assign=True)
    model.tie_weights()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _read_tensors(source: Path, config: PretrainedConfig, names: list[str]) -> dict[str, torch.Tensor]:
    stored = {tensor.name: tensor for tensor in GGUFReader(source).tensors}
    stored_names = get_tensor_name_map(MODEL_ARCH.LLAMA, config.num_hidden_layers)
    state = {}
    for name in names:
        stem, suffix = name.rsplit('.', 1)
        tensor = stored.get(f'{stored_names.get_name(stem)}.{suffix}')
        if tensor is None and name == 'lm_head.weight' and config.tie_word_embeddings:
            tensor = stored['token_embd.weight']
        if tensor is None:
            raise WeightsError(f'{source.name} lacks the tensor of {name}; install the file again')
        values = np.array(dequantize(tensor.data, tensor.tensor_type), np.float32)
        state[name] = torch.from_numpy(np.ascontiguousarray(_in_rope_order(name, values, config)))
    return state


def _in_rope_order(name: str, values: np.ndarray, config: PretrainedConfig) -> np.ndarray:
    """Rows of query and key projections in the order of transformers: GGUF interleaves the halves of RoPE."""
    of_projection = {'q_proj': config.num_attention_heads, 'k_proj': config.num_key_value_heads}
    heads = of_projection.get(name.split('.')[-2])
    if heads is None:
        return values
    halves = values.reshape(heads, values.shape[0] // heads // 2, 2, -1)
    return halves.swapaxes(1, 2).reshape(values.shape)
