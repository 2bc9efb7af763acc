"""Who signs: what users have for a hotkey, as what the native half takes.

The objects of the official packages are known by what they have, not by their classes: those packages differ in how they
are built from version to version, and none of them is imported here unless a wallet file needs it.
"""

from __future__ import annotations

import base64
import binascii
import importlib
import inspect
import json
import logging
import os
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, Union

from . import _native
from ._errors import ConfigError, SigningError, WalletError, text_of, words_of

_log = logging.getLogger("btlightning.signing")

NativeSigner: TypeAlias = Union[bytes, Callable[[bytes], bytes]]
"""A seed of 32 bytes, with which Rust signs alone; or a callable that gets the message and returns the 64 bytes."""

_SR25519 = 1
_SIGNATURE_BYTES = 64
_HEX_SEED = re.compile(r"(?:0[xX])?([0-9a-fA-F]{64})")

_PASSWORD_VARIABLE = "BT_WALLET_PASSWORD"
_KEYFILE_BYTES_MAX = 64 * 1024
_ENCRYPTED = (b"$NACL", b"$ANSIBLE_VAULT", b"gAAAAA")

_MISSING = object()


def seed_bytes(seed: Any) -> bytes:
    """A seed as bytes. A number, of which ``bytes`` would make so many zeros, is none."""
    if isinstance(seed, str) or not isinstance(seed, (bytes, bytearray, memoryview, Sequence)):
        raise TypeError(f"a seed is 32 bytes, not {type(seed).__name__}")
    return bytes(seed)


def resolve(signer: Any) -> tuple[NativeSigner, str | None]:
    """What the native half takes for ``signer``, and its hotkey (SS58) if that is known without signing.

    ``signer`` may be a seed (32 bytes, or 64 hex digits with or without ``0x``), a ``Wallet`` of ``bittensor`` 11 or of
    ``bittensor_wallet``, a key pair of theirs or anything else with ``ss58_address`` and ``sign``, or a callable that
    gets the message as ``bytes`` and returns the 64 bytes of an sr25519 signature. The callable and the objects' ``sign``
    are called on a thread of btlightning's, one call at a time.

    Nothing is asked on the terminal: the password of a wallet whose hotkey is encrypted is that of the environment (see
    :func:`from_wallet_files`), unless the wallet is unlocked already.

    Raises :class:`ConfigError` for what cannot be a signer, and for keys that are not sr25519; :class:`WalletError` when
    the wallet's hotkey is not there or cannot be unlocked; :class:`SigningError` when a key pair has no private key.
    """
    if isinstance(signer, (bytes, bytearray, memoryview)):
        seed = bytes(signer)
        return seed, _native.hotkey_of_seed(seed)
    if isinstance(signer, str):
        if (digits := _HEX_SEED.fullmatch(signer.strip())) is None:
            # What it is instead is not repeated: it may be a mnemonic.
            raise ConfigError("a signer given as text is a seed: 64 hex digits", "config")
        seed = bytes.fromhex(digits[1])
        return seed, _native.hotkey_of_seed(seed)
    if isinstance(signer, type):
        raise ConfigError(f"a signer is an object, not the class {signer.__name__}", "config")
    if _has(signer, "hotkey"):
        return _of_keypair(_hotkey_of_wallet(signer))
    if _has(signer, "ss58_address") and _has(signer, "sign"):
        return _of_keypair(signer)
    if callable(signer):
        if inspect.iscoroutinefunction(signer):
            raise ConfigError("a signer is a plain function, not a coroutine function", "config")
        return signer, None
    raise ConfigError(
        "a signer is a seed (32 bytes, or 64 hex digits), a wallet, a key pair or a callable, "
        f"not {type(signer).__name__}",
        "config",
    )


def from_wallet_files(
    wallet_name: str = "default", wallet_path: str = "~/.bittensor/wallets", hotkey_name: str = "default"
) -> object:
    """What :func:`resolve` takes, out of the file ``<wallet_path>/<wallet_name>/hotkeys/<hotkey_name>``.

    That is the seed, or a key pair of the official packages when the file has none.

    A plain file needs nothing else. An encrypted one needs ``bittensor_wallet`` or ``bittensor`` 11, and the password in the
    environment: in the variable ``BT_PW_<PATH>`` that the Bittensor tools write, or as it is typed in
    ``BT_WALLET_PASSWORD``. Decrypting takes some seconds and 512 MiB, by the design of the files, and those packages do
    it with the GIL held; nothing is asked on the terminal.

    Raises :class:`WalletError` when there is no sr25519 private key to be had, saying why.
    """
    for what, name in (("wallet", wallet_name), ("hotkey", hotkey_name)):
        if not name or name in (".", "..") or any(mark in name for mark in "/\\\0"):
            raise WalletError(f"{name!r} is no name of a {what}", "signing_failed")
    path = os.path.join(os.path.expanduser(wallet_path), wallet_name, "hotkeys", hotkey_name)
    data = _read(path)
    if data.startswith(_ENCRYPTED):
        data = _decrypt(data, path)
    return _of_keyfile(data, path)


# Objects of the official packages


def _has(obj: object, name: str) -> bool:
    """Whether there is such an attribute, without computing it: a wallet's ``hotkey`` may ask for a password."""
    return inspect.getattr_static(obj, name, _MISSING) is not _MISSING


def _hotkey_of_wallet(wallet: Any) -> object:
    where = f"the wallet {getattr(wallet, 'name', '?')!r} with hotkey {getattr(wallet, 'hotkey_str', '?')!r}"
    try:
        keypair = _keypair_of_wallet(wallet)
    except WalletError:
        raise
    except Exception as error:
        raise WalletError(f"no hotkey of {where}: {_words(error)}", "signing_failed") from error
    if keypair is None:
        raise WalletError(f"no hotkey of {where}", "signing_failed")
    if not (_has(keypair, "ss58_address") and _has(keypair, "sign")):
        raise ConfigError(f"the hotkey of {where} is no key pair but {type(keypair).__name__}", "config")
    return keypair


def _keypair_of_wallet(wallet: Any) -> Any:
    # Of a locked wallet, `.hotkey` asks for the password. Of an unlocked one it does not, but only the wallets of
    # `bittensor` 11 let it be known that they are.
    file: Any = getattr(wallet, "hotkey_file", None)
    if file is None or getattr(wallet, "_hotkey", None) is not None or not file.is_encrypted():
        return wallet.hotkey
    try:
        password = _password(file.env_var_name(), file.path)
    except WalletError as error:
        advice = "or unlock the wallet and give its key pair, wallet.hotkey"
        raise WalletError(f"{error}; {advice}", error.reason) from None
    return wallet.get_hotkey(password)


def _of_keypair(keypair: Any) -> tuple[NativeSigner, str | None]:
    crypto_type = getattr(keypair, "crypto_type", _SR25519)
    if crypto_type != _SR25519:
        raise ConfigError(
            f"a hotkey is an sr25519 key; this key pair has crypto type {crypto_type}", "config"
        )
    hotkey = keypair.ss58_address
    sign = keypair.sign

    def signer(message: bytes) -> bytes:
        return _signature(sign(message))

    # A key pair can be made of an address alone. The classes named so sign in microseconds and ask nobody, so it shows here
    # rather than at the first connection. Other objects may be a device with a button.
    if type(keypair).__name__ == "Keypair":
        try:
            signer(b"btlightning: can this key pair sign?")
        except Exception as error:
            raise SigningError(
                f"the key pair of {hotkey} does not sign: {_words(error)}", "signing_failed"
            ) from error
    return signer, hotkey


def _signature(signature: Any) -> bytes:
    """The 64 bytes, of what the packages' versions return. What is something else is refused where it is used."""
    if isinstance(signature, str):
        signature = bytes.fromhex(signature.removeprefix("0x"))
    # With its scheme in front, as devices return it.
    if isinstance(signature, bytes) and len(signature) == _SIGNATURE_BYTES + 1 and signature[0] == _SR25519:
        signature = signature[1:]
    return signature  # type: ignore[no-any-return]


# Wallet files


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(_KEYFILE_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        raise WalletError(
            f"the hotkey file {path} cannot be read: {_words(error)}", "signing_failed"
        ) from error
    if len(data) > _KEYFILE_BYTES_MAX:
        raise WalletError(f"{path} is no hotkey file: it is too large", "signing_failed")
    return data


def _of_keyfile(data: bytes, path: str) -> object:
    key = _parse(data, path)
    crypto_type = key.get("cryptoType", _SR25519)
    if crypto_type != _SR25519:
        raise WalletError(f"the hotkey in {path} is not an sr25519 key", "signing_failed")
    address = key.get("ss58Address")
    if (seed := _HEX_SEED.fullmatch(str(key.get("secretSeed", "")))) is not None:
        signer = bytes.fromhex(seed[1])
        if address in (None, _native.hotkey_of_seed(signer)):
            return signer
    if not any(key.get(secret) for secret in ("secretSeed", "secretPhrase", "privateKey")):
        raise WalletError(f"there is no private key in {path}", "signing_failed")
    # A mnemonic or an expanded private key, which Rust here does not derive keys from.
    packages = _wallet_packages(f"the hotkey in {path} is not kept as a seed")
    try:
        keypair = packages.deserialize_keypair_from_keyfile_data(data)
        found = keypair.ss58_address
    except Exception as error:
        raise WalletError(f"there is no hotkey in {path}: {_words(error)}", "signing_failed") from error
    if address not in (None, found):
        raise WalletError(
            f"the private key in {path} is that of {found}, and the file says {address}", "signing_failed"
        )
    return keypair


def _parse(data: bytes, path: str) -> Mapping[str, Any]:
    try:
        text = data.decode().strip()
        if _HEX_SEED.fullmatch(text):
            return {"secretSeed": text}
        key = json.loads(text)
    except ValueError:
        key = None
    if not isinstance(key, dict):
        # Neither the parser's words nor the content: either may be the key.
        raise WalletError(f"{path} is no hotkey file", "signing_failed")
    return key


def _decrypt(data: bytes, path: str) -> bytes:
    packages = _wallet_packages(f"the hotkey in {path} is encrypted")
    variable = "BT_PW_" + path.replace(os.sep, "_").replace(".", "_").upper()
    password = _password(variable, path)
    try:
        return bytes(packages.decrypt_keyfile_data(data, password))
    except Exception as error:
        raise WalletError(
            f"the hotkey in {path} cannot be decrypted: {_words(error)}", "signing_failed"
        ) from error


def _wallet_packages(why: str) -> Any:
    """The part of the official packages that knows wallet files, whichever of them is installed."""
    for name in ("bittensor_wallet.keyfile", "bittensor_core"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise WalletError(
        f"{why}, which needs another package: pip install 'btlightning[wallet]'", "signing_failed"
    )


def _password(variable: str, path: str) -> str:
    """The password of an encrypted hotkey. Never empty: the official packages would ask for it on the terminal."""
    if written := os.environ.get(variable):
        try:
            hidden = base64.b64decode(written, validate=True)
            mask = variable.encode()
            password = bytes(byte ^ mask[at % len(mask)] for at, byte in enumerate(hidden)).decode()
        except (binascii.Error, ValueError):
            raise WalletError(
                f"{variable} holds no password as the Bittensor tools write it", "signing_failed"
            ) from None
    else:
        password = os.environ.get(_PASSWORD_VARIABLE, "")
    if not password:
        raise WalletError(
            f"the hotkey in {path} is encrypted, and neither {_PASSWORD_VARIABLE} nor {variable} is set",
            "signing_failed",
        )
    return password


def _words(error: Exception) -> str:
    return text_of(error) or type(error).__name__


def start_thread(desk: _native.SignerThread) -> None:
    """Has a thread call the signer for what lies on its desk, until the client or server lets go of it."""
    threading.Thread(target=_sign, args=(desk,), name="btlightning-signer", daemon=True).start()


def _sign(desk: _native.SignerThread) -> None:
    while (asked := desk.take()) is not None:
        signer, message, signature = asked
        try:
            signature.made(signer(message))
        except BaseException as error:
            _log.error("the signer raised an exception", exc_info=error)
            signature.failed(words_of(error))
        # Nothing of it stays alive while nothing is to be signed.
        del asked, signer, message, signature
