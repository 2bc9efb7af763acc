"""Whether an installed btlightning works, with nothing installed beside it: ``python smoke.py``.

A validator asks a miner over loopback, with threads and with asyncio. The test suite is for everything else.
"""

from __future__ import annotations

import asyncio
import platform
import sys
from typing import Any

from btlightning import AsyncLightning, AxonInfo, Lightning, LightningServer, __version__

MINER, VALIDATOR = b"m" * 32, b"v" * 32


def double(data: dict[str, Any]) -> dict[str, Any]:
    """The miner's whole knowledge."""
    return {"number": 2 * data["number"]}


def ask(miner: AxonInfo) -> object:
    """Asks by the published API."""
    with Lightning(signer=VALIDATOR) as client:
        client.initialize_connections([miner])
        return client.query_axon(miner, {"synapse_type": "Double", "data": {"number": 21}})["data"]


async def ask_async(miner: AxonInfo) -> object:
    """Asks by the other."""
    async with AsyncLightning(signer=VALIDATOR) as client:
        await client.connect([miner])
        return (await client.query(miner, "Double", {"number": 21}, timeout=10)).data


def main() -> None:
    """Says that it works, or fails."""
    server = LightningServer(host="127.0.0.1", port=0, signer=MINER)
    server.register_synapse_handler("Double", double)
    with server:
        miner: AxonInfo = {"hotkey": server.hotkey, "ip": "127.0.0.1", "port": server.port}
        answers = [ask(miner), asyncio.run(ask_async(miner))]
    if answers != [{"number": 42}] * 2:
        sys.exit(f"wrong answers: {answers}")
    python = f"{platform.python_implementation()} {platform.python_version()} on {platform.platform()}"
    sys.stdout.write(f"btlightning {__version__} works: {python}\n")


if __name__ == "__main__":
    main()
