"""Files that the real program sops encrypted, for age keys made on the spot. Those keys are test data, and guard nothing."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pyrage

PROGRAM = Path(sys.executable).with_name("sops")
SEARCH = f"{PROGRAM.parent}:/usr/bin:/bin"
ONLY_VALUES = "^(value|password)$"  # what docs/security.md recommends


@dataclass(frozen=True)
class Key:
    """An age key pair."""

    private: str
    public: str

    def into(self, file: Path) -> Path:
        """A key file as sops reads it."""
        file.write_text(f"# a test's key\n{self.private}\n")
        file.chmod(0o600)
        return file


def key() -> Key:
    """A key pair that did not exist before."""
    made = pyrage.x25519.Identity.generate()
    return Key(str(made), str(made.to_public()))


def encrypted(text: str, *keys: Key, only: str = ONLY_VALUES, more: tuple[str, ...] = ()) -> str:
    """What `sops encrypt` makes of a YAML file. `only`: the encrypted_regex, "" encrypts every value."""
    words = [PROGRAM, "--config", os.devnull, "encrypt", "--age", ",".join(key.public for key in keys)]
    words += ["--encrypted-regex", only] if only else []
    words += [*more, "--input-type", "yaml", "--filename-override", "x.yaml"]
    ran = subprocess.run(words, input=text, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout
