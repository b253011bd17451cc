"""Makes a Docker image of a Debian whose first process is systemd: `python -m tools.systemd_image` prints its name.

It holds what the agent depends on, in a virtual environment at /opt/xmod-agent, and not the agent: so it stays good while
the agent changes. Its tag is made of all that goes in, and an image that is there is not made again. systemd is that of
the backports, the first that can put the agent and its programs into groups side by side.
"""

import hashlib
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_SOURCES = """\
deb http://deb.debian.org/debian bookworm main
deb http://deb.debian.org/debian bookworm-backports main
"""
_PYTHON = "3.11"  # bookworm's
_NEWER = ("systemd", "libsystemd0", "libsystemd-shared", "systemd-dev")
_PACKAGES = (*(f"{name}/bookworm-backports" for name in _NEWER), "dbus", "git", "python3", "python3-venv")


def name() -> str:
    """What the image is called, as long as nothing changes that goes in."""
    parts = (_SOURCES, *_PACKAGES, *_dependencies(), (ROOT / "constraints.txt").read_text(), Path(__file__).read_text())
    return f"xmod-systemd:{hashlib.sha256('|'.join(parts).encode()).hexdigest()[:12]}"


def build() -> str:
    """Make it if it is not there; its name. Raises CalledProcessError."""
    image = name()
    if subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False).returncode == 0:
        return image
    subprocess.run([ROOT / "tools" / "apt-install", "mmdebstrap"], check=True, stdout=sys.stderr)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        folder.chmod(0o755)
        _download(folder / "wheels")
        (folder / "sources.list").write_text(_SOURCES)
        venv = 'chroot "$1" python3 -m venv /opt/xmod-agent'
        install = f'chroot "$1" /opt/xmod-agent/bin/pip install -q --no-index --find-links /wheels {_quoted()}'
        words = ["mmdebstrap", "--quiet", "--variant=minbase", '--aptopt=APT::Default-Release "bookworm"']
        words += [f"--include={','.join(_PACKAGES)}", f"--customize-hook=copy-in {folder / 'wheels'} /"]
        words += [f"--customize-hook={venv}", f"--customize-hook={install}", '--customize-hook=rm -r "$1/wheels"']
        words += ["bookworm", str(folder / "root.tar"), str(folder / "sources.list")]
        subprocess.run(words, check=True, stdout=sys.stderr)
        subprocess.run(["docker", "import", str(folder / "root.tar"), image], check=True, stdout=sys.stderr)
    return image


def wheel(folder: Path) -> Path:
    """The project's wheel, made of a copy: no build is left in the work tree."""
    parts = ("agent", "goalsets", "shimlets", "pyproject.toml", "README.md", "LICENSE")
    words = ["git", "ls-files", "-co", "--exclude-standard", "-z", *parts]
    listed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    for path in filter(None, listed.stdout.split("\0")):
        if (ROOT / path).exists():
            copy = folder / "source" / path
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes((ROOT / path).read_bytes())
    words = [sys.executable, "-m", "pip", "wheel", "-q", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*words, "--no-build-isolation", "-w", str(folder), str(folder / "source")], check=True)
    [made] = folder.glob("*.whl")
    return made


def _download(folder: Path) -> None:
    words = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--only-binary", ":all:"]
    words += ["--python-version", _PYTHON, "-c", str(ROOT / "constraints.txt"), "-d", str(folder), *_dependencies()]
    subprocess.run(words, check=True, stdout=sys.stderr)


def _dependencies() -> list[str]:
    return list(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"])


def _quoted() -> str:
    return " ".join(f"'{wanted}'" for wanted in _dependencies())


def main() -> int:
    """Make the image and print its name."""
    try:
        print(build())
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"systemd_image: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
