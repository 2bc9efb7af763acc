"""The wheel, as a file: run by ``cargo xtask wheel``, which says in the environment where it is."""

from __future__ import annotations

import os
import re
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "crates/btlightning-py"
VERSION = os.environ["BTLIGHTNING_VERSION"]
INFO = f"btlightning-{VERSION}.dist-info"


def wheel(variable: str) -> dict[str, bytes]:
    """The files of a wheel by name."""
    with zipfile.ZipFile(os.environ[variable]) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return wheel("BTLIGHTNING_WHEEL")


def extension(files: dict[str, bytes]) -> str:
    [name] = [name for name in files if re.fullmatch(r"btlightning/_native\.(abi3\.so|pyd)", name)]
    return name


def test_one_wheel_serves_every_python_from_3_10() -> None:
    name = Path(os.environ["BTLIGHTNING_WHEEL"]).name
    assert re.fullmatch(
        rf"btlightning-{re.escape(VERSION)}-cp310-abi3-(manylinux|musllinux|macosx|win)_\w+\.whl", name
    )


def test_it_has_the_package_as_it_is_in_the_checkout_and_nothing_else(files: dict[str, bytes]) -> None:
    source = PACKAGE / "python"
    ours = [path for path in source.rglob("*") if path.name == "py.typed" or path.suffix in {".py", ".pyi"}]
    wanted = {path.relative_to(source).as_posix() for path in ours} | {extension(files)}
    assert {name for name in files if not name.startswith(INFO)} == wanted
    for name in wanted - {extension(files)}:
        assert files[name] == (source / name).read_bytes(), name
    assert {"btlightning/py.typed", "btlightning/_native.pyi"} <= wanted


def test_its_metadata_is_complete(files: dict[str, bytes]) -> None:
    assert {name.removeprefix(f"{INFO}/") for name in files if name.startswith(INFO)} == {
        "METADATA",
        "RECORD",
        "WHEEL",
        "licenses/LICENSE",
        "sboms/btlightning-py.cyclonedx.json",
    }


def test_its_licence_is_the_projects(files: dict[str, bytes]) -> None:
    assert files[f"{INFO}/licenses/LICENSE"] == (ROOT / "LICENSE").read_bytes()


def test_the_sdist_builds_the_same_wheel(files: dict[str, bytes]) -> None:
    rebuilt = wheel("BTLIGHTNING_WHEEL_OF_SDIST")
    assert rebuilt.keys() == files.keys()
    # Another path and another profile; and what pip builds is for this machine, and says so.
    about_the_build = ("RECORD", "WHEEL", "sboms/btlightning-py.cyclonedx.json")
    differ = {extension(files), *(f"{INFO}/{name}" for name in about_the_build)}
    for name in files.keys() - differ:
        assert rebuilt[name] == files[name], name
