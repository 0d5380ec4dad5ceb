"""A passkey in software: what a browser and its authenticator say, with a real key and real signatures."""

import base64
import hashlib
import json
import secrets
import struct

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from fido2.cose import ES256
from fido2.utils import websafe_encode
from fido2.webauthn import AttestationObject, AttestedCredentialData, AuthenticatorData

ORIGIN = "http://localhost:8000"
PRESENT, VERIFIED, ATTESTED = 0x01, 0x04, 0x40


class Passkey:
    """One passkey, for the site at an origin."""

    def __init__(self, origin=ORIGIN, host="localhost"):
        self.origin, self.host = origin, host
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.id = secrets.token_bytes(16)
        self.user_handle = b""

    def create(self, options, flags=PRESENT | VERIFIED, *, alone=True, **other):
        """Answer navigator.credentials.create()."""
        asked = options["publicKey"]
        self.user_handle = asked["user"]["id"]
        credential = AttestedCredentialData.create(
            b"\0" * 16, self.id, ES256.from_cryptography_key(self._key.public_key())
        )
        data = AuthenticatorData.create(self._host_hash(), flags | ATTESTED, 0, credential)
        attested = AttestationObject.create("none", data, {})
        said = {
            "clientDataJSON": self._client_data("webauthn.create", asked["challenge"], other),
            "attestationObject": websafe_encode(attested),
        }
        return self._credential(said, {"credProps": {"rk": alone}})

    def get(self, options, flags=PRESENT | VERIFIED, *, key=None, **other):
        """Answer navigator.credentials.get(), signed with this key or with another one."""
        client_data = self._client_data("webauthn.get", options["publicKey"]["challenge"], other)
        data = self._host_hash() + struct.pack(">BI", flags, 0)
        signed = data + hashlib.sha256(_decoded(client_data)).digest()
        said = {
            "clientDataJSON": client_data,
            "authenticatorData": websafe_encode(data),
            "signature": websafe_encode((key or self._key).sign(signed, ec.ECDSA(hashes.SHA256()))),
            "userHandle": other.get("user_handle", self.user_handle),
        }
        return self._credential(said, {})

    def _client_data(self, kind, challenge, other):
        said = {"type": kind, "challenge": challenge, "origin": other.get("origin", self.origin), "crossOrigin": False}
        return websafe_encode(json.dumps(said).encode())

    def _host_hash(self):
        return hashlib.sha256(self.host.encode()).digest()

    def _credential(self, said, extensions):
        handle = websafe_encode(self.id)
        told = {"id": handle, "rawId": handle, "type": "public-key", "response": said}
        return json.dumps(told | {"clientExtensionResults": extensions})


def _decoded(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
