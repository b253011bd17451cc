"""What outlives the agent in its state folder, besides what the shimlets keep there: the operator's words and what happened.

Nothing in it decides what runs; losing it costs words and history.
"""

from agent.journal.event import Event, Kind
from agent.journal.journal import Journal
from agent.journal.recorder import Bounds
from agent.journal.store import CannotRead

__all__ = ["Bounds", "CannotRead", "Event", "Journal", "Kind"]
