"""The default method, under the name of its folder."""
from mpnp_ros.methods.method import Mpnp as Mpnp
