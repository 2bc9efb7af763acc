"""The READMEs' programs, as they stand there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from world import MINER, VALIDATOR, new_server, program

import btlightning
from btlightning import Lightning, _native

PACKAGE = Path(__file__).parent.parent
READMES = [PACKAGE.parent.parent / "README.md", PACKAGE / "README.md"]


def programs() -> list[str]:
    texts = [readme.read_text("utf-8") for readme in READMES]
    return [
        source
        for text in texts
        for source in re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    ]


def test_there_are_programs_for_asyncio_and_one_for_threads() -> None:
    front, asynchronous, threaded = programs()
    assert (
        "asyncio.run(main())" in front and "asyncio.run(main())" in asynchronous and "asyncio" not in threaded
    )


@pytest.mark.parametrize("number", range(3))
def test_a_program_of_the_readmes_runs_as_it_is_pasted(number: int) -> None:
    ended = program(programs()[number])
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "asks: why?" in ended.stdout or "you asked: why?" in ended.stdout


def test_what_users_of_the_published_package_were_shown_works() -> None:
    """The Python example that came with the published package 0.2.11, with a miner at the other end."""
    signed: list[bytes] = []

    def my_signer_callback(message: bytes) -> bytes:
        signed.append(message)
        return _native.sign(VALIDATOR, message)

    def handler(data: dict[str, Any]) -> dict[str, Any]:
        return {"got": data["key"]}

    with new_server() as server:
        server.register_synapse_handler("MyQuery", handler)
        axon: Any = {"hotkey": btlightning.hotkey_of_seed(MINER), "ip": "127.0.0.1", "port": server.port}

        client = Lightning(wallet_hotkey=btlightning.hotkey_of_seed(VALIDATOR))
        client.set_python_signer(my_signer_callback)
        client.initialize_connections([axon])
        response = client.query_axon(axon, {"synapse_type": "MyQuery", "data": {"key": "value"}})

        assert (response["success"], response["data"]) == (True, {"got": "value"})
        assert len(signed) == 1 and isinstance(signed[0], bytes)
        client.close()
