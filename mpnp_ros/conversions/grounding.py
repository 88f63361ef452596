"""What an answer rests on, as markers around the robot and as boxes in images."""
from __future__ import annotations

import importlib
import math
from typing import Any

from geometry_msgs.msg import Point
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from mpnp_ros.msg import Answer, Grounding
from mpnp_ros.tokens import SECTOR

UNPLACED = 20.
"""Metres to which the sector of a token is drawn whose distance is not known."""
COLOUR = (0.2, 0.9, 0.4)
SIZE, HEIGHT = 1.5, 1.5
"""Metres, of the cylinder of a token whose distance is known."""


def grounding_markers(answer: Answer) -> MarkerArray:
    """Return one shape and one text for each token that has a direction, after "delete all".

    A token with a distance is a cylinder, one without a sector from the robot.  The opacity is its weight
    beside the heaviest.
    """
    header = Header(stamp=answer.header.stamp, frame_id=answer.header.frame_id)
    markers = [Marker(header=header, action=Marker.DELETEALL)]
    heaviest = max((token.weight for token in answer.grounding), default=1.) or 1.
    for number, token in enumerate(answer.grounding):
        if math.isnan(token.azimuth):
            continue
        red, green, blue = COLOUR
        colour = ColorRGBA(r=red, g=green, b=blue, a=max(0.1, token.weight / heaviest) * 0.8)
        placed = math.isfinite(token.distance)
        shape = Marker(header=header, ns=f'grounding/{token.modality}', id=2 * number, color=colour,
                       type=Marker.CYLINDER if placed else Marker.TRIANGLE_LIST, action=Marker.ADD)
        shape.pose.orientation.w = 1.
        if placed:
            shape.pose.position = _point(token.azimuth, token.distance, HEIGHT / 2)
            shape.scale.x, shape.scale.y, shape.scale.z = SIZE, SIZE, HEIGHT
        else:
            half = math.radians(SECTOR) / 2
            shape.points = [Point(), *(_point(token.azimuth + side, UNPLACED) for side in (-half, half))]
            shape.scale.x = shape.scale.y = shape.scale.z = 1.
        text = Marker(header=header, ns=shape.ns, id=2 * number + 1, type=Marker.TEXT_VIEW_FACING,
                      action=Marker.ADD, text=grounding_text(token))
        text.pose.orientation.w, text.scale.z = 1., 0.8
        text.pose.position = _point(token.azimuth, token.distance if placed else UNPLACED, HEIGHT + 1)
        text.color = ColorRGBA(r=1., g=1., b=1., a=1.)
        markers += [shape, text]
    return MarkerArray(markers=markers)


def grounding_boxes(answer: Answer) -> Any:
    """Return the boxes of tokens that have one as vision_msgs/Detection2DArray.

    The header of each detection names the view as its frame; class and score are what was counted and the
    weight of the token.  The array has the stamp and frame of the answer.
    """
    kinds = importlib.import_module('vision_msgs.msg')
    message = kinds.Detection2DArray(header=answer.header)
    for token in answer.grounding:
        if len(token.box) != 4:
            continue
        left, top, right, bottom = token.box
        item = kinds.Detection2D(header=Header(stamp=answer.header.stamp, frame_id=token.source))
        item.bbox.center.position.x, item.bbox.center.position.y = (left + right) / 2, (top + bottom) / 2
        item.bbox.size_x, item.bbox.size_y = right - left, bottom - top
        result = kinds.ObjectHypothesisWithPose()
        result.hypothesis.class_id, result.hypothesis.score = token.sort, token.weight
        item.results.append(result)
        message.detections.append(item)
    return message


def grounding_text(token: Grounding) -> str:
    """Return what is counted in a token and its weight in a few words, e.g. "0.9 car, 42 %"."""
    return f'{token.expected:.1f} {token.sort}, {token.weight:.0%}'.replace('%', ' %')


def _point(azimuth: float, distance: float, height: float = 0.) -> Point:
    return Point(x=distance * math.cos(azimuth), y=distance * math.sin(azimuth), z=height)
