"""The package as it is installed: its metadata, and what importing it does."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import btlightning

pytestmark = pytest.mark.skipif(
    "BTLIGHTNING_WHEEL" not in os.environ, reason="about the installed package: cargo xtask python"
)


def in_new_interpreter(program: str) -> str:
    """What a program prints that runs where nothing was imported before."""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout.strip()


def test_the_version_is_the_workspaces() -> None:
    assert btlightning.__version__ == os.environ["BTLIGHTNING_VERSION"]
    assert metadata.version("btlightning") == os.environ["BTLIGHTNING_VERSION"]


def test_the_metadata_says_what_an_index_shows() -> None:
    said = metadata.metadata("btlightning")
    assert said["Name"] == "btlightning"
    assert said["Requires-Python"] == ">=3.10"
    assert said["License-Expression"] == "MIT"
    assert said["License-File"] == "LICENSE"
    assert said["Summary"]
    assert said["Description-Content-Type"].startswith("text/markdown")
    assert "Typing :: Typed" in said.get_all("Classifier", [])


def test_it_needs_no_other_package() -> None:
    """Extras are for those who ask."""
    needs = metadata.requires("btlightning") or []
    assert [need for need in needs if "extra ==" not in need] == []


def test_it_is_typed() -> None:
    files = {file.as_posix() for file in metadata.files("btlightning") or []}
    assert {"btlightning/py.typed", "btlightning/_native.pyi"} <= files


def test_every_installed_module_is_imported_from_the_environment() -> None:
    assert btlightning.__file__ is not None
    assert Path(btlightning.__file__).is_relative_to(sys.prefix)


def test_importing_starts_no_thread_and_opens_nothing() -> None:
    program = """if True:
        import os, threading
        def look():
            mine = [path for path in ("/proc/self/fd", "/proc/self/task") if os.path.isdir(path)]
            return threading.active_count(), *[len(os.listdir(path)) for path in mine]
        before = look()
        import btlightning
        after = look()
        print(before == after or (before, after))
    """
    assert in_new_interpreter(program) == "True"


def test_importing_brings_in_nothing_optional_nor_heavy() -> None:
    """numpy, pydantic and torch are used if the program has imported them; importing them is its business."""
    program = """if True:
        import sys
        import btlightning
        print(sorted({"numpy", "torch", "pydantic", "msgpack", "bittensor", "bittensor_wallet"} & set(sys.modules)))
    """
    assert in_new_interpreter(program) == "[]"
