"""The documents' tables and the unit in systemd/, made of the code: `python -m tools.tables`; a test holds them true.

Each table stands between `<!-- NAME -->` and `<!-- end -->`.
"""

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from typer.core import TyperGroup, TyperOption
from typer.main import get_command

from agent.cli import app, installing
from agent.settings import table as settings_table
from agent.spec.document import ANNOTATIONS
from agent.spec.policy import Rules
from agent.surface.metrics import table as metrics_table
from agent.surface.notify import SENTENCES

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PAGES = (README, *sorted((ROOT / "docs").glob("*.md")))
UNIT = ROOT / "systemd" / "xmod-agent.service"


def commands() -> str:
    """Every command, its arguments and options."""
    rows = []
    for name, command in program().commands.items():
        context = command.context_class(command, info_name=name)
        pieces = [re.sub(r"[{}]|\.\.\.$", "", piece) for piece in command.collect_usage_pieces(context)[1:]]
        usage = " ".join(["xmod-agent", name, *pieces]).replace("[[", "[").replace("]]", "]")
        flags = [min(parameter.opts, key=len) for parameter in command.params if isinstance(parameter, TyperOption)]
        rows.append((code(usage), sentence(command.help or ""), ", ".join(code(flag) for flag in flags)))
    return lines(("command", "what it does", "options"), rows)


def program() -> TyperGroup:
    """The command line, as typer sees it."""
    group = get_command(app)
    if not isinstance(group, TyperGroup):
        raise TypeError("the command line has no commands")
    return group


def settings() -> str:
    """Every setting, with its environment variable, flag and default."""
    rows = [
        (code(row.name), code(row.env), code(row.flag), code(row.default), row.description) for row in settings_table()
    ]
    return lines(("in the file", "in the environment", "flag", "default", "what"), rows)


def metrics() -> str:
    """Every metric and its labels."""
    kinds = {"state": "gauge"}
    rows = [
        (code(row.name), kinds.get(row.kind, row.kind), ", ".join(map(code, row.labels)), row.help)
        for row in metrics_table()
    ]
    return lines(("metric", "kind", "labels", "what"), rows)


def policy() -> str:
    """Every rule of the policy."""
    rows = [
        (code(f"policy.{field.alias or name}"), field.description or "") for name, field in Rules.model_fields.items()
    ]
    return lines(("rule", "what it lists"), rows)


def annotations() -> str:
    """Every annotation that the agent heeds."""
    return lines(("annotation", "what it says"), [(code(name), text) for name, text in ANNOTATIONS.items()])


def events() -> str:
    """Every event that is told."""
    texts = {name: text.format(names="NAME", file="FILE", shimlet="SHIMLET") for name, text in SENTENCES.items()}
    return lines(("event", "what it says"), [(code(name), text) for name, text in texts.items()])


TABLES: Mapping[str, Callable[[], str]] = {
    "commands": commands,
    "settings": settings,
    "metrics": metrics,
    "policy": policy,
    "annotations": annotations,
    "events": events,
}


def unit() -> str:
    """The unit as it is installed from /opt, for packagers and readers."""
    words = ("/opt/xmod-agent/bin/xmod-agent", "run", str(installing.SPECS))
    return installing.unit(words, user="xmod-agent", group="xmod-agent", version=0)


def lines(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    rule = ["---"] * len(head)
    cells = ([cell.replace("|", "\\|") for cell in row] for row in (head, rule, *rows))
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def code(text: str) -> str:
    """Text as code, nothing as nothing."""
    return f"`{text}`" if text else ""


def sentence(text: str) -> str:
    """The first paragraph, on one line."""
    return " ".join(text.strip().split("\n\n", maxsplit=1)[0].split())


def written(text: str) -> str:
    """A page's text with its tables as they ought to be. Raises KeyError for a table that nobody makes."""

    def made(match: re.Match[str]) -> str:
        return f"<!-- {match[1]} -->\n{TABLES[match[1]]()}\n<!-- end -->"

    return re.sub(r"<!-- (\w+) -->\n.*?<!-- end -->", made, text, flags=re.DOTALL)


def main() -> int:
    """Write the tables into the pages, and the unit."""
    UNIT.write_text(unit())
    for page in PAGES:
        page.write_text(written(page.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
