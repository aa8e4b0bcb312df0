"""Tokens for a process that is running: good ones, and ones that it must refuse."""

import base64
import json
import time
from pathlib import Path
from typing import Any

from jose import jwt


class Mint:
    """Signs with the secret that `taskyard dev` keeps in its data folder; whatever the claims say."""

    def __init__(self, data: Path) -> None:
        self.secret = (data / "jwt_secret").read_text().strip()

    def token(self, sub: str, role: str = "user", *instances: str, ttl: float = 3600) -> str:
        """A token of a role in the instances (`default`)."""
        return self._signed(_claims(sub, role, instances or ("default",), ttl))

    def claiming(self, **claims: Any) -> str:
        """An administrator's token of which these claims are otherwise; None leaves one out."""
        said = _claims("eve", "admin", ("default",), 3600) | claims
        return self._signed({name: value for name, value in said.items() if value is not None})

    def other_algorithm(self, algorithm: str) -> str:
        return self._signed(_claims("eve", "admin", ("default",), 3600), algorithm)

    def _signed(self, claims: dict[str, Any], algorithm: str = "HS256") -> str:
        return str(jwt.encode(claims, self.secret, algorithm=algorithm))


def unsigned() -> str:
    """An administrator's token of the algorithm `none`."""
    parts = ({"alg": "none", "typ": "JWT"}, _claims("eve", "admin", ("default",), 3600))
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "."


def forged() -> str:
    """An administrator's token, signed with another key."""
    return str(jwt.encode(_claims("eve", "admin", ("default",), 3600), "x" * 48, algorithm="HS256"))


def _claims(sub: str, role: str, instances: tuple[str, ...], ttl: float) -> dict[str, Any]:
    now = int(time.time())
    return {
        "sub": sub,
        "role": role,
        "instances": list(instances),
        "iss": "taskyard",
        "aud": "taskyard",
        "iat": now,
        "exp": int(now + ttl),
    }
