"""Trims the Cargo.lock of an sdist that maturin packed: ``trim_sdist.py dist/btlightning-1.2.3.tar.gz``.

maturin packs the workspace's lock file as it is. It also knows members that are not packed, so that ``cargo --locked``
would refuse to build the sdist. Cargo strikes them off; nothing else of the lock file changes. The archive is then
written anew, and what is in it is left beside it, unpacked.
"""

from __future__ import annotations

import gzip
import io
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

LOCK = "Cargo.lock"


def main(archive: Path) -> None:
    """Trims one archive in place."""
    packed: list[tuple[tarfile.TarInfo, bytes]] = []
    with tarfile.open(archive) as tar:
        for entry in tar:
            file = tar.extractfile(entry) if entry.isfile() else None
            if file is None:
                sys.exit(f"{archive}: {entry.name} is not a file")
            packed.append((entry, file.read()))

    for entry, content in packed:
        # Written, not extracted: with the time of now, or cargo would not see that a file changed.
        path = archive.parent / entry.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    top = archive.parent / archive.name.removesuffix(".tar.gz")
    before = locked(top / LOCK)
    subprocess.run(
        [os.environ.get("CARGO", "cargo"), "update", "--quiet", "--workspace"], cwd=top, check=True
    )
    after = locked(top / LOCK)
    if not after <= before:
        sys.exit(f"{archive}: not trimmed but changed: {sorted(after - before)}")

    with (
        archive.open("wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for entry, _ in packed:
            content = (archive.parent / entry.name).read_bytes()
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    print(
        f"{archive.name}: {LOCK} has {len(after)} packages, {len(before - after)} fewer than the workspace's"
    )


def locked(lock: Path) -> set[tuple[str, ...]]:
    """The packages of a lock file: name, version, and where from."""
    tables = lock.read_text("utf-8").split("[[package]]\n")[1:]
    return {
        tuple(re.findall(r'^(?:name|version|source|checksum) = "(.*)"$', table, re.M)) for table in tables
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
