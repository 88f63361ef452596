"""Which sensors there are: folders of this package, and entry points of other packages.

A sensor is one folder here with a ``registration.py``.  Another package names its module, or the
:class:`Sensor` in it, by an entry point of the group ``mpnp_ros.modalities``.  Either way the module says at
its top level what the sensor is::

    SENSOR = Sensor('sonar', encoder_options=SonarConfig, build_encoder=SonarEncoder,
                    node='my_package.node:SonarNode')

A registration imports neither torch nor rclpy: what needs them is imported when it is called, or named as
``module:object``.
"""
from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mpnp_ros import modalities
from mpnp_ros.endpoints import Endpoint
from mpnp_ros.errors import ConfigurationError
from mpnp_ros.modalities.base import Encoder, EncoderConfig
from mpnp_ros.modalities.health import HealthLimits, Judge
from mpnp_ros.plug_ins import plug_ins

if TYPE_CHECKING:
    from mpnp_ros.modalities.head_training import HeadTraining
    from mpnp_ros.questions.key_frame import KeyFrame, SensorReading

ENTRY_POINTS = 'mpnp_ros.modalities'


@dataclass(frozen=True)
class DatasetReader:
    """How key frames of nuScenes become frames of a sensor.

    frame: key frame -> input of the encoder; raises DatasetError where the sensor has no data.
    readings: key frame -> the files and calibrations that ``frame`` reads, which caches go by.
    """

    frame: Callable[[KeyFrame], Any]
    readings: Callable[[KeyFrame], Iterable[SensorReading]]


@dataclass(frozen=True)
class Sensor:
    """What the rest of the package needs to know of a sensor.

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
    head: training of heads that count objects; None: there are none.
    reads_like: name of shipped links that count what its tokens count, such as ``objects``; the fusion node
        reads it with a copy of them as long as it has no links of its own.
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
    reads_like: str = ''


def sensors() -> dict[str, Sensor]:
    """Return all sensors by name, sorted; a plug-in that cannot be used is logged and left out."""
    return {sensor.name: sensor for sensor in sorted(_found(), key=lambda sensor: sensor.name)}


def find_sensor(name: str) -> Sensor:
    """Return one sensor; raises ConfigurationError that names those there are."""
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
    """Return a judge of frames of ``modality``, from limits or those that differ; None where it has none.

    Raises ConfigurationError for an unknown modality or limit.
    """
    known = find_sensor(modality).health_options
    if isinstance(limits, HealthLimits):
        return limits.judge()
    return known.from_mapping(limits or {}).judge() if known else None


def _found(wanted: Callable[[str], bool] = lambda name: True) -> Iterator[Sensor]:
    """Sensors whose folder or entry point has a wanted name: built-in ones, then plug-ins."""
    built_in = {folder.name for folder in pkgutil.iter_modules(modalities.__path__) if folder.ispkg}
    for name in sorted(filter(wanted, built_in)):
        yield importlib.import_module(f'{modalities.__name__}.{name}.registration').SENSOR
    yield from plug_ins(ENTRY_POINTS, Sensor, 'SENSOR', built_in, wanted)
