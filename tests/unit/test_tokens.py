"""Tokens: what is let in, and every forgery that is not."""

import base64
import hmac
import json
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jose import jwt
from tests.support.clock import FakeClock

from taskyard.auth.tokens import MAX_TOKEN_LENGTH, SECRET_FILE, Tokens, kept_secret
from taskyard.errors import StartupError, Unauthenticated
from taskyard.principal import Principal, Role, authenticated

SECRET = "k" * 32


@pytest.fixture
def tokens(clock: FakeClock) -> Tokens:
    return Tokens(SECRET, clock)


def claims(clock: FakeClock, **changes: Any) -> dict[str, Any]:
    """Good claims, with changes; None takes one away."""
    now = int(clock.now().timestamp())
    good = {
        "sub": "ann",
        "role": "user",
        "instances": ["default"],
        "iss": "taskyard",
        "aud": "taskyard",
        "iat": now,
        "exp": now + 60,
    }
    return {name: value for name, value in (good | changes).items() if value is not None}


def signed(body: Any, *, header: Any = None, secret: str = SECRET) -> str:
    """A token made by hand, with a right HS256 signature whatever its header says."""

    def part(value: Any) -> bytes:
        raw = value if isinstance(value, bytes) else json.dumps(value).encode()
        return base64.urlsafe_b64encode(raw).rstrip(b"=")

    head = part({"alg": "HS256", "typ": "JWT"} if header is None else header)
    message = head + b"." + part(body)
    return (message + b"." + part(hmac.digest(secret.encode(), message, "sha256"))).decode()


def refused(tokens: Tokens, token: str) -> None:
    with pytest.raises(Unauthenticated) as caught:
        tokens.verify(token)
    assert caught.value.code == "UNAUTHENTICATED"
    assert SECRET not in str(caught.value)


def test_what_is_issued_is_accepted(tokens: Tokens, clock: FakeClock) -> None:
    token = tokens.issue("ann", Role.ADMIN, ["a", "b"], timedelta(minutes=5))
    expected = Principal("ann", Role.ADMIN, frozenset({"a", "b"}), clock.now() + timedelta(minutes=5))
    assert tokens.verify(token) == expected


def test_the_helpers_of_this_test_make_good_tokens(tokens: Tokens, clock: FakeClock) -> None:
    # Otherwise the refusals below would show nothing.
    assert tokens.verify(signed(claims(clock))).subject == "ann"
    assert tokens.verify(jwt.encode(claims(clock), SECRET, algorithm="HS256")).subject == "ann"


def test_a_token_expires_by_the_clock_that_was_given(tokens: Tokens, clock: FakeClock) -> None:
    token = tokens.issue("ann", Role.USER, ["default"], timedelta(seconds=10))
    clock.advance(9.999)
    tokens.verify(token)
    clock.advance(0.001)
    refused(tokens, token)


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": None},
        {"aud": None},
        {"iss": None},
        {"sub": None},
        {"role": None},
        {"instances": None},
        {"aud": "other"},
        {"aud": ["other", "more"]},
        {"aud": 5},
        {"iss": "other"},
        {"sub": ""},
        {"sub": 5},
        {"sub": ["ann"]},
        {"role": "root"},
        {"role": "ADMIN"},
        {"role": ["admin"]},
        {"role": {"a": 1}},
        {"instances": "default"},
        {"instances": ["default", 5]},
        {"instances": [""]},
        {"instances": {"default": True}},
        {"instances": [["default"]]},
        {"exp": "soon"},
        {"exp": [1]},
        {"exp": 10**18},
        {"exp": -1},
        {"nbf": 10**11},
    ],
)
def test_claims_that_are_missing_or_wrong(tokens: Tokens, clock: FakeClock, changes: dict[str, Any]) -> None:
    refused(tokens, signed(claims(clock, **changes)))


def test_an_audience_among_others_is_ours(tokens: Tokens, clock: FakeClock) -> None:
    assert tokens.verify(signed(claims(clock, aud=["other", "taskyard"]))).subject == "ann"


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", None, "HS384", "RS256", "ES256", ["HS256"], 5])
def test_only_our_algorithm_counts(tokens: Tokens, clock: FakeClock, algorithm: Any) -> None:
    refused(tokens, signed(claims(clock), header={"alg": algorithm, "typ": "JWT"}))


def test_a_header_without_algorithm(tokens: Tokens, clock: FakeClock) -> None:
    refused(tokens, signed(claims(clock), header={"typ": "JWT"}))


def test_no_signature_at_all(tokens: Tokens, clock: FakeClock) -> None:
    good = signed(claims(clock))
    head, body, _ = good.split(".")
    unsigned = signed(claims(clock), header={"alg": "none", "typ": "JWT"}).rsplit(".", 1)[0]
    for token in (f"{head}.{body}.", f"{head}.{body}", f"{unsigned}.", unsigned):
        refused(tokens, token)


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_a_good_signature_of_another_algorithm(tokens: Tokens, clock: FakeClock, algorithm: str) -> None:
    refused(tokens, jwt.encode(claims(clock), SECRET, algorithm=algorithm))


def test_confusion_of_public_and_shared_keys(clock: FakeClock) -> None:
    private = rsa.generate_private_key(65537, 2048)
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    by_key = jwt.encode(claims(clock), pem.decode(), algorithm="RS256")
    refused(Tokens(SECRET, clock), by_key)
    refused(Tokens(public.decode(), clock), by_key)  # a public key as our secret verifies nothing
    refused(Tokens(SECRET, clock), signed(claims(clock), secret=public.decode()))


def test_another_key(tokens: Tokens, clock: FakeClock) -> None:
    refused(tokens, signed(claims(clock), secret="x" * 32))


def test_changed_after_signing(tokens: Tokens, clock: FakeClock) -> None:
    head, body, signature = signed(claims(clock)).split(".")
    other = signed(claims(clock, role="admin")).split(".")[1]
    assert other != body
    refused(tokens, f"{head}.{other}.{signature}")


@pytest.mark.parametrize("token", ["", ".", "..", "...", "a.b.c", "ä.ö.ü", "\ud800", "x" * 100, "\0.\0.\0"])
def test_what_is_no_token(tokens: Tokens, token: str) -> None:
    refused(tokens, token)


def test_a_token_that_is_too_long_is_not_read(tokens: Tokens, clock: FakeClock) -> None:
    padding = 3000 - len(signed(claims(clock)))
    assert tokens.verify(signed(claims(clock, extra="x" * (padding // 2)))).subject == "ann"
    long = signed(claims(clock, extra="x" * MAX_TOKEN_LENGTH))
    with pytest.raises(Unauthenticated, match="too long"):
        tokens.verify(long)


@pytest.mark.parametrize("depth", [500, 1400, 100_000])
def test_nesting_breaks_nothing(tokens: Tokens, clock: FakeClock, depth: int) -> None:
    nested = b'{"alg":' + b"[" * depth + b"]" * depth + b"}"
    refused(tokens, signed(claims(clock), header=nested))
    refused(tokens, signed(nested))
    refused(tokens, signed(b"[" * depth))


def test_a_body_that_is_no_object(tokens: Tokens) -> None:
    for body in ([], "text", 5, None):
        refused(tokens, signed(body))


def test_nobody_is_not_let_in() -> None:
    ann = Principal("ann", Role.USER, frozenset({"default"}))
    assert authenticated(ann) is ann
    with pytest.raises(Unauthenticated):
        authenticated(None)


# -- the kept secret --------------------------------------------------------------------------


def test_a_secret_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "data"
    secret = kept_secret(folder)
    assert len(secret) >= 32
    assert (folder / SECRET_FILE).stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert kept_secret(folder) == secret
    assert [path.name for path in folder.iterdir()] == [SECRET_FILE], "nothing is left lying about"
    assert kept_secret(tmp_path / "other") != secret


def test_who_starts_at_once_gets_one_secret(tmp_path: Path) -> None:
    for round_ in range(20):
        folder = tmp_path / str(round_)
        together = threading.Barrier(8)
        found: list[str] = []

        def take(folder: Path = folder, together: threading.Barrier = together, found: list[str] = found) -> None:
            together.wait()
            found.append(kept_secret(folder))

        threads = [threading.Thread(target=take) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 8
        assert len(set(found)) == 1
        assert [path.name for path in folder.iterdir()] == [SECRET_FILE]


def test_a_secret_that_is_too_short(tmp_path: Path) -> None:
    (tmp_path / SECRET_FILE).write_text("short\n")
    with pytest.raises(StartupError, match="too short") as caught:
        kept_secret(tmp_path)
    assert str(tmp_path) in caught.value.message


def test_a_secret_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / SECRET_FILE).mkdir()
    with pytest.raises(StartupError, match="cannot be read"):
        kept_secret(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(StartupError, match="cannot be read"):
        kept_secret(tmp_path / "file" / "data")
