"""Who is asking, and what they may see."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from taskyard.errors import Forbidden, Unauthenticated
from taskyard.names import check_name

#: In a token's list of instances: all of them.
EVERY_INSTANCE = "*"
DEFAULT_INSTANCE = "default"


class Role(StrEnum):
    """What a token's bearer is. The order of rights: user and agent and worker < admin."""

    USER = "user"
    AGENT = "agent"
    WORKER = "worker"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Scope:
    """The instances that a statement may touch; `None`: all. Every query carries it as a predicate."""

    instances: frozenset[str] | None

    def allows(self, instance_id: str) -> bool:
        return self.instances is None or instance_id in self.instances

    def narrowed(self, instance_id: str | None) -> "Scope":
        """This scope cut down to one instance, if one is named. Nothing is left of a foreign one."""
        if instance_id is None:
            return self
        return Scope(frozenset({instance_id}) if self.allows(instance_id) else frozenset())


EVERYTHING = Scope(None)


@dataclass(frozen=True, slots=True)
class Principal:
    """The bearer of a valid token."""

    subject: str
    role: Role
    instances: frozenset[str]
    expires_at: datetime | None = None

    @property
    def scope(self) -> Scope:
        return EVERYTHING if EVERY_INSTANCE in self.instances else Scope(self.instances)

    def instance_for(self, wanted: str | None) -> str:
        """The instance that a new task goes to: the one named, or the token's own if it has only one."""
        if wanted is not None:
            check_name(wanted, "instanceId")
            if not self.scope.allows(wanted):
                raise Forbidden(f"this token gives no access to the instance {wanted!r}", path=["instanceId"])
            return wanted
        if len(self.instances) == 1 and EVERY_INSTANCE not in self.instances:
            return next(iter(self.instances))
        if self.scope.allows(DEFAULT_INSTANCE):
            return DEFAULT_INSTANCE
        raise Forbidden("this token serves several instances: name one of them", path=["instanceId"])

    def require_admin(self) -> None:
        if self.role is not Role.ADMIN:
            raise Forbidden("only an administrator may do this")


def authenticated(principal: Principal | None) -> Principal:
    """The principal, or `Unauthenticated`: nothing is allowed without a token."""
    if principal is None:
        raise Unauthenticated("a token is needed: send it as 'Authorization: Bearer <JWT>'")
    return principal
