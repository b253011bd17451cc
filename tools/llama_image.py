"""Makes a Docker image of tools/llama_server.py from scratch: `python tools/llama_image.py NAME:TAG`.

For hosts that reach no image registry. It holds what the server needs of this machine and nothing else: this Python, its
standard library, the llama.cpp wheel and the shared libraries they name. Its entry point is /app/llama-server, as in
llama.cpp's own image, so the same DeploySpec runs in both. The model is mounted, not in it.
"""

import argparse
import importlib.util
import io
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

_HERE = Path(__file__).resolve().parent
_LEFT_OUT = {"test", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "site-packages", "dist-packages"}
_USERS = "root:x:0:0:root:/:/bin/false\n"


def files() -> Iterator[tuple[str, Path]]:
    """What goes into the image: the path there and the file here."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    binary = Path(sys.executable).resolve()
    library = Path(sysconfig.get_path("stdlib"))
    code = [
        (f"usr/bin/{version}", binary),
        *((f"usr/lib/{version}/{path.relative_to(library)}", path) for path in standard_library(library)),
        *((f"usr/lib/{version}/{path.relative_to(wheel().parent)}", path) for path in sources(wheel())),
    ]
    yield from code
    for path in shared_libraries(path for _, path in code if path == binary or ".so" in path.suffixes):
        # the loader is asked for by its full path, all others are looked up by their names
        yield (str(path).lstrip("/") if path.name.startswith("ld-linux") else f"usr/lib/{path.name}"), path


def wheel() -> Path:
    """The folder of the installed llama.cpp wheel."""
    spec = importlib.util.find_spec("xllamacpp")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("xllamacpp is not installed: pip install 'xmod-agent[demo]'")
    return Path(spec.origin).parent


def standard_library(library: Path) -> Iterator[Path]:
    """Its modules, without tests, toys and installers."""
    for path in sources(library):
        parts = path.relative_to(library).parts
        if not _LEFT_OUT.intersection(parts) and not parts[0].startswith("config-"):
            yield path


def sources(folder: Path) -> Iterator[Path]:
    """All files below it but compiled caches."""
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and "__pycache__" not in path.parts)


def shared_libraries(binaries: Iterable[Path]) -> list[Path]:
    """Every library that the dynamic loader would bring for them, by real path or, where it matters, by its own name."""
    told = subprocess.run(["ldd", *map(str, binaries)], capture_output=True, text=True, check=False).stdout
    return sorted({Path(path) for path in re.findall(r"(?:=>|^\s+)\s*(/\S+)\s+\(0x", told, re.MULTILINE)})


def stripped(path: Path, folder: Path) -> Path:
    """A copy without debugging symbols if `strip` is installed: a quarter of the size."""
    if path.stat().st_size < 1_000_000 or ".so" not in path.suffixes or shutil.which("strip") is None:
        return path
    small = folder / path.name
    ended = subprocess.run(["strip", "-o", str(small), str(path)], capture_output=True, check=False)
    return small if ended.returncode == 0 else path


def write(out: IO[bytes]) -> None:
    """Write the image's file system as a tar stream."""
    with tempfile.TemporaryDirectory() as folder, tarfile.open(fileobj=out, mode="w|") as tar:
        for name, path in files():
            tar.add(stripped(path.resolve(), Path(folder)), arcname=name, filter=_plain)
        python = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
        server = f"#!{python}\n" + (_HERE / "llama_server.py").read_text()
        for name, text, mode in (("app/llama-server", server, 0o755), ("etc/passwd", _USERS, 0o644)):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(text.encode()), mode
            tar.addfile(member, io.BytesIO(text.encode()))
        folder_entry = tarfile.TarInfo("tmp")
        folder_entry.type, folder_entry.mode = tarfile.DIRTYPE, 0o1777
        tar.addfile(folder_entry)


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = 0
    return member


def build(name: str) -> str:
    """Import the image into the Docker engine under that name; its id. Raises CalledProcessError."""
    words = ["docker", "import", "--change", 'ENTRYPOINT ["/app/llama-server"]']
    words += ["--change", "ENV LD_LIBRARY_PATH=/usr/lib", "-", name]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=False) as importing:
        if importing.stdin is None or importing.stdout is None:
            raise RuntimeError("pipes were asked for")
        with importing.stdin as stream:
            write(stream)
        told = importing.stdout.read().decode().strip()
    if importing.returncode != 0:
        raise subprocess.CalledProcessError(importing.returncode, words)
    return told


def main() -> int:
    """Build the image that the command line names."""
    parser = argparse.ArgumentParser(description="Make a Docker image of the llama.cpp server, from scratch.")
    parser.add_argument("name", help="NAME:TAG of the image")
    try:
        print(build(parser.parse_args().name))
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"llama_image: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
