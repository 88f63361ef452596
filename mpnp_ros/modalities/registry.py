"""What a sensor consists of, and which sensors there are: folders here, and entry points of other packages.

A sensor is one folder here with a ``registration.py``.  Another package names its module, or the
:class:`Sensor` in it, by an entry point of the group ``mpnp_ros.modalities``.  Either way the module
registers the sensor at its top level::

    SENSOR = Sensor('sonar', encoder_options=SonarConfig, build_encoder=SonarEncoder,
                    node='my_package.node:SonarNode')

A registration imports neither torch nor rclpy: code that needs them is imported when it is called, or named
as ``module:object``.
"""
from __future__ import annotations

import hashlib
import importlib
import json
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from mpnp_ros import modalities
from mpnp_ros.endpoints import Endpoint
from mpnp_ros.errors import ConfigurationError
from mpnp_ros.modalities.health import HealthLimits, Judge
from mpnp_ros.options import Options, option
from mpnp_ros.plug_ins import plug_ins
from mpnp_ros.tokens import ModalityTokens

if TYPE_CHECKING:
    from mpnp_ros.modalities.head_training import HeadTraining
    from mpnp_ros.questions.key_frame import KeyFrame, SensorReading

ENTRY_POINTS = 'mpnp_ros.modalities'


class Encoder(Protocol):
    """A frozen encoder of one modality.

    modality: registered name.
    fingerprint: ``<modality>-<12 hex digits>``, equal for encoders whose tokens mean the same:
        it covers the weights and every option that changes the tokens, not device or dtype.
    token_width: D of its tokens.

    An encoder with a head has `limits` too, see Head.limits.  One that compares a sweep with an earlier
    one has `looks_back`.
    """

    modality: str
    fingerprint: str
    token_width: int

    def encode(self, frame: Any) -> ModalityTokens:
        """Return the tokens of one frame of this modality's type; the node adds to their concerns."""
        ...


@dataclass(frozen=True)
class EncoderConfig(Options):
    """Options that every encoder has; a modality derives from it and adds its own.

    Notes of an option: ``shapes_tokens=False`` where it does not change what the tokens mean; ``added=True``
    where it is newer than published links: while it has its default it leaves fingerprints as they were.
    """

    device: str = option('auto', 'where the encoder runs: auto, cpu, cuda or cuda:<index>',
                         shapes_tokens=False)
    dtype: str = option('auto', 'number format of the weights; auto measures which is faster',
                        choices=('auto', 'float32', 'bfloat16'), shapes_tokens=False)

    def fingerprint(self, modality: str, weights: str, version: int) -> str:
        """Return ``<modality>-<12 hex digits>`` over the weights' hash, the code's version and options."""
        shaping = {row.name: self[row.name] for row in type(self).declared()
                   if row.notes.get('shapes_tokens', True)
                   and not (row.notes.get('added') and self[row.name] == row.default)}
        text = json.dumps([modality, version, weights, shaping], sort_keys=True)
        return f'{modality}-{hashlib.sha256(text.encode()).hexdigest()[:12]}'


@dataclass(frozen=True)
class DatasetReader:
    """How key frames of nuScenes become frames of a sensor.

    frame: key frame -> input of the encoder; raises DatasetError where the sensor has no data.
    readings: key frame -> the files and calibrations that ``frame`` reads; caches are keyed by them.
    """

    frame: Callable[[KeyFrame], Any]
    readings: Callable[[KeyFrame], Iterable[SensorReading]]


@dataclass(frozen=True)
class Sensor:
    """The registration of a sensor.

    name: of its folder or entry point; its tokens are on ``tokens/<name>``.
    encoder_options: of its encoder; in the node they are the parameters ``encoder.*``.
    build_encoder: options -> encoder; loads the weights.
    health_options: limits of the judge of its frames; None: frames are not judged.
    node: ``module:class`` of the node ``<name>_encoder``, an EncoderNode; empty: there is none.
    start_by_default: whether `mpnp bringup` and the launch files start the node when no sensor is named.
    source_topics: of bags, the world and Gazebo; a subscriber of the first one shows that the node listens.
    source_parameters: of the node, so that it reads these topics.
    endpoints: topics of its node, for the reference.
    dataset: reads it from nuScenes; None: links are trained only on what the robot has recorded.
    head: training of heads that count objects by direction; None: there are none.
    detection_head: training of heads that find single objects; None: there are none.
    detects: options of an encoder that gives a token for each object that its option ``detector`` finds;
        empty: there is none.
    other_heads: networks of heads of further forms, which `mpnp pretrain` does not train: form ->
        ((channels, **shape) -> the network, untrained).
    reads_like: name of shipped links that count what its tokens count, such as ``objects``; the fusion node
        reads it with a copy of them where no links in use fit its tokens.
    """

    name: str
    encoder_options: type[EncoderConfig]
    build_encoder: Callable[[Any], Encoder]
    health_options: type[HealthLimits] | None = None
    node: str = ''
    start_by_default: bool = False
    source_topics: tuple[str, ...] = ()
    source_parameters: Mapping[str, Any] = field(default_factory=dict)
    endpoints: tuple[Endpoint, ...] = ()
    dataset: DatasetReader | None = None
    head: HeadTraining | None = None
    detection_head: HeadTraining | None = None
    detects: Mapping[str, Any] = field(default_factory=dict)
    other_heads: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    reads_like: str = ''

    @property
    def heads(self) -> dict[str, HeadTraining]:
        """Return the training of its heads by their form, see HeadManifest.form."""
        forms = {'sectors': self.head, 'detections': self.detection_head}
        return {form: training for form, training in forms.items() if training is not None}

    @property
    def networks(self) -> dict[str, Callable[..., Any]]:
        """Return what makes the untrained network of each form of its heads."""
        return {**{form: training.network for form, training in self.heads.items()}, **self.other_heads}


def sensors() -> dict[str, Sensor]:
    """Return all sensors by name, sorted; a plug-in that cannot be used is logged and left out."""
    return {sensor.name: sensor for sensor in sorted(_found(), key=lambda sensor: sensor.name)}


def find_sensor(name: str) -> Sensor:
    """Return one sensor; raises ConfigurationError that names the known ones."""
    found = next(_found(lambda module: module == name), None)
    if found is None:
        raise ConfigurationError(f'modality {name!r} is unknown; there are {", ".join(sensors())}')
    return found


def create_encoder(modality: str, config: Mapping[str, Any] | EncoderConfig | None = None) -> Encoder:
    """Build the encoder of ``modality`` from its config, or from a mapping of the options that differ.

    Raises ConfigurationError for an unknown modality or option, WeightsError where weights are missing.
    """
    sensor = find_sensor(modality)
    if not isinstance(config, EncoderConfig):
        config = sensor.encoder_options.from_mapping(config or {})
    if not isinstance(config, sensor.encoder_options):
        raise ConfigurationError(f'modality {modality!r} takes a {sensor.encoder_options.__name__}, '
                                 f'not a {type(config).__name__}')
    return sensor.build_encoder(config)


def create_judge(modality: str, limits: Mapping[str, Any] | HealthLimits | None = None) -> Judge | None:
    """Return a judge of frames of ``modality``, from limits or a mapping of those that differ, or None.

    Raises ConfigurationError for an unknown modality or limit.
    """
    known = find_sensor(modality).health_options
    if isinstance(limits, HealthLimits):
        return limits.judge()
    return known.from_mapping(limits or {}).judge() if known else None


def _found(wanted: Callable[[str], bool] = lambda name: True) -> Iterator[Sensor]:
    """Yield sensors whose folder or entry point has a wanted name: built-in ones, then plug-ins."""
    built_in = {folder.name for folder in pkgutil.iter_modules(modalities.__path__) if folder.ispkg}
    for name in sorted(filter(wanted, built_in)):
        yield importlib.import_module(f'{modalities.__name__}.{name}.registration').SENSOR
    yield from plug_ins(ENTRY_POINTS, Sensor, 'SENSOR', built_in, wanted)
