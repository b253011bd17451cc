"""What the operator set, merged once into one frozen object: default < file < environment (XMOD_…) < flag.

An unknown key is refused with the place it stands at and the key that was probably meant; every error says whether the
file, the environment or a flag is wrong. Nothing reads the environment or the file again after `load`.
"""

from agent.settings.listing import Setting, table
from agent.settings.loading import SettingsError, load
from agent.settings.model import Preload, Settings
from agent.settings.places import socket_to_ask

__all__ = ["Preload", "Setting", "Settings", "SettingsError", "load", "socket_to_ask", "table"]
