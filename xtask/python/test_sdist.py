"""The sdist, as a file: run by ``cargo xtask wheel``, which has also built it."""

from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[2]
ARCHIVE = Path(os.environ["BTLIGHTNING_SDIST"])
TOP = f"btlightning-{os.environ['BTLIGHTNING_VERSION']}"


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """What is in it, by path below its one directory."""
    found = {}
    with tarfile.open(ARCHIVE) as tar:
        for entry in tar:
            path = PurePosixPath(entry.name)
            assert path.parts[0] == TOP, entry.name
            assert ".." not in path.parts, entry.name
            content = tar.extractfile(entry)
            assert content is not None
            found[path.relative_to(TOP).as_posix()] = content.read()
    return found


def test_it_is_called_as_pypi_wants_it() -> None:
    assert ARCHIVE.name == f"{TOP}.tar.gz"


def test_it_has_what_it_takes_to_build(files: dict[str, bytes]) -> None:
    assert files.keys() >= {
        "PKG-INFO",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "pyproject.toml",
        "crates/btlightning/Cargo.toml",
        "crates/btlightning-proto/Cargo.toml",
        "crates/btlightning-py/Cargo.toml",
        "python/btlightning/_native.pyi",
        "python/btlightning/py.typed",
    }


def test_it_has_only_files_that_git_knows(files: dict[str, bytes]) -> None:
    def in_checkout(name: str) -> str:
        beside_pyproject = ("python/", "LICENSE", "README.md", "pyproject.toml")
        return f"crates/btlightning-py/{name}" if name.startswith(beside_pyproject) else name

    ask = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(ask, cwd=ROOT, check=True, capture_output=True, text=True)
    unknown = {in_checkout(name) for name in files} - set(listed.stdout.splitlines()) - {"PKG-INFO"}
    assert unknown == set()
