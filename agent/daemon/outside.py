"""From settings to what the agent hears from outside and tells there. A secret that cannot be read is a StartError."""

import threading
from collections.abc import Callable
from typing import Protocol

from agent.clock import Clock
from agent.control.board import Status
from agent.daemon.parts import StartError
from agent.settings import Settings
from agent.settings.model import NotifyBlock, ReportBlock
from agent.source.git.remote import is_commit
from agent.surface.metrics import Metrics
from agent.surface.notify import Notifier, Origin
from agent.surface.operations import AgentView
from agent.surface.post import BadUrl, Post, checked
from agent.surface.report import Reporter
from agent.surface.secret_file import NoSecret, SecretFile
from agent.surface.webhook import Webhook

_STALE = 900.0  # seconds, at least, after which a source that was not read counts as out of sync
_MISSED = 5  # intervals


class Teller(Protocol):
    """Who tells the outside, in a thread of its own. `trouble`: why nothing arrives there, "" if it does."""

    name: str
    trouble: str

    def hear(self, before: Status | None, after: Status | None) -> None:
        """Something changed on the board."""

    def run(self, stop: threading.Event) -> None:
        """Tell, until told to stop."""


def tellers_of(settings: Settings, *, view: Callable[[], AgentView], metrics: Metrics, clock: Clock) -> list[Teller]:
    """Those that the settings ask for. Raises StartError."""
    origin = Origin(settings.agent.host, settings.agent.instance)
    tellers: list[Teller] = []
    if (post := _post(settings.notify, "notify")) is not None:
        every = max(settings.source.interval, settings.agent.rescan_interval)
        tellers.append(
            Notifier(
                post=post,
                origin=origin,
                view=view,
                count=metrics.notified,
                clock=clock,
                interval=settings.notify.interval,
                stale=max(_STALE, _MISSED * every),
            )
        )
    if (post := _post(settings.report, "report")) is not None:
        tellers.append(
            Reporter(
                post=post,
                origin=origin,
                view=view,
                count=metrics.reported,
                clock=clock,
                interval=settings.report.interval,
            )
        )
    return tellers


def _post(given: NotifyBlock | ReportBlock, name: str) -> Post | None:
    """Where it is sent, None if nowhere."""
    setting = f"{name}.url"
    if given.url and given.url_file is not None:
        raise StartError(f"{setting} and {setting}File are two places; say which one is meant")
    if not given.url and given.url_file is None:
        if given.secret_file is not None:
            raise StartError(f"{name}.secretFile: of no use without {setting} or {setting}File")
        return None
    secret = None if given.secret_file is None else _secret(SecretFile(given.secret_file, f"{name}.secretFile"))
    try:
        if given.url_file is None:
            return Post(url=checked(given.url, setting), secret=secret, setting=setting)
        file = _secret(SecretFile(given.url_file, f"{setting}File", most=1))
        post = Post(url=file, secret=secret, setting=f"{setting}File")
        post.url()
    except BadUrl as error:
        raise StartError(str(error)) from error
    return post


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
