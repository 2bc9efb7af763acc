"""Wallets of the official SDK, version 11, as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from world import HANDSHAKES, axon, run

from btlightning import AsyncLightning, AsyncLightningServer, Lightning, LightningServer, SigningError

bittensor: Any = pytest.importorskip("bittensor")


def wallet(path: Path, hotkey: str) -> Any:
    made = bittensor.Wallet("sdk", hotkey, str(path))
    made.create_new_hotkey(use_password=False, suppress=True)
    return made


def test_a_wallet_of_the_sdk_is_a_signer_on_both_sides(tmp_path: Path) -> None:
    miner, validator = wallet(tmp_path, "miner"), wallet(tmp_path, "validator")
    with LightningServer(host="127.0.0.1", port=0, signer=miner) as server:
        server.register("who", lambda data, caller: {"caller": caller.hotkey})
        assert server.hotkey == miner.hotkey.ss58_address
        with Lightning(signer=validator) as client:
            client.initialize_connections([axon(server)])
            reply = client.query(axon(server), "who", {})
    assert reply.data == {"caller": validator.hotkey.ss58_address}
    assert reply.hotkey == miner.hotkey.ss58_address


def test_a_keypair_of_the_sdk_is_a_signer_for_asyncio(tmp_path: Path) -> None:
    miner, validator = wallet(tmp_path, "miner").hotkey, wallet(tmp_path, "validator").hotkey

    async def who(data: dict[str, Any], caller: Any) -> dict[str, Any]:
        return {"caller": caller.hotkey}

    async def main() -> None:
        server = AsyncLightningServer(host="127.0.0.1", port=0, signer=miner, **HANDSHAKES)
        server.register("who", who)
        async with server, AsyncLightning(signer=validator) as client:
            reply = await client.query(axon(server), "who", {})
            assert reply.data == {"caller": validator.ss58_address}

    run(main())


def test_a_wallet_of_the_sdk_is_opened_by_its_name(tmp_path: Path) -> None:
    miner, validator = wallet(tmp_path, "miner"), wallet(tmp_path, "validator")
    server = LightningServer(miner.hotkey.ss58_address, "127.0.0.1", 0)
    server.set_miner_wallet("sdk", str(tmp_path), "miner")
    server.register("echo", lambda data: data)
    with server:
        client = Lightning(validator.hotkey.ss58_address)
        client.set_wallet("sdk", str(tmp_path), "validator")
        client.initialize_connections([axon(server)])
        assert client.query(axon(server), "echo", {"a": 1}).data == {"a": 1}


def test_a_wallet_without_the_hotkey_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises((SigningError, ValueError), match="hotkey"):
        Lightning(signer=bittensor.Wallet("sdk", "nobody", str(tmp_path)))
