"""Discovery of sensors among the topics of a ROS graph, and subscription to those found.

A topic is judged by its name, type and publishers; drivers choose names freely.  The result is a default;
parameters name topics where it is wrong.
"""
from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

from mpnp_ros.node_names import encoder_nodes

if TYPE_CHECKING:
    from mpnp_ros.nodes.encoder_node import EncoderNode

IMAGE, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
CAMERA_INFO, CLOUD = 'sensor_msgs/msg/CameraInfo', 'sensor_msgs/msg/PointCloud2'
IMU = 'sensor_msgs/msg/Imu'
TRANSPORTS = {IMAGE: 'raw', COMPRESSED: 'compressed'}


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Words of a name, without the digits at their ends.
_NO_COLOUR = _words("""
    depth disparity mask masks seg segmentation semantic semantics panoptic instance debug dbg overlay
    overlaid annotated annotation annotations annot detection detections detected detector bbox boxes
    visualization visualisation visual viz vis rviz confidence infra infrared ir nir nearir thermal flir
    lwir heatmap cost costmap map flow event events dvs normal normals result results output tracked
    tracking tracker feature features keypoints marker markers aruco apriltag theora ffmpeg
    compresseddepth range reflec reflectivity signal lidar bev birdview birdseye birdeye stitched
    panorama passthrough
""")
_LIDAR = _words("""
    lidar ladar velodyne ouster livox hesai pandar rslidar robosense os lslidar sick innoviz luminar vlp
    hdl puck qt xt at laser mid avia horizon cepton aeva seyond robin unilidar
""")
_CLOUD = _words("""
    points point cloud clouds pointcloud scan pc
""")
_DEPTH_CAMERA = _words("""
    depth camera cam cameras stereo zed realsense oak color colour rgb rgbd kinect astra orbbec gemini
    femto stereolabs disparity image multisense rtabmap
""")
_DERIVED = _words("""
    filtered filter ground nonground obstacle obstacles map maps costmap cluster clusters clustered
    cropped crop downsampled voxel voxels voxelized grid segmented segmentation semantic registered
    deskewed undistorted merged concatenated combined fused aligned plane planes objects object submap
    submaps feature features edge surf corner octomap global local accumulated assembled track tracks
    tracked transformed traversable marker markers roi debug dbg path keyframe keyframes loop outliers
    outlier inliers static dynamic history effect cut
""")
_DIRECTION = _words("""
    front rear back left right side forward backward center centre middle top bottom up down fl fr bl br
    rl rr
""")
_COLOUR = _words('rgb rgba bgr color colour')
_GREY = _words('mono gray grey')
_STEREO = _words('stereo disparity depth infra points pointcloud zed oak multisense')
_IMAGE_LEAF = re.compile(
    r'(image|img|picture|video|frame)(_(raw|rect|rectified|color|colour|mono|gray|grey|compressed|rgb|rgba|bgr|'
    r'left|right|view))*|'
    r'(raw|rect|rectified|color|colour|rgb|rgba|bgr|mono|gray|grey|compressed)'
    r'(_(image|raw|rect|rectified|color|colour|mono|gray|grey|rgb|compressed))*|camera_image')
_EYE = re.compile(r'(left|right|mono|stereo)(_(raw|rect|color|colour|gray|grey|mono|unrectified))*')
_GENERIC = re.compile(
    r'camera|cam|cameras|sensors?|driver|publisher|(.*_)?node|images?|video|points?|points?_?raw|'
    r'(point_?)?clouds?\d?|scans?|packets?|data')


@dataclass(frozen=True)
class Topic:
    """A published topic.  type: such as ``sensor_msgs/msg/Image``."""

    name: str
    type: str


@dataclass(frozen=True)
class FoundSensor:
    """A discovered sensor and its topics.

    transport: of a camera, raw or compressed.  info: topic of its calibration, which may not exist.
    """

    name: str
    topic: str
    transport: str = ''
    info: str = ''


@cache
def known_sensors() -> frozenset[str]:
    """Return the names of the sensors that have nodes."""
    return frozenset(encoder_nodes())


def below(topics: Iterable[Topic], namespace: str) -> list[Topic]:
    """Return the topics below a namespace such as ``/robot1``; all of them for ``/``."""
    prefix = f'{namespace.rstrip("/")}/'
    return [topic for topic in topics if topic.name.startswith(prefix)]


def find_cameras(topics: Iterable[Topic], namespace: str = '/',
                 named: Mapping[str, str] | None = None) -> list[FoundSensor]:
    """Return the colour cameras, one topic of each, sorted by name of the topic.

    Of one camera the rectified image is preferred, then colour to grey, then the compressed transport.  Of
    a stereo pair the left one is taken, and none beside a colour camera of the same device.
    named: topic to name of cameras that have a name already.
    """
    inside = below(topics, namespace)
    infos = {topic.name for topic in inside if topic.type == CAMERA_INFO}
    groups: dict[tuple[str, ...], list[Topic]] = {}
    for topic in inside:
        if topic.type in TRANSPORTS and not words(topic.name, namespace) & _NO_COLOUR:
            groups.setdefault(device_of(topic.name), []).append(topic)

    def rank(topic: Topic) -> tuple[object, ...]:
        said = words(topic.name)
        return (not said & {'rect', 'rectified'}, bool(said & _GREY), topic.type != COMPRESSED,
                len(topic.name), topic.name)

    kept = _without_stereo(groups, inside)
    chosen = sorted((min(groups[device], key=rank) for device in kept), key=lambda topic: topic.name)
    names = _unique_names([topic.name for topic in chosen], namespace, named or {}, 'camera')
    return [FoundSensor(name, topic.name, TRANSPORTS[topic.type], info_topic(topic.name, infos))
            for name, topic in zip(names, chosen, strict=True)]


def find_lidars(topics: Iterable[Topic], namespace: str = '/') -> list[FoundSensor]:
    """Return the LiDARs, the likeliest first: a driver's own cloud before derived ones."""
    clouds = [topic for topic in below(topics, namespace) if topic.type == CLOUD]
    others = known_sensors() - _LIDAR - _DEPTH_CAMERA
    ranks: dict[str, tuple[int, ...]] = {}
    for topic in clouds:
        said = words(topic.name, namespace)
        if said & others or (said & _DEPTH_CAMERA and not said & _LIDAR):
            continue
        ranks[topic.name] = (bool(said & _DERIVED), not said & _LIDAR, not said & _CLOUD)
    ordered = sorted(ranks, key=lambda name: (ranks[name], name))
    return [FoundSensor(name, topic) for name, topic in
            zip(_unique_names(ordered, namespace, {}, 'lidar'), ordered, strict=True)]


def equals(topics: Sequence[FoundSensor]) -> list[FoundSensor]:
    """Return the LiDARs that are as likely as the first of :func:`find_lidars`, without the first."""
    def rank(cloud: FoundSensor) -> tuple[bool, bool]:
        said = words(cloud.topic)
        return bool(said & _DERIVED), not said & _LIDAR
    return [cloud for cloud in topics[1:] if rank(cloud) == rank(topics[0])]


def find_clouds(kind: str, topics: Iterable[Topic], namespace: str = '/',
                named: Mapping[str, str] | None = None) -> list[FoundSensor]:
    """Return the sensors whose clouds are on topics with the word `kind`, sorted by topic.

    Derived clouds are taken only if there are no others.  named: topic to name of sensors that have a name
    already.
    """
    clouds = [topic.name for topic in below(topics, namespace)
              if topic.type == CLOUD and kind in words(topic.name, namespace)]
    chosen = sorted([name for name in clouds if not words(name, namespace) & _DERIVED] or clouds)
    return [FoundSensor(name, topic) for name, topic in
            zip(_unique_names(chosen, namespace, named or {}, kind), chosen, strict=True)]


def find_imus(topics: Iterable[Topic], namespace: str = '/') -> list[FoundSensor]:
    """Return the IMUs, the likeliest first.

    One of its own comes before that of a camera or LiDAR, which may turn, and filtered readings, which have
    an orientation, before raw ones.
    """
    def rank(name: str) -> tuple[object, ...]:
        said = words(name, namespace)
        return bool(said & (_DEPTH_CAMERA | _LIDAR)), 'raw' in said, len(name), name

    ordered = sorted((topic.name for topic in below(topics, namespace) if topic.type == IMU), key=rank)
    return [FoundSensor(name, topic) for name, topic in
            zip(_unique_names(ordered, namespace, {}, 'imu'), ordered, strict=True)]


def info_topic(image_topic: str, existing: Collection[str] = ()) -> str:
    """Return the topic of the calibration: ``camera_info`` beside the images, as image_transport has it.

    existing: topics of calibrations; where none of them is beside the images, one a level above is taken.
    """
    parts = image_topic.removesuffix('/compressed').split('/')
    beside = '/'.join([*parts[:-1], 'camera_info'])
    candidates = [beside, '/'.join([*parts, 'camera_info']), '/'.join([*parts[:-2], 'camera_info'])]
    return next((name for name in candidates if name in existing), beside)


def sensor_name(topic: str, namespace: str = '/', kind: str = 'camera') -> str:
    """Return the sensor name of a topic: its last part that is more than a type."""
    parts = [part for part in _relative(topic, namespace).split('/') if part]
    device = list(device_of('/'.join(parts))) if kind == 'camera' else parts
    telling = [part for part in device if not _GENERIC.fullmatch(part)]
    generic = [part for part in device if part in ('camera', 'cam')]
    if device and kind == 'camera' and _GENERIC.fullmatch(device[-1]) and generic:
        # /camera/image_raw in another's namespace is `camera`, but /front/camera/image_raw is `front`.
        telling = [part for part in telling if _direction(part)]
    name = telling[-1] if telling else (generic[-1] if generic else kind)
    return _direction(name) or name


def device_of(topic: str) -> tuple[str, ...]:
    """Return the parts of a topic that identify the camera, without those that identify the image."""
    parts = [part for part in topic.split('/') if part]
    lowered = [part.lower() for part in parts]
    while lowered and _IMAGE_LEAF.fullmatch(lowered[-1]):
        lowered.pop()
    return tuple(parts[:len(lowered)])


def words(name: str, namespace: str = '/') -> set[str]:
    """Return the words of a topic name below a namespace, in lower case without trailing digits."""
    split = re.sub(r'(?<=[a-z0-9])(?=[A-Z][a-z])', '_', _relative(name, namespace)).lower()
    parts = re.split(r'[/_]+', split)
    whole = {part.replace('_', '') for part in split.split('/')}
    return {part.strip('0123456789') for part in parts} | {part.strip('0123456789') for part in whole}


def similar(topic: str, candidates: Iterable[str], limit: int = 3) -> list[str]:
    """Return up to `limit` of the candidates, the most similar names first."""
    def likeness(name: str) -> float:
        return difflib.SequenceMatcher(None, topic, name).ratio()
    return sorted(sorted(candidates), key=likeness, reverse=True)[:limit]


def _relative(name: str, namespace: str) -> str:
    prefix = f'{namespace.rstrip("/")}/'
    return name[len(prefix):] if name.startswith(prefix) else name.lstrip('/')


def _without_stereo(groups: Mapping[tuple[str, ...], Sequence[Topic]],
                    inside: Sequence[Topic]) -> list[tuple[str, ...]]:
    """Remove duplicate views of a stereo camera, whose objects would be counted twice."""
    kept = []
    for device in groups:
        parent, eye = device[:-1], _EYE.fullmatch(device[-1].lower()) if device else None
        path = '/'.join(('', *parent))
        if parent and eye:
            if any(words(topic.name, path) & _COLOUR for topic in groups.get(parent, ())):
                continue
            siblings = {match[1] for other in groups if other[:-1] == parent
                        and (match := _EYE.fullmatch(other[-1].lower()))}
            if eye[1] == 'stereo' and len(siblings) > 1:
                continue
            around = set().union(*(words(topic.name) for topic in below(inside, path)))
            if eye[1] in ('right', 'mono') and 'left' in siblings and around & _STEREO:
                continue
        kept.append(device)
    return kept


def _direction(name: str) -> str:
    """Return `front_left` of `rgb_front_left` or `front_left_camera`; empty without a direction."""
    parts = name.split('_')
    if parts[0].lower() in {'cam', *known_sensors()}:  # the encoders know these as they are
        return ''
    rest = [part for part in parts if part.lower() not in {*_COLOUR, 'camera', 'cam', 'image'}]
    return '_'.join(rest) if rest and all(part.lower() in _DIRECTION for part in rest) else ''


def _unique_names(topics: Sequence[str], namespace: str, named: Mapping[str, str], kind: str) -> list[str]:
    names = [named.get(topic) or sensor_name(topic, namespace, kind) for topic in topics]
    if len(set(names)) == len(names):
        return names
    taken, unique = set(named.values()), []
    for topic, name in zip(topics, names, strict=True):
        if topic not in named and (names.count(name) > 1 or name in taken):
            longer = [part for part in _relative(topic, namespace).split('/') if part]
            device = list(device_of('/'.join(longer))) if kind == 'camera' else longer
            name = '_'.join(dict.fromkeys(device)) or name
        free = (number for number in range(1, len(topics) + 2))
        candidate = name
        while topic not in named and (candidate in taken or candidate in unique):
            candidate = f'{name}_{next(free) + 1}'
        unique.append(candidate)
    return unique


Find = Callable[[Sequence[Topic], str, Mapping[str, str]], list[FoundSensor]]


class FoundSensors:
    """Keeps an encoder node subscribed to discovered sensors, if no parameter names topics.

    things: their name in messages, such as ``cameras``.  parameter: its name, for hints.  types: of their
    messages.  kin: pattern of names and types of topics of such sensors that cannot be read.
    find: (topics, namespace, settled names) -> sensors.  read, leave: start and stop reading one.  same: key
    that is equal for two topics of one sensor.
    """

    def __init__(self, node: EncoderNode, things: str, parameter: str, types: Sequence[str], *, kin: str,
                 find: Find, read: Callable[[FoundSensor], None], leave: Callable[[FoundSensor], None],
                 same: Callable[[str], object] = device_of) -> None:
        self._node, self._things, self._parameter, self._types = node, things, parameter, types
        self._kin = re.compile(kin, re.IGNORECASE)
        self._find, self._read, self._leave, self._same = find, read, leave, same
        self._before: set[str] | None = None
        self._read_now: dict[str, FoundSensor] = {}

    def clear(self) -> None:
        """Stop reading all sensors and start again."""
        self._before = None
        self._read_now.clear()

    def follow(self, graph: Sequence[Topic], topics: Sequence[Topic], named: Mapping[str, str]) -> None:
        """Read sensors found in two consecutive checks; graph: all topics.  topics: candidates.

        named: settled names, by topic.
        """
        namespace = self._node.get_namespace()
        names = {**named, **{sensor.topic: sensor.name for sensor in self._read_now.values()}}
        found = self._find(topics, namespace, names)
        settled = [sensor for sensor in found if self._before is not None and sensor.topic in self._before]
        published = {topic.name for topic in graph}
        new = []
        for sensor in settled:
            key = self._same(sensor.topic)
            known = next((other for other in self._read_now.values() if self._same(other.topic) == key), None)
            if known is None or known.topic not in published:
                new.append(replace(sensor, name=known.name) if known else sensor)
        devices = {self._same(sensor.topic) for sensor in found}
        replaced = {sensor.name for sensor in new}
        for sensor in list(self._read_now.values()):
            another = sensor.topic in published and self._same(sensor.topic) not in devices
            if sensor.name in replaced or (another and settled):
                self._leave(self._read_now.pop(sensor.name))
        for sensor in new:
            self._read(sensor)
            self._read_now[sensor.name] = sensor
        if new:
            said = ', '.join(f'{sensor.name} on {sensor.topic}' for sensor in self._read_now.values())
            self._node.get_logger().info(
                f'found {self._things}: {said}; `{self._parameter}` names others by hand')
        nothing = not self._read_now and self._before is not None and not found
        self._node.conditions.set('discovery', self._nothing(graph, namespace) if nothing else '')
        self._before = {sensor.topic for sensor in found}

    def _nothing(self, graph: Sequence[Topic], namespace: str) -> str:
        """Return the text for no sensor found, with similar topics."""
        kinds = ' or '.join(self._types)
        inside = '' if namespace == '/' else f' below {namespace}'
        text = f'no topic of {self._things} found{inside}'
        likely = [topic for topic in graph if topic.type in self._types]
        if not likely:
            other = [topic for topic in graph if self._kin.search(f'{topic.name} {topic.type}')]
            unlike = ', '.join(f'{topic.name} ({topic.type})' for topic in other[:3])
            return f'{text}; {unlike} cannot be read: publish {kinds}' if other else \
                f'{text}; no publisher of {kinds}: start the driver'
        within = below(likely, namespace) or likely
        shown = similar('/'.join((namespace.rstrip('/'), self._things)), {topic.name for topic in within})
        kind = {topic.name: topic.type for topic in within}
        listed = ', '.join(f'{name} ({kind[name]})' for name in shown)
        more = f' and {len(kind) - len(shown)} more' if len(kind) > len(shown) else ''
        return f'{text}; similar: {listed}{more}: set `{self._parameter}` to read one'


def matching(topics: Sequence[Topic], pattern: str, sensor: str, namespace: str) -> dict[str, str]:
    """Return the topics that match a pattern with {sensor}, and the sensor names."""
    absolute = pattern if pattern.startswith('/') else f'{namespace.rstrip("/")}/{pattern}'
    before, _, after = absolute.partition(f'{{{sensor}}}')
    after = re.escape(after).replace(re.escape(f'{{{sensor}}}'), '(?P=name)')
    form = re.compile(f'{re.escape(before)}(?P<name>[^/]+){after}')
    return {topic.name: match['name'] for topic in topics if (match := form.fullmatch(topic.name))}
