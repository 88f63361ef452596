"""Tiny language models and encoders with random weights, and real nodes among themselves, for all tests."""
from __future__ import annotations

import faulthandler
import fcntl
import importlib.util
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TextIO

import hypothesis
import numpy as np
import pytest
import torch
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Gemma2Config,
    GemmaConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    ViTConfig,
    ViTModel,
    YolosConfig,
    YolosForObjectDetection,
)

from mpnp_ros.errors import WorldError
from mpnp_ros.llm.attention import Prefix
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.llm.layout import TextLayout
from mpnp_ros.llm.weights import load_language_model
from mpnp_ros.methods.link_files import save_link
from mpnp_ros.methods.method import Method
from mpnp_ros.methods.registry import create_method
from mpnp_ros.modalities.registry import create_encoder
from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_ros.questions.key_frame import KeyFrame
from mpnp_ros.tokens import ModalityTokens
from mpnp_ros.training.dataset import Example, TokenDataset
from mpnp_world.standin import write_standin

if TYPE_CHECKING:
    from ros_harness import RosHarness

CORPUS = ['question: is the car moving? how many cars are to the front left of the truck?',
          'answer: yes no car truck bus pedestrian moving parked stopped with rider without rider',
          'the status of the object is not standing, what is it? the quick brown fox jumps over the lazy dog']
TOY_ANSWERS, TOY_WIDTH = ('yes', 'no', 'car', 'truck'), 8
TOY_LINK = {'last': 2, 'hidden': 16, 'pooling': 'question', 'pooling_width': 16, 'pooling_layers': 1,
            'pooling_heads': 2, 'entries': 2}
KEY_FRAME_ROOT = Path(__file__).resolve().parents[2] / 'shared' / 'data' / 'nuscenes_keyframe'
BLOCKS = 4
WINDOW = 4
STUCK = 180.
LONG_NAME = 80
ROOFS = {'world': 'mpnp_world/', 'bench': 'bench/'}
LONGEST = ('nodes/test_adaptation.py', 'nodes/test_fusion.py', 'nodes/test_inputs.py', 'cli/test_system.py',
           'nodes/test_camera_encoder.py', 'mpnp_world/demo/test_command.py', 'nodes/test_signals.py',
           'bench/study/test_command.py', 'bench/test_lifecycle.py', 'adaptation/test_adapter.py',
           'adaptation/test_job_process.py', 'bench/test_methods.py', 'nodes/test_replay.py',
           'nodes/test_settable.py', 'mpnp_world/test_node.py')
STDERR = pytest.StashKey[int]()
DOMAINS = 100  # those above need ports that Linux hands out to others
_domains: list[TextIO] = []  # locked

# Where these are set, pytest writes out the whole difference between two values that should be equal: for
# megabytes of bytes that takes hours.
hypothesis.settings.load_profile('ci' if 'CI' in os.environ else 'default')
# Where other programs are at work, any example may take long.
hypothesis.settings.register_profile('any load', hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile('any load')
for variable in ('CI', 'BUILD_NUMBER'):
    os.environ.pop(variable, None)

# The processes that tests start and end by SIGINT would inherit it as ignored where this run is a shell's
# background job.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    """Keep the real stderr, which tests' output is captured away from."""
    config.stash[STDERR] = os.dup(2)


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name long parameters by their length: the bytes of some files differ between two processes."""
    if isinstance(val, bytes | str) and len(val) > LONG_NAME:
        return f'{type(val).__name__} of {len(val)}'
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests of simulator and benchmarks, and let processes that share a run end together.

    They begin with the files that take longest.  A test of real processes that fails is tried once more, as
    ``colcon test --retest-until-pass`` does, and named in the summary: discovery can be late.
    """
    for item in items:
        if item.get_closest_marker('ros') and config.pluginmanager.hasplugin('rerunfailures'):
            item.add_marker(pytest.mark.flaky(reruns=1))
        path = str(item.path.relative_to(Path(__file__).parent))
        for marker, folder in ROOFS.items():
            if path.startswith(folder):
                item.add_marker(marker)
    if hasattr(config, 'workerinput'):
        order = {str(Path(__file__).parent / name): rank for rank, name in enumerate(LONGEST)}
        items.sort(key=lambda item: order.get(str(item.path), len(order)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """End the run with the stacks of all threads where a test hangs in compiled code.

    There the time limit of pytest-timeout (pyproject.toml), which needs the interpreter, cannot strike.
    """
    marked = item.get_closest_marker('timeout')
    faulthandler.dump_traceback_later(STUCK + (marked.args[0] if marked else 0.), exit=True,
                                      file=item.config.stash[STDERR])
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope='session', autouse=True)
def own_surroundings(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep what tests' nodes learn apart from what the user's robot has learned.

    MPNP_TEST_OTHER_DOMAIN names a ROS domain for whole systems, which the harness is not in.
    """
    os.environ['MPNP_STATE'] = str(tmp_path_factory.mktemp('state'))
    os.environ['MPNP_TEST_OTHER_DOMAIN'] = str(free_domain())


@pytest.fixture(scope='session')
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that this test run shares, for what was measured on this machine with tiny models."""
    return tmp_path_factory.mktemp('cache')


@pytest.fixture(scope='module')
def own_cache(cache_folder: Path) -> Iterator[None]:
    """Keep what a module's tests measure, and their processes, apart from the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('MPNP_CACHE', str(cache_folder))
        yield


@cache
def make_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of about 330 tokens, with `</s>` and `<pad>`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=['<pad>', '</s>'], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token='</s>', pad_token='<pad>')


def _configs(vocabulary: int) -> dict[str, object]:
    common = {'vocab_size': vocabulary, 'hidden_size': 32, 'num_hidden_layers': BLOCKS,
              'num_attention_heads': 4, 'initializer_range': 0.2,
              'bos_token_id': None, 'eos_token_id': 1, 'pad_token_id': 0}
    grouped = {**common, 'num_key_value_heads': 2, 'intermediate_size': 48, 'max_position_embeddings': 256}
    windows = ['sliding_attention', 'full_attention'] * (BLOCKS // 2)
    return {
        'llama': LlamaConfig(**grouped, tie_word_embeddings=True),
        'mistral': MistralConfig(**grouped, sliding_window=WINDOW),
        'qwen2': Qwen2Config(**grouped, use_sliding_window=True, sliding_window=WINDOW, layer_types=windows),
        'qwen3': Qwen3Config(**grouped, head_dim=16),
        'gemma': GemmaConfig(**grouped, head_dim=16),
        'gemma2': Gemma2Config(**grouped, head_dim=16, sliding_window=WINDOW, layer_types=windows,
                               query_pre_attn_scalar=16, attn_logit_softcapping=5.,
                               final_logit_softcapping=9.),
        'opt': OPTConfig(**{**common, 'init_std': .2}, ffn_dim=48, word_embed_proj_dim=16,
                         max_position_embeddings=256),
        'gpt2': GPT2Config(**common, n_positions=256),
        'bloom': BloomConfig(**common),
    }


FAMILIES = tuple(_configs(8))


def make_model(family: str) -> PreTrainedModel:
    """A new random model of a family, float32, always with the same weights; 4 blocks of width 32."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(_configs(len(make_tokenizer()))[family]).eval()


@cache
def _language_model(family: str) -> LanguageModel:
    return LanguageModel(make_model(family), make_tokenizer(), f'tiny-{family}')


@pytest.fixture(scope='session')
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer of all tiny models."""
    return make_tokenizer()


@pytest.fixture(scope='session')
def tiny_model() -> Callable[[str], PreTrainedModel]:
    """Give a function: family -> a new stock transformers model."""
    return make_model


@pytest.fixture(scope='session')
def tiny_lm() -> Callable[[str], LanguageModel]:
    """Give a function: family (default llama) -> a language model of those weights, shared (it is frozen)."""
    return lambda family='llama': _language_model(family)


def run_the_long_way(lm: LanguageModel, layout: TextLayout, prefix: Prefix | None,
                     sees: torch.Tensor) -> torch.Tensor:
    """The last block's output [B, T, d] where only some rows see the prefix; nothing is cached or split.

    sees: [B, T] bool.  Every block is run on all rows with and without the prefix.
    """
    hidden = lm.embed(layout)
    for block in range(lm.blocks):
        linked, plain = (lm.run_blocks(hidden, layout, block, block + 1, seen) for seen in (prefix, None))
        hidden = torch.where(sees[..., None], linked, plain)
    return hidden


@pytest.fixture(scope='session')
def long_way() -> Callable[..., torch.Tensor]:
    """Give a function: lm, layout, prefix, sees [B, T] -> what reach 'answer' must equal."""
    return run_the_long_way


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    """Every supported family in turn."""
    return request.param


@pytest.fixture(scope='session')
def tiny_lm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny model in the format of transformers, for nodes in processes of their own."""
    folder = tmp_path_factory.mktemp('tiny-llama')
    make_model('llama').save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope='session')
def tiny_backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random vision transformer that loads and runs in milliseconds."""
    folder = tmp_path_factory.mktemp('tiny_vit')
    config = ViTConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
                       image_size=32, patch_size=16)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ViTModel(config, add_pooling_layer=False).save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.fixture(scope='session')
def tiny_camera(tiny_backbone: Path) -> dict[str, object]:
    """Parameters of a camera encoder without pre-trained weights."""
    return {'encoder.backbone': str(tiny_backbone), 'encoder.device': 'cpu', 'encoder.dtype': 'float32',
            'encoder.tokens': 'columns', 'encoder.height': 32, 'encoder.width': 64,
            'encoder.blocks': [1, 2], 'encoder.columns': 2}


@pytest.fixture(scope='session')
def tiny_detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a YOLOS that sees a car in the middle half of every image, three times."""
    folder = tmp_path_factory.mktemp('tiny_yolos')
    names = {0: 'person', 1: 'car'}
    config = YolosConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
                         image_size=[32, 32], patch_size=16, num_detection_tokens=3, id2label=names,
                         label2id={name: place for place, name in names.items()},
                         use_mid_position_embeddings=False)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = YolosForObjectDetection(config)
        for head, bias in ((model.class_labels_classifier, [0., 3., 0.]), (model.bbox_predictor, [0.] * 4)):
            head.layers[-1].weight.zero_()
            head.layers[-1].bias.copy_(torch.tensor(bias))
        model.save_pretrained(folder, safe_serialization=True)
    size = {'height': 32, 'width': 32}
    (folder / 'preprocessor_config.json').write_text(json.dumps({'size': size}))
    return folder


@pytest.fixture(scope='session')
def tiny_lidar(tiny_backbone: Path) -> dict[str, object]:
    """Parameters of a LiDAR encoder without pre-trained weights."""
    return {'encoder.backbone': str(tiny_backbone), 'encoder.device': 'cpu', 'encoder.dtype': 'float32',
            'encoder.height': 16, 'encoder.width': 64, 'encoder.blocks': [1, 2], 'encoder.sectors': 8,
            'encoder.rows': 8, 'encoder.columns': 64}


@pytest.fixture(scope='session')
def tiny_system(tmp_path_factory: pytest.TempPathFactory, tiny_lm_folder: Path, tiny_camera: dict,
                tiny_lidar: dict) -> Path:
    """A parameter file of a whole system without any pre-trained weights: untrained links, small images."""
    folder = tmp_path_factory.mktemp('tiny_system')
    method = create_method('mpnp', load_language_model(tiny_lm_folder, 'cpu', 'float32'))
    links = []
    for name, given in (('camera', tiny_camera), ('lidar', tiny_lidar)):
        encoder = create_encoder(name, {key.removeprefix('encoder.'): value for key, value in given.items()})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            link = method.new_link(name, encoder.fingerprint, encoder.token_width, last=2)
        links.append(str(folder / name))
        save_link(link, folder / name)
    nodes = {'camera_encoder': {'encoder.tokens': 'columns', **tiny_camera}, 'lidar_encoder': tiny_lidar,
             'fusion': {'llm': str(tiny_lm_folder), 'dtype': 'float32', 'links': links},
             'world': {'width': 96, 'height': 54, 'questions': 1}}
    path = folder / 'params.yaml'
    path.write_text(yaml.safe_dump({f'/**/{name}': {'ros__parameters': values}
                                    for name, values in nodes.items()}))
    return path


@pytest.fixture(scope='session')
def standin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated nuScenes root of one key frame, to be read only."""
    return Path(write_standin(tmp_path_factory.mktemp('standin') / 'root', seed=3, scenes=1, key_frames=1))


def make_toy_tokens(modality: str, answer: int, seed: int) -> ModalityTokens:
    """Three tokens of noise; the last one says the answer."""
    values = .1 * np.random.default_rng(seed).standard_normal((3, TOY_WIDTH), np.float32)
    values[2, answer] += 3
    return ModalityTokens(modality, f'{modality}-encoder', values, np.array([0, 1, 2], np.float32))


@pytest.fixture(scope='session')
def toy_tokens() -> Callable[[str, int, int], ModalityTokens]:
    """Give a function: (modality, number of the answer, seed) -> tokens that say it."""
    return make_toy_tokens


def make_toy_dataset(frames: int, seed: int, modalities: tuple[str, ...] = ('camera',)) -> TokenDataset:
    """Every answer equally often, for two questions of different length."""
    tokens = {f'f{n}': {name: make_toy_tokens(name, n % 4, 1000 * seed + n) for name in modalities}
              for n in range(frames)}
    examples = tuple(Example(text, TOY_ANSWERS[n % 4], TOY_ANSWERS, kind, hops, f'f{n}')
                     for n in range(frames)
                     for text, kind, hops in (('what is it?', 'object', 0),
                                              ('what is to the front left of the truck?', 'status', 1)))
    return TokenDataset(tokens, examples)


@pytest.fixture(scope='session')
def toy() -> Callable[..., TokenDataset]:
    """Give a function: (number of frames, seed, modalities) -> data set of a task that only tokens answer."""
    return make_toy_dataset


@pytest.fixture(scope='session')
def toy_method(tiny_lm: Callable) -> Callable[..., Method]:
    """Give a function: modalities -> method with an untrained link for each, always the same."""
    def make(*modalities: str) -> Method:
        method = create_method('mpnp', tiny_lm())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            for name in modalities or ('camera',):
                method.plug(method.new_link(name, f'{name}-encoder', TOY_WIDTH, **TOY_LINK))
        return method
    return make


@pytest.fixture(scope='session')
def real_root() -> NuScenes:
    """The root with one real nuScenes key frame."""
    if not KEY_FRAME_ROOT.is_dir():
        pytest.skip('the nuScenes key frame is not here: its licence keeps it out of the repository')
    return NuScenes(KEY_FRAME_ROOT)


@pytest.fixture(scope='session')
def real_frame(real_root: NuScenes) -> KeyFrame:
    """The real key frame."""
    return next(real_root.key_frames('scene-0061'))


@pytest.fixture(scope='session')
def small_root(tmp_path_factory: pytest.TempPathFactory) -> NuScenes:
    """A stand-in of two scenes (day, night) with two key frames each."""
    return NuScenes(write_standin(tmp_path_factory.mktemp('standin') / 'root', seed=3, key_frames=2))


@pytest.fixture(scope='session')
def domain() -> int:
    """The ROS domain of the harness; MPNP_TEST_DOMAIN names it where a run has one process."""
    given = os.environ.get('MPNP_TEST_DOMAIN')
    return int(given) if given and 'PYTEST_XDIST_WORKER' not in os.environ else free_domain()


def free_domain() -> int:
    """A ROS domain that no other test process of this machine has, up to the end of this one."""
    folder = Path(tempfile.gettempdir()) / f'mpnp_test_domains_{os.getuid()}'
    folder.mkdir(exist_ok=True)
    for number in range(DOMAINS):
        number = 1 + (os.getpid() + number) % DOMAINS
        file = (folder / str(number)).open('w')
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            continue
        _domains.append(file)
        return number
    raise RuntimeError(f'all ROS domains are in use; see {folder}')


@pytest.fixture(scope='session')
def graphics() -> None:
    """Skip what draws where OpenGL through EGL is absent."""
    pytest.importorskip('moderngl', reason='moderngl is not installed: the world cannot be drawn')
    from mpnp_world.sensors.graphics import open_context
    try:
        open_context().release()
    except WorldError as error:
        pytest.skip(str(error))


@pytest.fixture(scope='session')
def ros_harness(domain: int) -> Iterator[RosHarness]:
    """The one harness of a test run."""
    pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')
    _load('fork_server')
    harness = _load('ros_harness').RosHarness(domain)
    yield harness
    harness.close()


def _load(name: str) -> ModuleType:
    """A module beside this one: this folder is not on the path."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f'{name}.py'))
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def ros(ros_harness: RosHarness) -> Iterator[RosHarness]:
    """The harness, with everything that a test started stopped at its end."""
    mark = ros_harness.mark()
    yield ros_harness
    ros_harness.clean(mark)


@pytest.fixture(scope='module')
def module_ros(ros_harness: RosHarness) -> Iterator[RosHarness]:
    """The harness, for what the tests of one module share."""
    mark = ros_harness.mark()
    yield ros_harness
    ros_harness.clean(mark)
