"""JSON Web Tokens, HS256, by python-jose; nothing else of the project imports it."""

import secrets
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from jose import jwt

from taskyard.clock import Clock
from taskyard.errors import StartupError, Unauthenticated
from taskyard.principal import Principal, Role
from taskyard.settings import MIN_SECRET_BYTES, Settings

ALGORITHM = "HS256"
ISSUER = AUDIENCE = "taskyard"
SECRET_FILE = "jwt_secret"  # noqa: S105 - a name, not the secret
#: A longer token is refused unread: a header nested a thousand deep breaks the parser.
MAX_TOKEN_LENGTH = 4096

#: The expiry is asked for and checked here, by the clock that was given.
_CHECKS = {f"require_{claim}": True for claim in ("aud", "iss", "sub")} | {
    "verify_exp": False,
    "verify_at_hash": False,
}
_REFUSED = "this token is not valid, or has expired"


class Tokens:
    """Makes and checks tokens with one key."""

    def __init__(self, secret: str, clock: Clock) -> None:
        self._secret = secret
        self._clock = clock

    def issue(self, subject: str, role: Role, instances: list[str], ttl: timedelta) -> str:
        """A signed token that is valid for `ttl` from now."""
        now = self._clock.now()
        claims = {
            "sub": subject,
            "role": role.value,
            "instances": instances,
            "iss": ISSUER,
            "aud": AUDIENCE,
            "iat": int(now.timestamp()),
            "exp": int((now + ttl).timestamp()),
        }
        return str(jwt.encode(claims, self._secret, algorithm=ALGORITHM))

    def verify(self, token: str) -> Principal:
        """Who bears this token. Raises `Unauthenticated` for one that is bad or expired."""
        if len(token) > MAX_TOKEN_LENGTH:
            raise Unauthenticated("this token is too long")
        try:
            claims = jwt.decode(
                token, self._secret, algorithms=[ALGORITHM], audience=AUDIENCE, issuer=ISSUER, options=_CHECKS
            )
            principal = _principal(claims)
        except Exception as error:
            # Broadly: the parser answers some malformed tokens with errors of its own kind.
            raise Unauthenticated(_REFUSED) from error
        if principal.expires_at is None or principal.expires_at <= self._clock.now():
            raise Unauthenticated(_REFUSED)
        return principal


def _principal(claims: dict[str, Any]) -> Principal:
    instances = claims["instances"]
    if not isinstance(instances, list) or not all(isinstance(one, str) and one for one in instances):
        raise ValueError("instances must be a list of names")
    if not claims["sub"]:
        raise ValueError("sub must name somebody")
    return Principal(
        subject=claims["sub"],
        role=Role(claims["role"]),
        instances=frozenset(instances),
        expires_at=datetime.fromtimestamp(claims["exp"], UTC),
    )


def known_secret(settings: Settings) -> str:
    """The secret that tokens are signed with here: of the settings, or the one that the data folder keeps.

    Makes none: nobody would know it. Raises `StartupError` where there is none.
    """
    if settings.jwt_secret is not None:
        return settings.jwt_secret.get_secret_value()
    if not (settings.data / SECRET_FILE).exists():
        raise StartupError(
            f"there is no secret to sign a token with: set JWT_SECRET, or name the data folder of `taskyard dev`"
            f" with --data ({settings.data} keeps no secret)"
        )
    return kept_secret(settings.data)


def kept_secret(folder: Path) -> str:
    """The secret that a data folder keeps, made at first use and readable by its owner alone."""
    path = folder / SECRET_FILE
    try:
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            fresh = path.with_suffix(f".{secrets.token_hex(4)}")
            fresh.touch(mode=0o600)
            fresh.write_text(secrets.token_urlsafe(48))
            # Linking fails if another process was first: then its secret holds.
            with suppress(FileExistsError):
                path.hardlink_to(fresh)
            fresh.unlink()
        secret = path.read_text().strip()
    except OSError as error:
        raise StartupError(f"the secret in {path} cannot be read: {error.strerror}") from error
    if len(secret.encode()) < MIN_SECRET_BYTES:
        raise StartupError(f"the secret in {path} is too short: remove the file, and a new one is made")
    return secret
