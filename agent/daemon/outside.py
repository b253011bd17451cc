"""From settings to what the agent hears from outside and tells there. A secret that cannot be read is a StartError."""

from collections.abc import Callable

from agent.daemon.parts import StartError
from agent.settings import Settings
from agent.source.git_remote import is_commit
from agent.surface.secret_file import NoSecret, SecretFile
from agent.surface.webhook import Webhook


def webhook_of(settings: Settings, *, kick: Callable[[], None], count: Callable[[str], None]) -> Webhook | None:
    """What hears git servers, None unless it was given a secret. Raises StartError."""
    given = settings.webhook
    if given.secret_file is None:
        if given.port is not None:
            raise StartError("webhook.port: of no use without webhook.secretFile")
        return None
    ref = settings.source.ref if settings.source.repo else ""
    follows = "" if is_commit(ref) else ref
    return Webhook(
        secret=_secret(SecretFile(given.secret_file, "webhook.secretFile")), follows=follows, kick=kick, count=count
    )


def webhook_at(settings: Settings) -> tuple[str, int] | None:
    """The address of its own that it answers at, None if it has none."""
    given = settings.webhook
    return None if given.port is None else (given.bind, given.port)


def _secret(file: SecretFile) -> SecretFile:
    try:
        file.read()
    except NoSecret as error:
        raise StartError(str(error)) from error
    return file
