"""Who signs: seeds, callables, and the official packages' wallets as they are."""

from __future__ import annotations

import base64
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import world

from btlightning import Lightning, _native
from btlightning._errors import ConfigError, SigningError, WalletError
from btlightning._signers import from_wallet_files, resolve

ALICE_SEED = bytes.fromhex("e5be9a5092b81bca64be81d212e7f2f9eba183bb7a90954f7b76361f6edb5c0a")
ALICE = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY"
MESSAGE = b"0x616263: a message that looks like hex"

bittensor_wallet = pytest.importorskip("bittensor_wallet")


def is_signature(hotkey: str | None, signature: bytes) -> bool:
    return bool(bittensor_wallet.Keypair(ss58_address=hotkey).verify(MESSAGE, signature))


def new_wallet(path: Path, **how: Any) -> Any:
    wallet = bittensor_wallet.Wallet("validator", "first", str(path))
    wallet.create_new_hotkey(use_password=False, suppress=True, **how)
    return wallet


def keyfile(
    path: Path, name: str = "first", content: bytes | None = None, **key: str | int
) -> tuple[str, str, str]:
    """The arguments for a hotkey file with this in it."""
    file = path / "validator" / "hotkeys" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(json.dumps(key).encode() if content is None else content)
    return "validator", str(path), name


# Seeds


@pytest.mark.parametrize(
    "seed",
    [
        ALICE_SEED,
        bytearray(ALICE_SEED),
        memoryview(ALICE_SEED),
        ALICE_SEED.hex(),
        "0x" + ALICE_SEED.hex(),
        "0X" + ALICE_SEED.hex().upper() + "\n",
    ],
    ids=lambda seed: type(seed).__name__,
)
def test_a_seed_in_any_of_its_forms_stays_a_seed(seed: object) -> None:
    signer, hotkey = resolve(seed)
    assert signer == ALICE_SEED and type(signer) is bytes
    assert hotkey == ALICE
    assert is_signature(ALICE, _native.sign(signer, MESSAGE))


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_seed_of_another_length_is_refused(length: int) -> None:
    for call in (resolve, _native.hotkey_of_seed, lambda seed: _native.sign(seed, b"")):
        with pytest.raises(ConfigError, match=rf"expected a sequence of length 32 \(got {length}\)"):
            call(bytes(length))


def test_text_that_is_no_seed_is_refused_without_repeating_it() -> None:
    with pytest.raises(ConfigError, match="64 hex digits") as refused:
        resolve("bottom drive obey lake curtain smoke basket hold race lonely fit walk")
    assert "bottom" not in str(refused.value)


@pytest.mark.parametrize("signer", [None, 7, object(), ["a"], bytearray, bittensor_wallet.Keypair])
def test_what_cannot_sign_is_refused_by_its_type(signer: object) -> None:
    with pytest.raises(ConfigError, match="signer is"):
        resolve(signer)


# Callables


def test_a_callable_gets_the_message_and_its_answer_is_the_signature() -> None:
    keypair = bittensor_wallet.Keypair.create_from_uri("//Alice")
    seen: list[object] = []

    def sign(message: bytes) -> bytes:
        seen.append(message)
        return bytes(keypair.sign(message))

    signer, hotkey = resolve(sign)
    assert signer is sign and hotkey is None
    assert is_signature(ALICE, _native.sign(signer, MESSAGE))
    assert seen == [MESSAGE] and type(seen[0]) is bytes


@pytest.mark.parametrize("form", [bytearray, memoryview, list, tuple])
def test_a_signature_may_be_any_sequence_of_bytes(form: Callable[[bytes], Any]) -> None:
    assert _native.sign(lambda _: form(bytes(64)), b"") == bytes(64)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "returned 0 bytes; a signature is 64"),
        (bytes(63), "returned 63 bytes"),
        (bytes(65), "returned 65 bytes"),
        (None, "returned NoneType, not bytes"),
        ("00" * 64, "returned str, not bytes"),
    ],
)
def test_an_answer_that_is_no_signature_is_a_signing_error(answer: Any, words: str) -> None:
    with pytest.raises(SigningError, match=words) as failed:
        _native.sign(lambda _: answer, MESSAGE)
    assert failed.value.reason == "signing_failed"


def test_a_coroutine_function_is_refused() -> None:
    async def sign(message: bytes) -> bytes:
        return message

    with pytest.raises(ConfigError, match="plain function"):
        resolve(sign)


def test_an_exception_is_a_signing_error_and_its_traceback_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def sign(message: bytes) -> bytes:
        try:
            raise KeyError("slot 3")
        except KeyError as error:
            raise OSError("the token is not plugged in") from error

    with caplog.at_level(logging.ERROR, "btlightning.signing"):
        with pytest.raises(
            SigningError, match="Python signer call failed: OSError: the token is not plugged in"
        ):
            _native.sign(sign, MESSAGE)
    [record] = caplog.records
    assert record.name == "btlightning.signing"
    assert record.exc_info is not None and isinstance(record.exc_info[1], OSError)
    assert isinstance(record.exc_info[1].__cause__, KeyError)
    assert "slot 3" in caplog.text
    assert caplog.text.count("Traceback (most recent call last)") == 2 and ", in sign\n" in caplog.text


def test_a_signer_that_exits_or_has_no_words_is_an_error_like_any_other() -> None:
    def exits(message: bytes) -> bytes:
        raise SystemExit

    with pytest.raises(SigningError, match="SystemExit$"):
        _native.sign(exits, MESSAGE)


# Key pairs


def test_a_key_pair_signs_as_it_is() -> None:
    signer, hotkey = resolve(bittensor_wallet.Keypair.create_from_uri("//Alice"))
    assert hotkey == ALICE
    assert is_signature(ALICE, _native.sign(signer, MESSAGE))


def test_a_key_pair_of_another_kind_of_key_is_refused() -> None:
    with pytest.raises(ConfigError, match="crypto type 0"):
        resolve(bittensor_wallet.Keypair.create_from_uri("//Alice", crypto_type=0))


def test_a_key_pair_without_its_private_key_is_refused() -> None:
    with pytest.raises(SigningError, match=f"{ALICE} does not sign: .*private key"):
        resolve(bittensor_wallet.Keypair(ss58_address=ALICE))


@pytest.mark.parametrize(
    "spell",
    [
        lambda signature: signature,
        lambda signature: signature.hex(),
        lambda signature: "0x" + signature.hex(),
        lambda signature: b"\x01" + signature,
    ],
    ids=["bytes", "hex", "0x", "with its scheme"],
)
def test_an_object_with_an_address_may_spell_its_signature_as_the_packages_do(
    spell: Callable[[bytes], object],
) -> None:
    class Device:
        ss58_address = ALICE

        def sign(self, payload: bytes) -> object:
            assert type(payload) is bytes
            return spell(_native.sign(ALICE_SEED, payload))

    signer, hotkey = resolve(Device())
    assert hotkey == ALICE
    assert is_signature(ALICE, _native.sign(signer, MESSAGE))


# On the wire


def test_key_pairs_of_the_official_packages_make_a_connection_and_a_signer_that_fails_tells_why() -> None:
    validator, miner = (bittensor_wallet.Keypair.create_from_uri(uri) for uri in ("//Alice", "//Bob"))

    def fails(message: bytes) -> bytes:
        raise OSError("the token is not plugged in")

    server = world.new_server(miner)
    server.register_synapse_handler("Echo", world.echo)
    server.start()
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        with world.new_client(validator) as client:
            client.initialize_connections([world.axon(server)])
            assert client.query(world.axon(server), "Echo", {"x": 1}, timeout=world.PATIENCE).data == {"x": 1}
        with Lightning(ALICE) as client:
            client.set_python_signer(fails)
            client.initialize_connections([world.axon(server)])
            with pytest.raises(SigningError, match="OSError: the token is not plugged in"):
                client.query(world.axon(server), "Echo", {"x": 1}, timeout=world.PATIENCE)
    finally:
        server.stop()
        serving.join(world.PATIENCE)


# Wallets


def test_a_wallet_signs_with_its_hotkey(tmp_path: Path) -> None:
    wallet = new_wallet(tmp_path)
    signer, hotkey = resolve(bittensor_wallet.Wallet("validator", "first", str(tmp_path)))
    assert hotkey == wallet.hotkey.ss58_address
    assert is_signature(hotkey, _native.sign(signer, MESSAGE))


def test_a_wallet_without_a_hotkey_is_a_signing_error_that_says_which(tmp_path: Path) -> None:
    with pytest.raises(WalletError, match="'validator' with hotkey 'second'"):
        resolve(bittensor_wallet.Wallet("validator", "second", str(tmp_path)))


def test_a_locked_wallet_is_never_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BT_WALLET_PASSWORD", raising=False)
    name, path, hotkey = keyfile(tmp_path, content=ENCRYPTED)
    with pytest.raises(WalletError, match=r"encrypted.*BT_WALLET_PASSWORD.*BT_PW_.*wallet\.hotkey"):
        resolve(bittensor_wallet.Wallet(name, hotkey, path))


def test_anything_shaped_like_a_wallet_will_do() -> None:
    class Wallet:
        hotkey = bittensor_wallet.Keypair.create_from_uri("//Alice")

    assert resolve(Wallet())[1] == ALICE

    class Misshapen:
        hotkey = ALICE

    with pytest.raises(ConfigError, match="no key pair but str"):
        resolve(Misshapen())


# Wallet files


def test_a_wallet_file_gives_the_seed_that_rust_signs_with(tmp_path: Path) -> None:
    wallet = new_wallet(tmp_path)
    seed = from_wallet_files("validator", str(tmp_path), "first")
    assert isinstance(seed, bytes)
    signer, hotkey = resolve(seed)
    assert hotkey == wallet.hotkey.ss58_address
    assert is_signature(hotkey, _native.sign(signer, MESSAGE))


def test_the_default_path_is_under_the_home_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    keyfile(tmp_path / ".bittensor" / "wallets", "default", secretSeed="0x" + ALICE_SEED.hex())
    os.rename(tmp_path / ".bittensor/wallets/validator", tmp_path / ".bittensor/wallets/default")
    assert from_wallet_files() == ALICE_SEED


@pytest.mark.parametrize(
    "key",
    [
        {"secretSeed": "0x" + ALICE_SEED.hex()},
        {"secretSeed": ALICE_SEED.hex(), "cryptoType": 1, "ss58Address": ALICE},
    ],
)
def test_a_seed_is_enough(tmp_path: Path, key: dict[str, Any]) -> None:
    assert from_wallet_files(*keyfile(tmp_path, **key)) == ALICE_SEED


def test_a_seed_may_stand_alone_in_the_file(tmp_path: Path) -> None:
    content = f"0x{ALICE_SEED.hex()}\n".encode()
    assert from_wallet_files(*keyfile(tmp_path, content=content)) == ALICE_SEED


@pytest.mark.parametrize("secret", ["secretPhrase", "privateKey"])
def test_a_key_that_is_kept_otherwise_is_the_official_packages_to_read(tmp_path: Path, secret: str) -> None:
    wallet = new_wallet(tmp_path)
    whole = json.loads((tmp_path / "validator/hotkeys/first").read_bytes())
    signer, hotkey = resolve(from_wallet_files(*keyfile(tmp_path, "second", **{secret: whole[secret]})))
    assert hotkey == wallet.hotkey.ss58_address
    assert is_signature(hotkey, _native.sign(signer, MESSAGE))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no hotkey file"),
        (b"[1]", "no hotkey file"),
        (b"\xff", "no hotkey file"),
        (b"{" * 70_000, "too large"),
        (b"{}", "no private key"),
        (json.dumps({"ss58Address": ALICE}).encode(), "no private key"),
        (json.dumps({"secretSeed": "0x" + ALICE_SEED.hex(), "cryptoType": 0}).encode(), "not an sr25519"),
        (
            json.dumps({"secretSeed": "0x" + "11" * 32, "ss58Address": ALICE}).encode(),
            f"the file says {ALICE}",
        ),
    ],
)
def test_a_file_that_is_no_hotkey_says_so(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(WalletError, match=words):
        from_wallet_files(*keyfile(tmp_path, content=content))


def test_a_missing_file_says_which(tmp_path: Path) -> None:
    with pytest.raises(WalletError, match="validator/hotkeys/other.*No such file"):
        from_wallet_files("validator", str(tmp_path), "other")


@pytest.mark.parametrize("name", ["", ".", "..", "../first", "a/b", "/etc/passwd", "a\\b", "a\0b"])
def test_a_name_does_not_lead_out_of_the_wallet(tmp_path: Path, name: str) -> None:
    _, path, hotkey = keyfile(tmp_path, secretSeed="0x" + ALICE_SEED.hex())
    for names in ((name, path, hotkey), ("validator", path, name)):
        with pytest.raises(WalletError, match="is no name of"):
            from_wallet_files(*names)


# Made by bittensor_wallet 4.1.1 of Alice's key. To decrypt it takes seconds, which is the point of its form.
ENCRYPTED = base64.b64decode(
    "JE5BQ0ykmSLhef7eEzscIpHRTK/mAOpaBqZatoOyatIR5ZoxRSmUYXLHYpq9J3D8alnXh9USeAdRkDtP+TWskBZi9p7uJoB3vJfKpmnh+TzX"
    "ZjInu8Fp+b/PEK0HApilaXfqwaSmzkaez+oNTgDtKsxTXWeOmkj6tYzohndikiBhdSFqV94Ghnk1T3DaY912+PsgJ/GlnytKXwCvsGxfBCx4"
    "60vUBUf1iSWkONVJH1om/SQkn54OTcQEwE0N2OcFK/bME5sLlFPu8cShRiEp7r2s1uLLnvnJv0ANggTirydQrzY97EBNeFlsmwEN91gncCl5"
    "07pjH2AHQY/9t9oPLaHLwRvyxC72SvZKgX0+ulp+Ds8odlitL12i0SfHmBfP16jgyegTR1y/0oXmbkM93SQxwION9Af0nl/kHoERK2GznMHk"
    "01ypTzqBq0iLJRY0/5omi/ECCMfdg8tvtjkh2cynqsasyWfdIbTowWsjCffeX6TJSKtgnc8LgYCdDdWDyoTnFca3P789QKJDyO+sI6kZ6PCs"
    "D/8IgmHzqf3ejqVkZhUGL+FWNIfZWXBp3BB99KPFKf2xlhkHqPqkzoVHaYHAoJ/ojoWL+EC0PburDh8C4DwLcT6XtoU/e2rXZVy2FS7rRHSR"
    "tTQbIlDb3ydTvFiq/dCEhDvCc8yo6nCH+Cuc0b38"
)
PASSWORD = "Test1234!é"


def variable_of(path: Path) -> tuple[str, str]:
    """The variable and its value, as the Bittensor tools write them."""
    name = "BT_PW_" + str(path / "validator/hotkeys/first").replace("/", "_").replace(".", "_").upper()
    mask = name.encode()
    hidden = bytes(byte ^ mask[at % len(mask)] for at, byte in enumerate(PASSWORD.encode()))
    return name, base64.b64encode(hidden).decode()


def test_an_encrypted_file_is_unlocked_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = keyfile(tmp_path, content=ENCRYPTED)
    name, value = variable_of(tmp_path)
    assert bittensor_wallet.Keyfile(str(tmp_path / "validator/hotkeys/first")).env_var_name() == name
    monkeypatch.setenv(name, value)
    monkeypatch.setenv("BT_WALLET_PASSWORD", "another key's")
    assert from_wallet_files(*where) == ALICE_SEED


def test_an_encrypted_file_without_a_password_is_never_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BT_WALLET_PASSWORD", raising=False)
    where = keyfile(tmp_path, content=ENCRYPTED)
    name, _ = variable_of(tmp_path)
    with pytest.raises(WalletError, match=f"encrypted, and neither BT_WALLET_PASSWORD nor {name} is set"):
        from_wallet_files(*where)
    monkeypatch.setenv(name, "as it is typed!")
    with pytest.raises(WalletError, match=f"{name} holds no password"):
        from_wallet_files(*where)


def test_an_encrypted_file_without_the_official_packages_says_what_to_install(tmp_path: Path) -> None:
    program = """
import sys
sys.modules["bittensor_wallet"] = sys.modules["bittensor_core"] = None
from btlightning._signers import from_wallet_files
from btlightning._errors import WalletError
try:
    from_wallet_files(*sys.argv[1:])
except WalletError as error:
    print(error)
"""
    where = keyfile(tmp_path, content=ENCRYPTED)
    shown = subprocess.run(
        [sys.executable, "-c", program, *where], capture_output=True, text=True, timeout=60
    )
    assert "encrypted" in shown.stdout and "btlightning[wallet]" in shown.stdout, shown


def test_nothing_here_imports_the_official_packages() -> None:
    program = "import sys, btlightning._signers; print([m for m in sys.modules if m.startswith('bittensor')])"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert shown.stdout.strip() == "[]", shown


def test_a_wallets_error_is_a_signing_error_and_a_value_error() -> None:
    # Both what it is and what btlightning 0.2 raised.
    assert issubclass(WalletError, SigningError) and issubclass(WalletError, ValueError)
