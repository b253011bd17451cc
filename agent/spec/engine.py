"""The engine table: what a spec's `engine` stands for, as data (engines.yaml), extended by the settings' `engines:`.

An argument that the agent relies on (the port, the served name …) is set here and only here: an engineArg that says
it again is refused with both named, because which of two wins differs from engine to engine.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, ValidationError

from agent.spec.complaint import faults, field
from agent.spec.document import Count, Health, Port
from agent.spec.part import Part
from agent.spec.quantity import EnvKey, ImageName, Text, Word
from agent.spec.reading import read

_FROM_SPEC = ("modelName", "contextLength")


class Argument(Part):
    """One argument of an engine, with its value. `origin`: the spec's field that decides it."""

    model_config = ConfigDict(populate_by_name=True)

    argv: tuple[Text, ...] = Field(min_length=1)
    origin: str = Field(default="", alias="from")
    also: tuple[Text, ...] = ()

    def filled(self, values: Mapping[str, str]) -> tuple[str, ...]:
        """Its words with the spec's own values in them; none if the spec leaves one of them out."""
        words: list[str] = []
        for word in self.argv:
            for name in _FROM_SPEC:
                marker = "{" + name + "}"
                if marker in word:
                    if name not in values:
                        return ()
                    word = word.replace(marker, values[name])  # two markers in one word
            words.append(word)
        return tuple(words)


class Engine(Part):
    """One row: how an engine is run and asked."""

    image: ImageName
    image_for: dict[str, ImageName] = Field(default_factory=dict)
    program: Text
    port: Port
    args: tuple[Argument, ...] = ()
    refused: dict[str, str] = Field(default_factory=dict)
    env: dict[EnvKey, str] = Field(default_factory=dict)
    health: Health = Health()
    loading: tuple[Count, ...] = (503,)
    smoke: str = ""
    goalset: Word = "llm-deploy"

    def image_of(self, accelerator: str) -> str:
        """The image for a kind of accelerator, as the spec words it."""
        words = accelerator.lower()
        return next((image for kind, image in self.image_for.items() if kind.lower() in words), self.image)

    def arguments(self, values: Mapping[str, str]) -> tuple[str, ...]:
        """All that we pass. `values`: modelName and contextLength, where the spec has them."""
        return tuple(word for argument in self.args for word in argument.filled(values))

    def quarrels(self, extra: Sequence[str], values: Mapping[str, str]) -> Iterator[tuple[int, str]]:
        """Which of the user's arguments say again what we say: their index, and a sentence."""
        ours = {
            flag: (argument, words)
            for argument in self.args
            if len(words := argument.filled(values)) > 1
            for flag in (argument.argv[0], *argument.also)
        }
        for index, word in enumerate(extra):
            flag = word.partition("=")[0]
            if flag in ours:
                argument, words = ours[flag]
                origin = (
                    f"which comes from {argument.origin}; change that instead" if argument.origin else "which we set"
                )
                yield index, f"{flag} contradicts {' '.join(words)}, {origin}"
            elif flag in self.refused:
                yield index, f"{flag} cannot be used: {self.refused[flag]}"


@dataclass(frozen=True, slots=True)
class Engines:
    """The table. `default`: the row of a spec that gives a model and neither an engine nor a container."""

    rows: Mapping[str, Engine]
    default: str

    @classmethod
    def load(cls, changes: Mapping[str, Any] | None = None) -> "Engines":
        """The built-in table with the settings' changes in it. Raises ValueError with a sentence for each mistake."""
        path = Path(__file__).with_name("engines.yaml")
        reading = read(path.read_bytes())
        if reading.problems:
            raise ValueError("\n".join(f"{path.name}:{problem}" for problem in reading.problems))
        table = reading.documents[0].data
        merged: dict[str, Any] = dict(table["engines"])
        for name, row in (changes or {}).items():
            merged[name] = {**merged.get(name, {}), **row} if isinstance(row, Mapping) else row
        rows: dict[str, Engine] = {}
        mistakes: list[str] = []
        for name, row in merged.items():
            try:
                rows[name] = Engine.model_validate(row)
            except ValidationError as error:
                for fault in faults(error, Engine):
                    place = ".".join(part for part in ("engines", name, field(fault.path)) if part)
                    mistakes.append(f"{place}: {fault.message}")
        if mistakes:
            raise ValueError("\n".join(mistakes))
        return cls(rows, str(table["default"]))
