"""Ask a robot about what its sensors perceive; modalities plug in and out while it runs."""
from pkgutil import extend_path

# The generated mpnp_ros.msg, .srv and .action may lie in another sys.path entry than this file
# (editable installs, a source checkout beside a built overlay).
__path__ = extend_path(__path__, __name__)
__version__ = '0.1.0'
