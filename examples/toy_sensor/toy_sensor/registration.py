"""Registration of the sonar ring."""
from __future__ import annotations

from mpnp_ros.endpoints import encoder_endpoints
from mpnp_ros.modalities.registry import Sensor
from toy_sensor.encoder import SonarConfig, SonarEncoder
from toy_sensor.health import SonarLimits

SENSOR = Sensor(
    'sonar', SonarConfig, SonarEncoder, SonarLimits, node='toy_sensor.node:SonarNode',
    endpoints=encoder_endpoints('sonar', (
        ('<topic>', 'sensor_msgs/msg/Range', 'one for each sonar'),
    ), 'the sonars', 'one message for each set of echoes'))
