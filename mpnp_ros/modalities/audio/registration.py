"""Registration of audio."""
from __future__ import annotations

from mpnp_ros.endpoints import encoder_endpoints
from mpnp_ros.modalities.audio.config import AudioConfig
from mpnp_ros.modalities.audio.health import AudioLimits
from mpnp_ros.modalities.registry import Encoder, Sensor

STAMPED, PLAIN = 'audio_common_msgs/msg/AudioDataStamped', 'audio_common_msgs/msg/AudioData'
RAW, INFO = 'foxglove_msgs/msg/RawAudio', 'audio_common_msgs/msg/AudioInfo'


def build_encoder(config: AudioConfig) -> Encoder:
    """Load the classifier and return the encoder."""
    from mpnp_ros.modalities.audio.encoder import AudioEncoder
    return AudioEncoder(config)


SENSOR = Sensor(
    'audio', AudioConfig, build_encoder, AudioLimits, node='mpnp_ros.modalities.audio.node:AudioNode',
    source_topics=('/microphones/audio_stamped',),
    source_parameters={
        'topic': '/microphones/audio_stamped',
        'frames': ['mic_front_left', 'mic_front_right', 'mic_back_left', 'mic_back_right']},
    endpoints=encoder_endpoints('audio', (
        ('<topic>', STAMPED, 'sound of one or several microphones, or'),
        ('<topic without stamps>', PLAIN, 'the same; its time is that of its arrival, or'),
        ('<topic of Foxglove>', RAW, 'the same'),
        ('<info_topic>', INFO, 'format, rate and number of microphones'),
    ), 'the microphones', 'one message each `period`'), reads_like='sounds')
