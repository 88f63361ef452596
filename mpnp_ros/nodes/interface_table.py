"""Every topic, service and action of the nodes of a robot; source of docs/reference/interfaces.md.

test/nodes/test_interface_table.py starts the nodes and compares what they really have with this table.
"""
from __future__ import annotations

from mpnp_ros.endpoints import (
    ACTS,
    CALLS,
    GROUNDING_BOXES,
    GROUNDING_MARKERS,
    LATCHED,
    PUBLISHES,
    RELIABLE,
    SENSOR_DATA,
    SERVES,
    SUBSCRIBES,
    Endpoint,
)
from mpnp_ros.modalities.registry import sensors

FUSION = (
    Endpoint('fusion', SUBSCRIBES, 'tokens/<modality>', 'mpnp_ros/msg/ModalityTokens',
             'one topic for each item of the parameter `modalities`', SENSOR_DATA),
    Endpoint('fusion', SUBSCRIBES, 'question', 'mpnp_ros/msg/Question',
             'answered on `answer`; standing questions too', RELIABLE),
    Endpoint('fusion', SUBSCRIBES, 'question_text', 'std_msgs/msg/String',
             'a question as text only', RELIABLE),
    Endpoint('fusion', SUBSCRIBES, 'adaptation', 'mpnp_ros/msg/Adaptation',
             'modalities in training get the state ADAPTING', LATCHED),
    Endpoint('fusion', SUBSCRIBES, 'encoders', 'mpnp_ros/msg/EncoderInfo',
             'shows which links fit which encoder before the first tokens', LATCHED),
    Endpoint('fusion', PUBLISHES, 'answer', 'mpnp_ros/msg/Answer',
             'every answer, however it was asked for; of a standing question without a sensor only the first',
             RELIABLE),
    Endpoint('fusion', PUBLISHES, 'answer_text', 'std_msgs/msg/String',
             'the text of each answer; an error in square brackets', RELIABLE),
    Endpoint('fusion', PUBLISHES, 'event', 'mpnp_ros/msg/Event',
             'begin and end of the condition of a standing question', RELIABLE),
    Endpoint('fusion', PUBLISHES, 'modalities', 'mpnp_ros/msg/ModalityStates',
             'on every change, and once a second or, while no tokens arrive, every five seconds', LATCHED),
    Endpoint('fusion', PUBLISHES, GROUNDING_MARKERS, 'visualization_msgs/msg/MarkerArray',
             'what each answer rests on, around the robot; only while somebody listens', RELIABLE),
    Endpoint('fusion', PUBLISHES, GROUNDING_BOXES, 'vision_msgs/msg/Detection2DArray',
             'the same in images, where tokens have boxes; frame_id of a detection is its view', RELIABLE),
    Endpoint('fusion', SERVES, 'ask', 'mpnp_ros/srv/Ask', 'one question, one answer'),
    Endpoint('fusion', SERVES, 'list_questions', 'mpnp_ros/srv/ListQuestions',
             'lists standing questions; `question` with an empty text withdraws one by its id'),
    Endpoint('fusion', SERVES, 'set_modality', 'mpnp_ros/srv/SetModality',
             'plug, unplug, or return to automatic'),
    Endpoint('fusion', SERVES, 'load_links', 'mpnp_ros/srv/LoadLinks', 'installs links between two answers'),
    Endpoint('fusion', SERVES, 'list_links', 'mpnp_ros/srv/ListLinks', 'links in use and kept for rollback'),
    Endpoint('fusion', SERVES, 'rollback_links', 'mpnp_ros/srv/RollbackLinks', 'to the previous version'),
    Endpoint('fusion', ACTS, 'ask_stream', 'mpnp_ros/action/Ask',
             'the text so far as feedback; cancelled within one block of the model'),
    Endpoint('fusion', ACTS, 'ask_past', 'mpnp_ros/action/AskPast',
             'a question about the past, from remembered tokens'),
)
ADAPTATION = (
    Endpoint('adaptation', SUBSCRIBES, 'tokens/<modality>', 'mpnp_ros/msg/ModalityTokens',
             'one topic for each item of the parameter `modalities`; kept in the replay buffer', SENSOR_DATA),
    Endpoint('adaptation', SUBSCRIBES, 'modalities', 'mpnp_ros/msg/ModalityStates',
             'input of the decisions', LATCHED),
    Endpoint('adaptation', SUBSCRIBES, '<labelled_topic>', 'mpnp_ros/msg/LabelledQuestions',
             'training questions with true answers', RELIABLE),
    Endpoint('adaptation', SUBSCRIBES, 'answer', 'mpnp_ros/msg/Answer',
             'answers that `feedback` corrects, and the questions asked on this robot', RELIABLE),
    Endpoint('adaptation', SUBSCRIBES, 'feedback', 'mpnp_ros/msg/Feedback',
             'corrections, by the id of an answer or by question and stamp', RELIABLE),
    Endpoint('adaptation', PUBLISHES, 'adaptation', 'mpnp_ros/msg/Adaptation',
             'decisions, trainings and their reasons: on change and every ten seconds', LATCHED),
    Endpoint('adaptation', CALLS, 'load_links', 'mpnp_ros/srv/LoadLinks',
             'of the fusion node, to install new links'),
    Endpoint('adaptation', CALLS, 'list_links', 'mpnp_ros/srv/ListLinks',
             'of the fusion node, to query the links in use'),
    Endpoint('adaptation', ACTS, 'adapt', 'mpnp_ros/action/Adapt',
             'train within a budget; one training at a time'),
)
REPLAY = (
    Endpoint('replay', PUBLISHES, '/clock', 'rosgraph_msgs/msg/Clock', 'time of the bag', SENSOR_DATA),
    Endpoint('replay', PUBLISHES, '<topics of the bag>', '<as in the bag>',
             'as listed by `ros2 bag info`, latched or best effort as recorded; /tf_static and '
             'robot_description are always latched and published first', RELIABLE),
)
ENCODERS = tuple(endpoint for sensor in sensors().values() for endpoint in sensor.endpoints)
ENDPOINTS = (*ENCODERS, *FUSION, *ADAPTATION, *REPLAY)
EVERY_NODE = (
    Endpoint('', PUBLISHES, '/diagnostics', 'diagnostic_msgs/msg/DiagnosticArray',
             'counters, warnings and state, once a second', RELIABLE),
)
