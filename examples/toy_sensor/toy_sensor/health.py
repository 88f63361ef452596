"""Quality of the echoes: all sonars present and not covered."""
from __future__ import annotations

from dataclasses import dataclass

from mpnp_ros.modalities.health import Attendance, Health, HealthFinding, HealthLimits, health
from mpnp_ros.options import option
from toy_sensor.encoder import SonarFrame


@dataclass(frozen=True)
class SonarLimits(HealthLimits):
    """Limits of a sonar's quality."""

    silent_after: float = option(
        2.0, 'time a sonar may be missing before its quality is 0; 0: never', unit='s', low=0, high=3600)

    def judge(self) -> SonarJudge:
        """Return a new judge with these limits."""
        return SonarJudge(self)


class SonarJudge:
    """Judges a :class:`SonarFrame`; remembers when each sonar was last present."""

    def __init__(self, limits: SonarLimits) -> None:
        self._attendance = Attendance(limits.silent_after)

    def judge(self, frame: SonarFrame) -> Health:
        """Return the share of the sonars that are present and not covered, and a concern for each other."""
        findings = {echo.name: HealthFinding(float(echo.distance > echo.nearest), 'is covered')
                    for echo in frame.echoes}
        missed = self._attendance.missed({echo.name: echo.stamp_ns for echo in frame.echoes})
        return health({**findings, **missed})
