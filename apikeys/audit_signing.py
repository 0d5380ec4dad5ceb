"""Signs how far an audit log has got, and checks such signatures: Ed25519 (RFC 8032).

The key is derived from the newest of KEY_PEPPERS with HKDF (RFC 5869), and kept nowhere.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from typing import IO, Any, Final, NamedTuple

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.conf import settings

from apikeys.models import AuditChain, AuditCheckpoint
from apikeys.models.audit_chain import time_text

_MAX_LINE: Final = 10_000
_NAMES: Final = {"at": str, "hash": str, "key": str, "organization": int, "sequence": int, "signature": str}


class Checkpoint(NamedTuple):
    """A statement that was checked: that the entry at a place of an organization's chain had this hash."""

    organization: int
    sequence: int
    hash: str
    at: str


class CheckpointError(Exception):
    """A text that is no checkpoint, or one that is not signed by a key that is trusted; the message says which."""


def public_keys() -> list[str]:
    """Return the public keys of this installation in base64, the one that signs first."""
    return [_public(_private(number)) for number in sorted(settings.KEY_PEPPERS, reverse=True)]


def sign(chain: AuditChain, at: datetime) -> AuditCheckpoint:
    """Return a signed checkpoint of a chain as it is, not yet saved."""
    key = _private(max(settings.KEY_PEPPERS))
    made = AuditCheckpoint(
        number=chain.number, sequence=chain.sequence, hash=chain.hash, at=at, key=_public(key), signature=""
    )
    made.signature = base64.b64encode(key.sign(_signed(statement_of(made)))).decode()
    return made


def statement_of(checkpoint: AuditCheckpoint) -> dict[str, Any]:
    """Return what a checkpoint says, as it is mailed and as check() takes it."""
    return {
        "at": time_text(checkpoint.at),
        "hash": checkpoint.hash,
        "key": checkpoint.key,
        "organization": checkpoint.number,
        "sequence": checkpoint.sequence,
        "signature": checkpoint.signature,
    }


def check(told: object, trusted: Collection[str]) -> Checkpoint:
    """Return what a checkpoint says. Raises CheckpointError unless a trusted key signed exactly that."""
    if not isinstance(told, dict) or {name: type(value) for name, value in told.items()} != _NAMES:
        raise CheckpointError(f"A checkpoint has {', '.join(_NAMES)}, and nothing else.")
    if told["key"] not in trusted:
        raise CheckpointError(
            f"The checkpoint of entry {told['sequence']} is signed by another key, {told['key'][:44]}."
        )
    try:
        signature = base64.b64decode(told["signature"], validate=True)
        _loaded(told["key"]).verify(signature, _signed(told))
    except (InvalidSignature, ValueError, TypeError):
        raise CheckpointError(f"The signature of the checkpoint of entry {told['sequence']} is wrong.") from None
    return Checkpoint(told["organization"], told["sequence"], told["hash"], told["at"])


def checkpoints_in(file: IO[bytes], trusted: Collection[str]) -> Iterator[Checkpoint]:
    """Yield the checkpoints of a file, a JSON object in each line. Raises CheckpointError where one is not right."""
    number = 0
    while line := file.readline(_MAX_LINE + 1):
        number += 1
        if not line.strip():
            continue
        try:
            told = json.loads(line) if len(line) <= _MAX_LINE else None
        except (ValueError, RecursionError) as error:
            raise CheckpointError(f"Line {number} is no checkpoint: {error}") from None
        yield check(told, trusted)


def kept(number: int) -> Iterable[Checkpoint]:
    """Yield the checkpoints that the database has of a chain. Raises CheckpointError where one is not ours."""
    trusted = public_keys()
    for checkpoint in AuditCheckpoint.objects.filter(number=number).order_by("sequence").iterator(chunk_size=1000):
        yield check(statement_of(checkpoint), trusted)


def check_key(text: str) -> str:
    """Return a public key in base64. Raises ValueError for what is none."""
    try:
        return _public_text(_loaded(text))
    except ValueError:
        raise ValueError("is no Ed25519 public key in base64, of 44 characters.") from None


def _private(pepper_number: int) -> Ed25519PrivateKey:
    derived = HKDF(SHA256(), 32, salt=None, info=b"keyadmin audit checkpoint").derive(
        settings.KEY_PEPPERS[pepper_number]
    )
    return Ed25519PrivateKey.from_private_bytes(derived)


def _public(key: Ed25519PrivateKey) -> str:
    return _public_text(key.public_key())


def _public_text(key: Ed25519PublicKey) -> str:
    return base64.b64encode(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()


def _loaded(text: str) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(base64.b64decode(text, validate=True))


def _signed(statement: dict[str, Any]) -> bytes:
    """Return what is signed: the statement without its signature, after RFC 8785."""
    return orjson.dumps({name: statement[name] for name in sorted(_NAMES) if name != "signature"})
