"""The default method: gated latent links over cached lower blocks (arXiv:2312.07886)."""
from __future__ import annotations

from collections.abc import Sequence

from mpnp_ros.llm.prepared import PreparedQuestion
from mpnp_ros.methods.batch import question_states
from mpnp_ros.methods.method import Method, PrefixCompletion
from mpnp_ros.methods.mpnp.connections import LatentConnections
from mpnp_ros.methods.mpnp.cost import LATENT_COST
from mpnp_ros.methods.mpnp.link import LatentLink
from mpnp_ros.methods.questions import Evidence, Tokens
from mpnp_ros.methods.registry import MethodSpec

#: Learning rate groups of the parameters of latent links.
LATENT_GROUPS = {'gates': ('gate_weights',), 'trust': ('worth.trust', 'worth.presence'),
                 'worth': ('worth.*',), 'aligners': ('*_aligner.*',)}


class Mpnp(Method):
    """Linked blocks attend to a gated prefix that the links make of tokens, for each question anew."""

    connections_type = LatentConnections

    def completion(self, questions: Sequence[PreparedQuestion], tokens: Sequence[Tokens],
                   connections: LatentConnections, evidence: Evidence | None = None) -> PrefixCompletion:
        """See Method."""
        states = question_states(self.lm, questions, connections.question_blocks)
        prefix = connections.prefix(self.frames(tokens, connections), states, evidence)
        return PrefixCompletion(self.lm, prefix)


SPEC = MethodSpec(
    'mpnp', 'latent links: the question pools the tokens of a modality into a few gated keys and values of '
    'the upper blocks',
    Mpnp, LatentLink, any_depth=True, cost=LATENT_COST, parameter_groups=LATENT_GROUPS)
