"""Resolvers and small specs for the tests of agent/spec."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from agent.contracts import Service, Workload
from agent.spec.engine import Engines
from agent.spec.policy import Policy
from agent.spec.resolve import Defaults, FileReading, Resolver

HEAD = "apiVersion: xmod.dev/v1\nkind: DeploySpec\nmetadata: {name: web}\n"
ENGINES = Engines.load()
GOALSETS = frozenset({"service-deploy", "service-delete", "llm-deploy", "llm-delete", "opensource-llm-deploy"})


def policy(rules: Mapping[str, Any] | None = None, *, specs: Path = Path("/nowhere/specs"), **more: Any) -> Policy:
    return Policy.load(
        rules or {}, specs=specs, search=more.get("search", "/usr/bin:/bin"), as_root=more.get("root", False)
    )


def resolver(
    rules: Mapping[str, Any] | None = None, *, shimlet: str = "docker", goalset: str = "", **more: Any
) -> Resolver:
    return Resolver(policy(rules, **more), ENGINES, Defaults(shimlet=shimlet, goalset=goalset, goalsets=GOALSETS))


def reading(text: str, rules: Mapping[str, Any] | None = None, **more: Any) -> FileReading:
    return resolver(rules, **more).read_file("a.yaml", text.encode())


def problems(text: str, rules: Mapping[str, Any] | None = None, **more: Any) -> list[str]:
    found = reading(text, rules, **more)
    assert found.wanted == () or not found.problems, "no half of a file takes effect"
    return [str(problem) for problem in found.problems]


def document(spec: Mapping[str, Any], name: str = "web", **metadata: Any) -> str:
    whole = {
        "apiVersion": "xmod.dev/v1",
        "kind": "DeploySpec",
        "metadata": {"name": name, **metadata},
        "spec": dict(spec),
    }
    return yaml.safe_dump(whole, sort_keys=False)


def service(
    spec: Mapping[str, Any], rules: Mapping[str, Any] | None = None, *, name: str = "web", **more: Any
) -> Service:
    metadata = more.pop("metadata", {})
    found = reading(document(spec, name, **metadata), rules, **more)
    assert found.problems == (), [str(problem) for problem in found.problems]
    return found.wanted[0].service


def workload(spec: Mapping[str, Any], rules: Mapping[str, Any] | None = None, **more: Any) -> Workload:
    return service(spec, rules, **more).workload


def says(spec: Mapping[str, Any], rules: Mapping[str, Any] | None = None, **more: Any) -> list[str]:
    """Field and sentence of each problem."""
    metadata = more.pop("metadata", {})
    found = reading(document(spec, **metadata), rules, **more)
    return [f"{problem.field}: {problem.message}" for problem in found.problems]
