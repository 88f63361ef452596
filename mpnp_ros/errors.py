"""Errors that this package raises on purpose.

All derive from :class:`MpnpError`, so that a node or the command line can catch one type.  A message names
the problem and the remedy.
"""


class MpnpError(Exception):
    """Base of all errors of this package."""


class ConfigurationError(MpnpError):
    """A parameter, file or command line argument is out of range, unknown or contradictory."""


class StorageError(MpnpError, OSError):
    """A file or a folder cannot be written: the disk is full or read-only."""


class WeightsError(MpnpError):
    """Model weights are missing, of the wrong hash or shape, or of an unsafe format."""


class UnsupportedModelError(MpnpError):
    """The language model's family is not one this package can run block by block."""


class ImageError(MpnpError):
    """An image message cannot be decoded: unknown encoding, wrong size, truncated data."""


class PointCloudError(MpnpError):
    """A point cloud message is malformed: missing fields, bad point_step or row_step, no points."""


class ImuError(MpnpError):
    """Readings of an IMU are malformed: NaN, stamps that do not rise, too few."""


class AudioError(MpnpError):
    """A message of sound cannot be read: compressed, of an unknown format or without one, no samples."""


class DetectionsError(MpnpError):
    """A message of detected objects is malformed, or nothing tells where they are."""


class TokensError(MpnpError):
    """Modality tokens do not fit: wrong shape, dtype, encoder fingerprint or non-finite values."""


class LinksError(MpnpError):
    """Latent connections do not fit the model or the encoder, or their file is damaged."""


class QuestionError(MpnpError):
    """A question cannot be answered as asked: empty, too long, bad choices, queue full."""


class NotAnsweringError(MpnpError):
    """A node that is needed does not answer."""


class NotRunningError(NotAnsweringError):
    """A node that is needed cannot be found: it is not running, or in another namespace or domain."""


class RequestError(MpnpError):
    """A node refused a request or failed at it; ``response`` is the message that it replied with."""

    def __init__(self, text: str, response: object = None) -> None:
        super().__init__(text)
        self.response = response


class CancelledError(MpnpError):
    """Work was cancelled because its result is no longer needed."""


class DatasetError(MpnpError):
    """A nuScenes root or question file is missing tables, records or sensor files."""


class BagError(MpnpError):
    """A bag cannot be read, written or played."""


class TrainingError(MpnpError):
    """Training cannot start or has produced something that must not be used (no data, NaN)."""


class BudgetError(MpnpError):
    """No training fits a budget; the message names the small limit and the amount that would fit."""


class WorldError(MpnpError):
    """The simulated world cannot be generated or rendered: no OpenGL, a folder of something else."""
