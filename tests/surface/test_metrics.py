"""The metrics: an interface that dashboards and alerts depend on."""

from dataclasses import replace
from datetime import timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from agent.control.board import Phase
from agent.control.workqueue import LaneView
from agent.source.snapshot import UNVERIFIED
from agent.surface.metrics import Metrics, table
from agent.surface.operations import HeldPrune
from tests.fakes.clock import VirtualClock
from tests.fakes.operations import NOW, FakeOperations, a_status

NAMES = {
    "workqueue_adds_total": ("counter", "name"),
    "workqueue_depth": ("gauge", "name"),
    "workqueue_longest_running_processor_seconds": ("gauge", "name"),
    "workqueue_queue_duration_seconds": ("histogram", "name"),
    "workqueue_retries_total": ("counter", "name"),
    "workqueue_unfinished_work_seconds": ("gauge", "name"),
    "workqueue_work_duration_seconds": ("histogram", "name"),
    "xmod_build_info": ("gauge", "version"),
    "xmod_convergence_duration_seconds": ("histogram", "shimlet goalset"),
    "xmod_convergence_lag_seconds": ("gauge", "service blocked"),
    "xmod_detection_lag_seconds": ("histogram", ""),
    "xmod_drift_detected_total": ("counter", "shimlet"),
    "xmod_goal_duration_seconds": ("histogram", "goalset goal"),
    "xmod_goal_ensure_total": ("counter", "goalset goal result"),
    "xmod_journal_events_total": ("counter", "result"),
    "xmod_last_full_scan_timestamp_seconds": ("gauge", ""),
    "xmod_prune_held": ("gauge", "reason"),
    "xmod_prune_total": ("counter", "result"),
    "xmod_task_total": ("counter", "task result"),
    "xmod_reconcile_duration_seconds": ("histogram", "shimlet"),
    "xmod_reconcile_total": ("counter", "shimlet result"),
    "xmod_service_converged": ("gauge", "service"),
    "xmod_service_info": ("gauge", "service shimlet goalset revision"),
    "xmod_service_serving": ("gauge", "service"),
    "xmod_service_suspended": ("gauge", "service"),
    "xmod_source_errors_total": ("counter", ""),
    "xmod_source_behind_commits": ("gauge", ""),
    "xmod_source_commit_timestamp_seconds": ("gauge", ""),
    "xmod_source_last_success_timestamp_seconds": ("gauge", ""),
    "xmod_source_revision_info": ("gauge", "revision"),
    "xmod_source_unverified": ("gauge", "reason"),
    "xmod_spec_invalid": ("gauge", "file"),
    "xmod_webhook_requests_total": ("counter", "result"),
    "xmod_notifications_total": ("counter", "result"),
    "xmod_reports_total": ("counter", "result"),
    "xmod_report_last_success_timestamp_seconds": ("gauge", ""),
}


@pytest.fixture
def operations():
    return FakeOperations()


@pytest.fixture
def metrics(operations):
    metrics = Metrics(
        clock=VirtualClock(NOW),
        shimlets=("docker", "process"),
        goals=(("llm-deploy", "placed"),),
        held_reasons=("Budget", "SourceMissing"),
    )
    metrics.observe(operations.view, lambda: (LaneView("docker", 3, 1, 2, 5.0, 4.0),))
    return metrics


def samples(metrics):
    page, _ = metrics.render()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


def value(metrics, name, /, **labels):
    return samples(metrics).get((name, tuple(sorted(labels.items()))))


def everything_once(metrics):
    metrics.reconciled("docker", "achieved", 0.2)
    metrics.ensured("llm-deploy", "placed", "ok")
    metrics.goal_achieved("llm-deploy", "placed", 3)
    metrics.converged("docker", "llm-deploy", 20)
    metrics.drifted("docker")
    metrics.pruned("removed", "qwen")
    metrics.detected(0.05)
    metrics.scanned()
    metrics.unread("not mounted")
    metrics.unread("")
    metrics.journaled("kept", 3)
    metrics.added("docker")
    metrics.taken("docker", 0.002)
    metrics.finished("docker", 0.3)
    metrics.retried("docker")
    metrics.hooked("accepted")
    metrics.notified("sent")
    metrics.reported("sent")


def test_names_types_and_labels_stay_what_they_are(metrics):
    everything_once(metrics)
    page, _ = metrics.render()
    found = {}
    for family in text_string_to_metric_families(page.decode()):
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        name = family.name + ("_total" if family.type == "counter" else "")
        if not name.startswith("process_"):
            found[name] = (family.type, labels)
    assert found == {name: (kind, set(labels.split())) for name, (kind, labels) in NAMES.items()}


def test_the_table_for_people_is_what_is_shown():
    kinds = {"state": "gauge"}
    assert {row.name: (kinds.get(row.kind, row.kind), " ".join(row.labels)) for row in table()} == NAMES
    assert all(row.help for row in table())


def test_counters_stand_at_zero_before_anything_happened(metrics):
    assert value(metrics, "xmod_reconcile_total", shimlet="docker", result="failed") == 0
    assert value(metrics, "xmod_goal_ensure_total", goalset="llm-deploy", goal="placed", result="transient") == 0
    assert value(metrics, "xmod_prune_total", result="removed") == 0
    assert value(metrics, "xmod_drift_detected_total", shimlet="process") == 0
    assert value(metrics, "xmod_journal_events_total", result="lost") == 0
    assert value(metrics, "workqueue_retries_total", name="process") == 0
    assert value(metrics, "xmod_webhook_requests_total", result="refused") == 0
    assert value(metrics, "xmod_notifications_total", result="dropped") == 0
    assert value(metrics, "xmod_reports_total", result="failed") == 0
    assert value(metrics, "xmod_report_last_success_timestamp_seconds") == 0
    assert value(metrics, "xmod_prune_held", reason="SourceMissing") == 0
    assert value(metrics, "xmod_last_full_scan_timestamp_seconds") == 0


def test_a_report_that_failed_is_no_success(metrics):
    metrics.reported("failed")
    assert value(metrics, "xmod_report_last_success_timestamp_seconds") == 0


def test_each_fact_is_counted(metrics):
    everything_once(metrics)
    assert value(metrics, "xmod_reconcile_total", shimlet="docker", result="achieved") == 1
    assert value(metrics, "xmod_reconcile_duration_seconds_sum", shimlet="docker") == 0.2
    assert value(metrics, "xmod_goal_ensure_total", goalset="llm-deploy", goal="placed", result="ok") == 1
    assert value(metrics, "xmod_convergence_duration_seconds_count", shimlet="docker", goalset="llm-deploy") == 1
    assert value(metrics, "xmod_prune_total", result="removed") == 1
    assert value(metrics, "xmod_last_full_scan_timestamp_seconds") == NOW.timestamp()
    assert value(metrics, "xmod_source_errors_total") == 1
    assert value(metrics, "xmod_journal_events_total", result="kept") == 3
    assert value(metrics, "workqueue_adds_total", name="docker") == 1
    assert value(metrics, "xmod_webhook_requests_total", result="accepted") == 1
    assert value(metrics, "xmod_notifications_total", result="sent") == 1
    assert value(metrics, "xmod_report_last_success_timestamp_seconds") == NOW.timestamp()
    assert value(metrics, "workqueue_work_duration_seconds_count", name="docker") == 1


def test_lag_is_the_age_of_the_oldest_change_not_in_effect(metrics):
    assert value(metrics, "xmod_convergence_lag_seconds", service="qwen", blocked="none") == 0
    assert value(metrics, "xmod_convergence_lag_seconds", service="slow", blocked="none") == 90


def test_a_held_removal_that_has_no_status_has_a_lag(metrics):
    assert value(metrics, "xmod_convergence_lag_seconds", service="old", blocked="held") == 300


def test_a_clock_that_went_back_makes_no_negative_lag(metrics, operations):
    late = a_status("qwen", Phase.PROGRESSING, wanted_since=NOW + timedelta(seconds=10))
    operations.agent = replace(operations.agent, services=(late,))
    assert value(metrics, "xmod_convergence_lag_seconds", service="qwen", blocked="none") == 0


def test_series_of_a_removed_service_a_mended_file_and_an_old_revision_are_gone(metrics, operations):
    assert value(metrics, "xmod_spec_invalid", file="bad.yaml") == 1
    source = replace(operations.agent.source, invalid=(), revision="fedcba")
    operations.agent = replace(operations.agent, services=(a_status("slow"),), source=source, held=())
    left = samples(metrics)
    assert not [key for key in left if ("service", "qwen") in key[1] or ("service", "old") in key[1]]
    assert not [key for key in left if key[0] == "xmod_spec_invalid"]
    assert [key[1] for key in left if key[0] == "xmod_source_revision_info"] == [(("revision", "fedcba"),)]


def test_serving_and_converged_are_two_things(metrics, operations):
    status = a_status("qwen")
    rolled_back = replace(status, phase=Phase.DEGRADED, converged=replace(status.converged, holds=False))
    operations.agent = replace(operations.agent, services=(rolled_back,))
    assert value(metrics, "xmod_service_serving", service="qwen") == 1
    assert value(metrics, "xmod_service_converged", service="qwen") == 0


def test_held_removals_are_counted_by_reason(metrics, operations):
    more = HeldPrune("older", "Unseen", "", NOW)
    operations.agent = replace(operations.agent, held=(*operations.agent.held, more))
    assert value(metrics, "xmod_prune_held", reason="Budget") == 1
    assert value(metrics, "xmod_prune_held", reason="Unseen") == 1


def test_the_queue_is_read_at_each_scrape(metrics):
    assert value(metrics, "workqueue_depth", name="docker") == 3
    assert value(metrics, "workqueue_unfinished_work_seconds", name="docker") == 5
    assert value(metrics, "workqueue_longest_running_processor_seconds", name="docker") == 4


def test_queue_buckets_resolve_a_millisecond_and_ten_minutes(metrics):
    bounds = [
        float(dict(labels)["le"])
        for name, labels in samples(metrics)
        if name == "workqueue_work_duration_seconds_bucket" and ("name", "docker") in labels
    ]
    assert min(bounds) == 0.001
    assert 600 in bounds


def test_labels_with_signs_are_escaped(metrics, operations):
    bad = replace(operations.agent.source.invalid[0], path='a"\\\nb.yaml')
    operations.agent = replace(operations.agent, source=replace(operations.agent.source, invalid=(bad,)))
    assert value(metrics, "xmod_spec_invalid", file='a"\\\nb.yaml') == 1


def test_a_held_commit_is_told_by_its_reason_and_the_others_stand_at_zero(operations, metrics):
    assert value(metrics, "xmod_source_unverified", reason="unsigned") == 0.0
    operations.agent = replace(operations.agent, source=replace(operations.agent.source, unverified="unknown"))
    told = {reason: value(metrics, "xmod_source_unverified", reason=reason) for reason in UNVERIFIED}
    assert told == {reason: float(reason == "unknown") for reason in UNVERIFIED}
