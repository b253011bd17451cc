"""The built-in GoalSets, as the entry points name them.

For now a model service converges through the same goals as any other; the reference's names are aliases.
"""

from agent.contracts import compose
from goalsets.answering import Healthy
from goalsets.deploy import Created, Exposed, ImagePresent, Placed, Restarted, Retired
from goalsets.removal import Drained, Removed, Stopped

_DEPLOY = (ImagePresent(), Placed(), Restarted(), Created(), Healthy(), Exposed(), Retired())
_DELETE = (Drained(), Stopped(), Removed())

SERVICE_DEPLOY = compose("service-deploy").then(*_DEPLOY).removed_by("service-delete").build()
SERVICE_DELETE = compose("service-delete").then(*_DELETE).build()
LLM_DEPLOY = (
    compose("llm-deploy").then(*_DEPLOY).removed_by("llm-delete").also_known_as("opensource-llm-deploy").build()
)
LLM_DELETE = compose("llm-delete").then(*_DELETE).also_known_as("opensource-llm-delete").build()
