"""Second factors in tests: the pages of django-allauth, and setting one up as a person does."""

import json
import time

from allauth.mfa.totp.internal import auth as totp
from django.test import Client

from tests.factories import PASSWORD

LOGIN, CODE, INDEX = "/accounts/login/", "/accounts/2fa/authenticate/", "/accounts/2fa/"
TOTP_ON, TOTP_OFF = "/accounts/2fa/totp/activate/", "/accounts/2fa/totp/deactivate/"
CODES, NEW_CODES = "/accounts/2fa/recovery-codes/", "/accounts/2fa/recovery-codes/generate/"
ADD, WITH_PASSKEY = "/accounts/2fa/webauthn/add/", "/accounts/2fa/webauthn/login/"
STEP, DAY = 30, 24 * 3600


AGAIN = "/accounts/reauthenticate/"


class Clock:
    """The seconds since 1970, five after a step began."""

    def __init__(self):
        self.now = time.time() // STEP * STEP + 5

    def __call__(self):
        return self.now

    def on(self, seconds):
        self.now += seconds


def code_of(secret, clock, steps=0):
    return totp.format_hotp_value(totp.hotp_value(secret, int(clock.now) // STEP + steps))


def set_up_app(client, clock):
    """Set up an authenticator app as a person does, and return its secret."""
    secret = client.get(TOTP_ON).context["form"].secret
    response = client.post(TOTP_ON, {"code": code_of(secret, clock)})
    assert response["Location"] == CODES
    return secret


def add_passkey(client, passkey, *, alone=True, **other):
    options = client.get(ADD).context["js_data"]["creation_options"]
    credential = passkey.create(plain(options), alone=alone, **other)
    form = {"name": "Laptop", "credential": credential} | ({"passwordless": "on"} if alone else {})
    return client.post(ADD, form)


def give_password(email="olga@example.com", password=PASSWORD):
    client = Client()
    return client, client.post(LOGIN, {"login": email, "password": password})


def plain(options):
    """Return what a page tells the browser, as the browser reads it."""
    return json.loads(json.dumps(options))
