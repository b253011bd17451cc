"""The spec files that the parts write."""

import json
import os
from pathlib import Path


def web_service(name: str, *, image: str, port: int | None = None, word: str = "") -> str:
    """A small web server as a user would write it; another `word` makes it another workload."""
    lines = [
        "apiVersion: xmod.dev/v1",
        "kind: DeploySpec",
        "metadata:",
        f"  name: {name}",
        "spec:",
        "  replicaCount: 1",
        "  container:",
        f"    image: {image}",
        '    command: ["/bin/busybox", "httpd", "-f", "-p", "{port}", "-h", "/"]',
        "    port: 8080",
        "    health:",
        "      none: true",
        "  env:",
        f"    - {{key: WORD, value: {json.dumps(word)}}}",
    ]
    if port is not None:
        lines.append(f"  hostPort: {port}")
    return "\n".join(lines) + "\n"


def model_service(name: str, word: str = "") -> str:
    """A spec of usual length (about 40 lines), for parsing."""
    return f"""\
# {name}: a model service, as they stand in a repository
apiVersion: xmod.dev/v1
kind: DeploySpec
metadata:
  name: {name}
  labels:
    team: vision
    site: plant-7
    tier: production
spec:
  replicaCount: 1
  container:
    image: registry.example.org/models/{name}:1.4.2
    command:
      - /usr/bin/serve
      - --listen
      - "{{host}}:{{port}}"
      - --name
      - "{{name}}"
    args:
      - --max-batch
      - "16"
      - --log-level
      - info
    port: 8080
    health:
      none: true
  env:
    - key: WORD
      value: {json.dumps(word)}
    - key: OMP_NUM_THREADS
      value: "4"
    - key: HF_HUB_OFFLINE
      value: "1"
    - key: TOKENIZERS_PARALLELISM
      value: "false"
  resourceRequirements:
    cpu: "2"
    memory: 4Gi
"""


def put(folder: Path, name: str, text: str) -> None:
    """Write as git and careful people do: beside it, then rename into place."""
    beside = folder / f".{name}.tmp"
    beside.write_text(text)
    os.replace(beside, folder / f"{name}.yaml")  # noqa: PTH105 - the call that is meant


def overwrite(folder: Path, name: str, text: str) -> None:
    """Write as careless people do: truncate it, then write."""
    (folder / f"{name}.yaml").write_text(text)


def fill(folder: Path, count: int, word: str = "") -> list[str]:
    """`count` services, a file each."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"svc-{number:05d}" for number in range(count)]
    for name in names:
        (folder / f"{name}.yaml").write_text(model_service(name, word))
    return names
