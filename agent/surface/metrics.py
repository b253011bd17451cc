"""All metrics: one table of names, labels and meanings, filled by facts from control and, at each scrape, from the view.

Promises: names and labels are an interface (a test pins them); counters stand at zero before the first event, so that
rate() and alerts work from the start; what is said of a service, a file or a revision is made anew at each scrape from
the agent's view, so the series of a removed service is gone with it. A service's name is a label of gauges only.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import product
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from agent.clock import Clock
from agent.contracts import ServiceName
from agent.control.board import Phase, Status
from agent.control.workqueue import LaneView
from agent.source.snapshot import UNVERIFIED
from agent.surface.operations import AgentView

RESULTS = ("achieved", "pending", "transient", "failed", "permanent", "error", "kept")
HOOKS = ("accepted", "ignored", "ping", "refused", "too_large", "broken_off", "unavailable")
NOTIFICATIONS = ("sent", "failed", "refused", "dropped")
REPORTS = ("sent", "failed")
PRUNES = ("removed", "held", "approved")
_OUTSIDE = {
    "xmod_webhook_requests_total": HOOKS,
    "xmod_notifications_total": NOTIFICATIONS,
    "xmod_reports_total": REPORTS,
}

_LOOK = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_QUEUE = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 600)
_DETECTION = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600)
_CONVERGENCE = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600)


class MetricRow(NamedTuple):
    """One metric. `kind`: counter, histogram, gauge (kept by us) or state (a gauge made from the view at each scrape)."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = ()


_ROWS = (
    MetricRow(
        "xmod_convergence_lag_seconds",
        "state",
        ("service", "blocked"),
        "Age of the oldest wanted change not yet in effect, 0 when converged; blocked: what stands in its way",
    ),
    MetricRow("xmod_service_serving", "state", ("service",), "1 if the service answers"),
    MetricRow("xmod_service_converged", "state", ("service",), "1 if the service is what its spec says"),
    MetricRow("xmod_service_suspended", "state", ("service",), "1 if the service is suspended"),
    MetricRow("xmod_service_info", "state", ("service", "shimlet", "goalset", "revision"), "Always 1"),
    MetricRow("xmod_spec_invalid", "state", ("file",), "1 for each file that is not in effect because of errors"),
    MetricRow("xmod_prune_held", "state", ("reason",), "Removals that wait for evidence or for an operator"),
    MetricRow("xmod_source_revision_info", "state", ("revision",), "The revision last read; always 1"),
    MetricRow(
        "xmod_source_last_success_timestamp_seconds", "state", (), "When the source was last read whole; 0: never yet"
    ),
    MetricRow(
        "xmod_source_unverified", "state", ("reason",), "1 while the newest commit is held because of its signature"
    ),
    MetricRow(
        "xmod_source_behind_commits", "state", (), "Commits that the newest known one is ahead of the one in force"
    ),
    MetricRow(
        "xmod_source_commit_timestamp_seconds", "state", (), "When the commit in force was made; none for a folder"
    ),
    MetricRow("xmod_build_info", "state", ("version",), "Always 1"),
    MetricRow("xmod_last_full_scan_timestamp_seconds", "gauge", (), "Heartbeat: the end of the last full scan"),
    MetricRow(
        "xmod_convergence_duration_seconds",
        "histogram",
        ("shimlet", "goalset"),
        "From a change first seen to all its goals achieved",
        _CONVERGENCE,
    ),
    MetricRow("xmod_detection_lag_seconds", "histogram", (), "From a change written to its being seen", _DETECTION),
    MetricRow("xmod_goal_ensure_total", "counter", ("goalset", "goal", "result"), "Acts of goals"),
    MetricRow(
        "xmod_goal_duration_seconds",
        "histogram",
        ("goalset", "goal"),
        "From a goal's turn to its being achieved",
        _CONVERGENCE,
    ),
    MetricRow("xmod_reconcile_total", "counter", ("shimlet", "result"), "Looks at one service, by outcome"),
    MetricRow("xmod_reconcile_duration_seconds", "histogram", ("shimlet",), "How long one look took", _LOOK),
    MetricRow("xmod_drift_detected_total", "counter", ("shimlet",), "Services found changed behind the agent's back"),
    MetricRow("xmod_prune_total", "counter", ("result",), "Removals of services that are no longer wanted"),
    MetricRow(
        "xmod_source_errors_total",
        "counter",
        (),
        "Times that the source could no longer be read, or for another reason",
    ),
    MetricRow("xmod_journal_events_total", "counter", ("result",), "Events kept in the journal, and lost to it"),
    MetricRow("xmod_task_total", "counter", ("task", "result"), "Work that outlives a look, such as pulls, by outcome"),
    MetricRow("xmod_webhook_requests_total", "counter", ("result",), "Requests to POST /webhook, by outcome"),
    MetricRow("xmod_notifications_total", "counter", ("result",), "Deliveries to notify.url, by outcome"),
    MetricRow("xmod_reports_total", "counter", ("result",), "Deliveries to report.url, by outcome"),
    MetricRow("xmod_report_last_success_timestamp_seconds", "gauge", (), "When a report last arrived; 0: never yet"),
    MetricRow("workqueue_depth", "state", ("name",), "Names whose turn has come; name: the shimlet's lane"),
    MetricRow("workqueue_adds_total", "counter", ("name",), "Names put in the queue that were not waiting already"),
    MetricRow("workqueue_queue_duration_seconds", "histogram", ("name",), "How long names waited for a worker", _QUEUE),
    MetricRow("workqueue_work_duration_seconds", "histogram", ("name",), "How long workers had a name", _QUEUE),
    MetricRow("workqueue_unfinished_work_seconds", "state", ("name",), "Sum of the ages of names being worked on"),
    MetricRow("workqueue_longest_running_processor_seconds", "state", ("name",), "Age of the oldest of them"),
    MetricRow("workqueue_retries_total", "counter", ("name",), "Names put back to be tried again after a back-off"),
)


def table() -> tuple[MetricRow, ...]:
    """Every metric, for people and for the test that pins them."""
    return _ROWS


class Metrics:
    """Hears facts (control.facts.Facts, control.workqueue.QueueMetrics) and renders everything as Prometheus text.

    `shimlets` and `goals` ((goalset, goal) pairs) are those whose counters stand at zero from the start; `held_reasons`
    likewise for xmod_prune_held.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        shimlets: Sequence[str] = (),
        goals: Sequence[tuple[str, str]] = (),
        held_reasons: Sequence[str] = (),
    ) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no types; a second series for each counter, of no use to us
        self._clock = clock
        self._held_reasons = tuple(held_reasons)
        self._registry = CollectorRegistry()
        self._counters = {
            row.name: Counter(row.name, row.help, row.labels, registry=self._registry) for row in _of("counter")
        }
        self._histograms = {
            row.name: Histogram(row.name, row.help, row.labels, registry=self._registry, buckets=row.buckets)
            for row in _of("histogram")
        }
        self._gauges = {
            row.name: Gauge(row.name, row.help, row.labels, registry=self._registry) for row in _of("gauge")
        }
        ProcessCollector(registry=self._registry)
        self._begin_at_zero(shimlets, goals)

    def observe(self, view: Callable[[], AgentView], lanes: Callable[[], Iterable[LaneView]] = tuple) -> None:
        """From now on, tell at each scrape what the view and the queue say."""
        self._registry.register(_State(view, lanes, self._clock, self._held_reasons))

    def render(self) -> tuple[bytes, str]:
        """The page and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST

    def reconciled(self, shimlet: str, result: str, seconds: float) -> None:
        """One look ended."""
        self._counters["xmod_reconcile_total"].labels(shimlet, result).inc()
        self._histograms["xmod_reconcile_duration_seconds"].labels(shimlet).observe(seconds)

    def ensured(self, goalset: str, goal: str, result: str) -> None:
        """A goal acted."""
        self._counters["xmod_goal_ensure_total"].labels(goalset, goal, result).inc()

    def goal_achieved(self, goalset: str, goal: str, seconds: float) -> None:
        """A goal holds, this long after its turn came."""
        self._histograms["xmod_goal_duration_seconds"].labels(goalset, goal).observe(seconds)

    def converged(self, shimlet: str, goalset: str, seconds: float) -> None:
        """A wanted change is in effect."""
        self._histograms["xmod_convergence_duration_seconds"].labels(shimlet, goalset).observe(seconds)

    def drifted(self, shimlet: str) -> None:
        """What was right no longer is."""
        self._counters["xmod_drift_detected_total"].labels(shimlet).inc()

    def pruned(self, result: str, name: ServiceName, reason: str = "", message: str = "") -> None:  # noqa: ARG002 - counters name no service
        """A removal was decided on."""
        self._counters["xmod_prune_total"].labels(result).inc()

    def detected(self, seconds: float) -> None:
        """A change was seen."""
        self._histograms["xmod_detection_lag_seconds"].observe(max(0.0, seconds))

    def unread(self, error: str) -> None:
        """The source cannot be read, or can be again."""
        if error:
            self._counters["xmod_source_errors_total"].inc()

    def journaled(self, result: str, count: int) -> None:
        """Events were kept in the journal, or lost."""
        self._counters["xmod_journal_events_total"].labels(result).inc(count)

    def scanned(self) -> None:
        """The source was read whole."""
        self._gauges["xmod_last_full_scan_timestamp_seconds"].set(self._clock.now().timestamp())

    def task_ended(self, kind: str, result: str) -> None:
        """Work that outlives a look ended."""
        self._counters["xmod_task_total"].labels(kind, result).inc()

    def hooked(self, result: str) -> None:
        """A request to the webhook ended."""
        self._counters["xmod_webhook_requests_total"].labels(result).inc()

    def notified(self, result: str) -> None:
        """A delivery of a notification ended."""
        self._counters["xmod_notifications_total"].labels(result).inc()

    def reported(self, result: str) -> None:
        """A delivery of a report ended."""
        self._counters["xmod_reports_total"].labels(result).inc()
        if result == "sent":
            self._gauges["xmod_report_last_success_timestamp_seconds"].set(self._clock.now().timestamp())

    def added(self, lane: str) -> None:
        """A name came in that was not waiting already."""
        self._counters["workqueue_adds_total"].labels(lane).inc()

    def taken(self, lane: str, waited: float) -> None:
        """A worker took a name."""
        self._histograms["workqueue_queue_duration_seconds"].labels(lane).observe(waited)

    def finished(self, lane: str, worked: float) -> None:
        """A worker is done with a name."""
        self._histograms["workqueue_work_duration_seconds"].labels(lane).observe(worked)

    def retried(self, lane: str) -> None:
        """A name was put back after a back-off."""
        self._counters["workqueue_retries_total"].labels(lane).inc()

    def _begin_at_zero(self, shimlets: Sequence[str], goals: Sequence[tuple[str, str]]) -> None:
        for shimlet, result in product(shimlets, RESULTS):
            self._counters["xmod_reconcile_total"].labels(shimlet, result)
        for shimlet in shimlets:
            self._counters["xmod_drift_detected_total"].labels(shimlet)
            self._counters["workqueue_adds_total"].labels(shimlet)
            self._counters["workqueue_retries_total"].labels(shimlet)
            self._histograms["xmod_reconcile_duration_seconds"].labels(shimlet)
            self._histograms["workqueue_queue_duration_seconds"].labels(shimlet)
            self._histograms["workqueue_work_duration_seconds"].labels(shimlet)
        for (goalset, goal), result in product(goals, ("ok", "transient", "permanent", "error")):
            self._counters["xmod_goal_ensure_total"].labels(goalset, goal, result)
        for result in ("ok", "transient", "permanent", "error", "cancelled"):
            self._counters["xmod_task_total"].labels("image", result)
        for result in ("kept", "lost"):
            self._counters["xmod_journal_events_total"].labels(result)
        for name, results in _OUTSIDE.items():
            for result in results:
                self._counters[name].labels(result)
        for result in PRUNES:
            self._counters["xmod_prune_total"].labels(result)


class _State(Collector):
    """Gauges that are read off the agent's view at each scrape."""

    def __init__(
        self,
        view: Callable[[], AgentView],
        lanes: Callable[[], Iterable[LaneView]],
        clock: Clock,
        held_reasons: tuple[str, ...],
    ) -> None:
        self._view = view
        self._lanes = lanes
        self._clock = clock
        self._held_reasons = held_reasons

    def describe(self) -> Iterable[Metric]:
        """What it will tell, so that registering it does not ask the agent."""
        return [_family(row.name) for row in _of("state")]

    def collect(self) -> Iterator[Metric]:
        """Everything, as of now."""
        view, now = self._view(), self._clock.now()
        yield from _services(view, now)
        yield _told("xmod_spec_invalid", (((file.path,), 1.0) for file in view.source.invalid))
        yield self._held(view)
        revision = view.source.revision
        yield _told("xmod_source_revision_info", [((revision,), 1.0)] if revision else [])
        read_at = view.source.read_at
        yield _told("xmod_source_last_success_timestamp_seconds", [((), read_at.timestamp() if read_at else 0.0)])
        held = view.source.unverified
        yield _told("xmod_source_unverified", (((reason,), float(reason == held)) for reason in UNVERIFIED))
        source = view.source
        known = source.head and source.behind is not None
        yield _told("xmod_source_behind_commits", [((), float(source.behind or 0))] if known else [])
        made = [((), source.commit.at.timestamp())] if source.commit else []
        yield _told("xmod_source_commit_timestamp_seconds", made)
        yield _told("xmod_build_info", [((view.version,), 1.0)])
        lanes = tuple(self._lanes())
        yield _told("workqueue_depth", (((lane.lane,), float(lane.depth)) for lane in lanes))
        yield _told("workqueue_unfinished_work_seconds", (((lane.lane,), lane.unfinished) for lane in lanes))
        yield _told("workqueue_longest_running_processor_seconds", (((lane.lane,), lane.longest) for lane in lanes))

    def _held(self, view: AgentView) -> Metric:
        counts = dict.fromkeys(self._held_reasons, 0)
        for held in view.held:
            counts[held.reason] = counts.get(held.reason, 0) + 1
        return _told("xmod_prune_held", (((reason,), float(count)) for reason, count in sorted(counts.items())))


def _services(view: AgentView, now: datetime) -> Iterator[Metric]:
    shown = {status.name for status in view.services}
    lags = [((str(s.name), s.blocked), _lag(s, now)) for s in view.services]
    lags += [((h.name, "held"), _age(h.since, now)) for h in view.held if h.name not in shown]
    yield _told("xmod_convergence_lag_seconds", lags)
    yield _told("xmod_service_serving", (((s.name,), float(s.serving.holds)) for s in view.services))
    yield _told("xmod_service_converged", (((s.name,), float(s.converged.holds)) for s in view.services))
    yield _told("xmod_service_suspended", (((s.name,), float(s.phase is Phase.SUSPENDED)) for s in view.services))
    yield _told("xmod_service_info", (((s.name, s.shimlet, s.goalset, s.revision), 1.0) for s in view.services))


def _lag(status: Status, now: datetime) -> float:
    return _age(status.wanted_since, now) if status.wanted_since else 0.0


def _age(since: datetime, now: datetime) -> float:
    return max(0.0, (now - since).total_seconds())


def _told(name: str, samples: Iterable[tuple[tuple[str, ...], float]]) -> GaugeMetricFamily:
    family = _family(name)
    for labels, value in samples:
        family.add_metric(labels, value)
    return family


def _family(name: str) -> GaugeMetricFamily:
    row = _row(name)
    return GaugeMetricFamily(row.name, row.help, labels=row.labels)


def _of(kind: str) -> tuple[MetricRow, ...]:
    return tuple(row for row in _ROWS if row.kind == kind)


def _row(name: str) -> MetricRow:
    return next(row for row in _ROWS if row.name == name)
