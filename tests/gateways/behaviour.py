"""What every gateway must do, whichever it is: the class that each gateway's tests inherit."""

import posixpath
from urllib.parse import unquote

import pytest

from apikeys.models import Actor, Organization, Outcome, RevocationReason, UsageEvent
from tests.factories import make_key, make_revoked_key
from tests.gateways.servers import CLIENT, STRANGER, Api, Gateway, Tap, show

BY = Actor.command()
FORGED = "forged"
FORGED_NAMES = [
    *("X-Key-Id", "X-Key-Organization", "X-Key-Environment", "X-Key-Scopes"),
    *("X-Forwarded-For", "X-Forwarded-Method", "X-Forwarded-Uri", "X-Forwarded-Host", "X-Forwarded-Proto"),
    *("X-Original-Method", "X-Original-URI"),
]
# What a client may try so that another address than its own is believed.
DISGUISES = {
    "nothing": [],
    "X-Forwarded-For": [("X-Forwarded-For", CLIENT)],
    "twice": [("X-Forwarded-For", CLIENT), ("x-forwarded-for", CLIENT)],
    "a list": [("X-Forwarded-For", f"{CLIENT}, 127.0.0.1")],
    "bytes beyond ASCII": [("X-Forwarded-For", CLIENT.encode() + b"\xff")],
    "a list with bytes beyond ASCII": [("X-Forwarded-For", b"\xe9, " + CLIENT.encode())],
    "empty": [("X-Forwarded-For", "")],
    "underscores": [("X_Forwarded_For", CLIENT), ("x_forwarded-for", CLIENT), ("X-Forwarded_For", CLIENT)],
    "other headers": [("Forwarded", f"for={CLIENT}"), ("X-Real-IP", CLIENT), ("Client-IP", CLIENT)],
    "dropped as hop by hop": [("X-Forwarded-For", CLIENT), ("Connection", "close, X-Forwarded-For")],
    "in a request smuggled by length": [("Content-Length", "0"), ("X-Forwarded-For", CLIENT)],
}


def events(issued) -> list[UsageEvent]:
    return list(UsageEvent.objects.filter(key_id=issued.key.pk).order_by("at", "pk"))


class GatewayBehaviour:
    """Subclassed once for each gateway, in whose file the fixture ``gateway`` starts it."""

    # Passing

    def test_a_good_key_passes_and_the_api_is_told_whose_it_is(self, gateway: Gateway, api: Api, protected):
        issued = make_key(protected, scopes=["orders:read", "orders:write"])
        answer = gateway.ask("GET", "/orders/7?page=2", issued.secret.text)
        assert (answer.status, answer.body, answer.headers["X-From-Api"]) == (200, b"ok", "yes")
        [request] = api.reached
        assert (request.method, request.target) == ("GET", "/orders/7?page=2")
        assert request.header("X-Key-Id") == issued.key.public_id
        assert request.header("X-Key-Organization") == protected.slug
        assert request.header("X-Key-Environment") == "prod"
        assert request.header("X-Key-Scopes") == "orders:read orders:write"
        assert request.header("X-Forwarded-For") == CLIENT

    @pytest.mark.parametrize("header", ["Authorization", "X-Api-Key"])
    def test_the_api_does_not_see_the_key(self, gateway: Gateway, api: Api, protected, header):
        secret = make_key(protected).secret.text
        value = f"Bearer {secret}" if header == "Authorization" else secret
        assert gateway.ask(path="/orders/", headers={header: value}).status == 200
        [request] = api.reached
        assert secret not in str(request.headers)

    @pytest.mark.parametrize("change", [str, str.lower, lambda name: name.replace("-", "_")])
    def test_what_a_client_forges_does_not_reach_the_api(self, gateway: Gateway, api: Api, protected, change):
        issued = make_key(protected)
        forged = [(change(name), FORGED) for name in FORGED_NAMES for _ in "ab"]
        assert gateway.ask("GET", "/status/", issued.secret.text, forged).status == 200
        [request] = api.reached
        assert FORGED not in str(request.headers)
        assert (request.header("X-Key-Id"), request.header("X-Key-Scopes")) == (issued.key.public_id, "orders:read")

    def test_a_client_cannot_have_the_headers_dropped_as_hop_by_hop(self, gateway: Gateway, api: Api, protected):
        issued = make_key(protected)
        names = "X-Key-Id, X-Key-Organization, X-Key-Environment, X-Key-Scopes"
        assert gateway.ask("GET", "/orders/", issued.secret.text, {"Connection": f"close, {names}"}).status == 200
        [request] = api.reached
        assert (request.header("X-Key-Id"), request.header("X-Key-Scopes")) == (issued.key.public_id, "orders:read")
        assert "x-key" not in request.header("Connection").lower()  # nor does the next hop drop them

    @pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 502, 503])
    def test_the_api_s_own_refusals_stay_its_own(self, gateway: Gateway, api: Api, protected, status):
        answer = gateway.ask("GET", "/status/", make_key(protected).secret.text, {"X-Answer": str(status)})
        assert (answer.status, answer.body, answer.headers["X-From-Api"]) == (status, b"ok", "yes")
        assert answer.headers["WWW-Authenticate"] is None

    # Refusing

    def test_every_bad_credential_gets_the_same_401(self, gateway: Gateway, api: Api, protected):
        revoked = make_revoked_key(protected).secret.text
        answers = [gateway.ask("GET", "/orders/", key) for key in ("", "nonsense", revoked)]
        challenge = f'Bearer realm="{protected.slug}", error="invalid_token"'
        for answer in answers:
            assert answer.status == 401
            assert answer.headers.get_all("WWW-Authenticate") == [challenge]
            assert "no-store" in answer.headers["Cache-Control"]
        assert len({answer.body for answer in answers}) == 1
        assert not api.reached

    def test_a_missing_scope_is_a_403_that_says_so(self, gateway: Gateway, api: Api, protected):
        answer = gateway.ask("GET", "/payments/", make_key(protected).secret.text)
        assert answer.status == 403
        challenge = f'Bearer realm="{protected.slug}", error="insufficient_scope"'
        assert answer.headers.get_all("WWW-Authenticate") == [challenge]
        assert not api.reached

    def test_a_key_over_its_limit_gets_a_429_that_says_when(self, gateway: Gateway, api: Api, protected):
        secret = make_key(protected, rate_limit=(1, 3600, 1)).secret.text
        first, second = gateway.ask("GET", "/orders/", secret), gateway.ask("GET", "/orders/", secret)
        assert (first.status, second.status) == (200, 429)
        for answer in (first, second):
            assert answer.headers.get_all("RateLimit-Policy") == ['"key";q=1;w=3600']
            assert [value[:10] for value in answer.headers.get_all("RateLimit")] == ['"key";r=0;']
        assert first.headers["Retry-After"] is None
        assert 3500 < int(second.headers["Retry-After"]) <= 3600
        assert len(api.reached) == 1

    def test_a_key_without_a_limit_tells_none(self, gateway: Gateway, api: Api, protected):
        answer = gateway.ask("GET", "/orders/", make_key(protected).secret.text)
        assert answer.status == 200
        assert (
            answer.headers["RateLimit"] is answer.headers["RateLimit-Policy"] is answer.headers["Retry-After"] is None
        )

    def test_a_revocation_ends_a_key_for_the_very_next_request(self, gateway: Gateway, api: Api, protected):
        issued = make_key(protected)
        for _ in range(3):
            assert gateway.ask("GET", "/orders/", issued.secret.text).status == 200
        issued.key.revoke(reason=RevocationReason.LEAKED, by=BY)
        assert gateway.ask("GET", "/orders/", issued.secret.text).status == 401
        assert len(api.reached) == 3
        assert [event.outcome for event in events(issued)] == [Outcome.VALID] * 3 + [Outcome.REVOKED]

    # Failing closed

    def test_a_verifier_whose_database_fails_is_a_503(self, gateway: Gateway, api: Api, protected, request):
        secret = make_key(protected).secret.text
        request.getfixturevalue("broken_database")
        answer = gateway.ask("GET", "/orders/", secret)
        assert (answer.status, answer.headers.get_all("Retry-After")) == (503, ["1"])
        assert not api.reached

    def test_a_verifier_that_is_away_is_a_503(self, gateway: Gateway, api: Api, protected, line: Tap):
        secret = make_key(protected).secret.text
        assert gateway.ask("GET", "/orders/", secret).status == 200
        with line.cut():
            for _ in range(2):
                answer = gateway.ask("GET", "/orders/", secret)
                assert (answer.status, answer.headers.get_all("Retry-After")) == (503, ["1"])
        assert len(api.reached) == 1
        assert gateway.ask("GET", "/orders/", secret).status == 200

    def test_a_verifier_that_does_not_answer_is_a_503(self, gateway: Gateway, api: Api, protected, line: Tap):
        secret = make_key(protected).secret.text
        line.sent = b""
        with line.silent():
            answer = gateway.ask("GET", "/orders/", secret)
        assert (answer.status, answer.headers.get_all("Retry-After")) == (503, ["1"])
        assert not api.reached
        # Each question is recorded, and counted against the limit: one that got no answer is not asked again.
        assert show(line.sent).count("/authorize") == 1

    def test_no_log_has_a_key_in_it(self, gateway: Gateway, api: Api, protected, line: Tap):
        secret = make_key(protected).secret.text
        gateway.ask("GET", "/payments/", secret)
        gateway.ask("GET", "/payments/", headers={"X-Api-Key": secret})
        with line.cut():
            gateway.ask("GET", "/orders/", secret)
            gateway.ask("GET", "/orders/", headers={"X-Api-Key": secret})
        assert secret not in gateway.log()

    # What the verifier is told

    def test_the_event_has_the_client_s_address_method_and_path(self, gateway: Gateway, api: Api, protected):
        issued = make_key(protected, scopes=["orders:write"])
        forged = {
            "X-Original-Method": "GET",
            "X-Original-URI": "/forged",
            "X-Forwarded-Method": "GET",
            "X-Forwarded-Uri": "/forged",
            "X-Forwarded-For": "203.0.113.9",
            "User-Agent": "orders-report/2.1",
        }
        assert gateway.ask("DELETE", "/orders/7/lines%20new?page=2", issued.secret.text, forged).status == 200
        [event] = events(issued)
        assert (event.address, event.method, event.user_agent) == (CLIENT, "DELETE", "orders-report/2.1")
        assert (unquote(event.path), event.scope) == ("/orders/7/lines new", "orders:write")

    @pytest.mark.parametrize("disguise", DISGUISES.values(), ids=DISGUISES)
    def test_networks_are_held_against_the_client_s_own_address(self, gateway: Gateway, api: Api, protected, disguise):
        issued = make_key(protected, networks=[f"{CLIENT}/32"])
        assert gateway.ask("GET", "/orders/", issued.secret.text, disguise, client=STRANGER).status in {400, 403}
        assert not api.reached
        assert gateway.ask("GET", "/orders/", issued.secret.text).status == 200
        assert [event.address for event in events(issued)] in ([CLIENT], [STRANGER, CLIENT])

    @pytest.mark.parametrize("disguise", DISGUISES.values(), ids=DISGUISES)
    def test_a_client_cannot_name_itself(self, gateway: Gateway, api: Api, protected, disguise):
        issued = make_key(protected)
        if gateway.ask("GET", "/orders/", issued.secret.text, disguise, client=STRANGER).status == 200:
            assert [event.address for event in events(issued)] == [STRANGER]

    @pytest.mark.parametrize("is_chunked", [False, True])
    def test_a_body_goes_to_the_api_and_not_to_the_verifier(self, gateway, api, protected, line, is_chunked):
        issued = make_key(protected, scopes=["orders:write"])
        body = b"secret of the body " * 10_000
        line.sent = b""
        answer = gateway.ask(
            "POST", "/orders/", issued.secret.text, {"Cookie": "session=7"}, iter([body]) if is_chunked else body
        )
        assert answer.status == 200
        [request] = api.reached
        assert (request.method, request.body) == ("POST", body)
        asked = show(line.sent)
        assert asked.count("/authorize") == 1
        assert "secret of the body" not in asked
        assert "session=7" not in asked
        assert [event.method for event in events(issued)] == ["POST"]

    # Routes

    def test_each_route_asks_for_its_own_scope(self, gateway: Gateway, api: Api, protected):
        orders = make_key(protected, scopes=["orders:read"]).secret.text
        payments = make_key(protected, scopes=["payments:write"]).secret.text
        for path, status_of_orders, status_of_payments in (
            ("/orders/", 200, 403),
            ("/orders/7?scope=payments:write", 200, 403),
            ("/payments/", 403, 200),
            ("/payments/7?scope=orders:read", 403, 200),
            ("/status/", 200, 200),
        ):
            assert gateway.ask("GET", path, orders).status == status_of_orders, path
            assert gateway.ask("GET", path, payments).status == status_of_payments, path

    def test_a_route_may_ask_for_another_scope_to_write(self, gateway: Gateway, api: Api, protected: Organization):
        secret = make_key(protected, scopes=["orders:read"]).secret.text
        for method, status in {"GET": 200, "HEAD": 200, "POST": 403, "PUT": 403, "DELETE": 403}.items():
            assert gateway.ask(method, "/orders/", secret).status == status, method

    @pytest.mark.parametrize("path", ["/", "/ordersx", "/other/", "/v1/northwind/authorize", "/keyadmin-authorize"])
    def test_a_path_without_a_route_reaches_nothing(self, gateway: Gateway, api: Api, protected, path):
        issued = make_key(protected)
        assert gateway.ask("GET", path, issued.secret.text).status == 404
        assert not events(issued)
        assert not api.reached

    @pytest.mark.parametrize(
        "path",
        [
            "/orders/../payments/7",
            "/orders/./../payments/7",
            "/orders/%2e%2e/payments/7",
            "/orders/%2E%2E%2Fpayments/7",
            "/orders/..%2fpayments/7",
            "/orders/x/..//../payments/7",
            "/orders//../../payments/7",
            "//payments/7",
            "/%70ayments/7",
            "/status/../payments/7",
        ],
    )
    def test_no_spelling_of_a_path_is_another_route(self, gateway: Gateway, api: Api, protected, path):
        orders = make_key(protected, scopes=["orders:read"]).secret.text
        status = gateway.ask("GET", path, orders).status
        # A gateway may also make a plain path of it, and hand on that.
        plain = [posixpath.normpath(unquote(request.target)) for request in api.reached]
        assert (status, plain) in [(400, []), (403, []), (404, []), (200, ["/orders/payments/7"])]

    def test_nothing_is_cached(self, gateway: Gateway, api: Api, protected: Organization):
        issued = make_key(protected)
        for _ in range(5):
            gateway.ask("GET", "/orders/7", issued.secret.text)
        assert len(events(issued)) == len(api.reached) == 5
