"""Who may see what."""

from itertools import chain, combinations

import pytest

from taskyard.errors import Forbidden, Unauthenticated
from taskyard.principal import EVERYTHING, Principal, Role, Scope, authenticated

NAMES = ("default", "a", "b")
SCOPES = [EVERYTHING] + [
    Scope(frozenset(some)) for some in chain.from_iterable(combinations(NAMES, size) for size in range(4))
]


def bearer(*instances: str, role: Role = Role.USER) -> Principal:
    return Principal("someone", role, frozenset(instances))


def test_everything_allows_every_instance() -> None:
    assert EVERYTHING.allows("a")
    assert EVERYTHING.allows("never heard of")


def test_a_scope_allows_what_it_names() -> None:
    scope = Scope(frozenset({"a", "b"}))
    assert scope.allows("a")
    assert not scope.allows("default")
    assert not Scope(frozenset()).allows("a")


def label(scope: Scope) -> str:
    return "everything" if scope.instances is None else "+".join(sorted(scope.instances)) or "nothing"


@pytest.mark.parametrize("scope", SCOPES, ids=label)
@pytest.mark.parametrize("named", [*NAMES, "foreign", "*", None])
def test_narrowing_never_widens(scope: Scope, named: str | None) -> None:
    narrowed = scope.narrowed(named)
    for instance in (*NAMES, "foreign", "*"):
        assert narrowed.allows(instance) == (scope.allows(instance) and named in (None, instance))


def test_a_token_for_all_instances_sees_everything() -> None:
    assert bearer("*").scope == EVERYTHING
    assert bearer("*", "a").scope == EVERYTHING
    assert bearer("a").scope == Scope(frozenset({"a"}))
    assert bearer().scope == Scope(frozenset())


@pytest.mark.parametrize(
    ("instances", "wanted", "chosen"),
    [
        (("a",), None, "a"),
        (("a",), "a", "a"),
        (("a", "b"), "b", "b"),
        (("a", "default"), None, "default"),
        (("*",), None, "default"),
        (("*",), "anything", "anything"),
    ],
)
def test_the_instance_of_a_new_task(instances: tuple[str, ...], wanted: str | None, chosen: str) -> None:
    assert bearer(*instances).instance_for(wanted) == chosen


@pytest.mark.parametrize(
    ("instances", "wanted", "message"),
    [
        (("a",), "b", "no access to the instance 'b'"),
        (("a", "b"), "default", "no access to the instance 'default'"),
        (("a", "b"), None, "name one of them"),
        ((), None, "name one of them"),
        ((), "default", "no access"),
    ],
)
def test_an_instance_that_is_refused(instances: tuple[str, ...], wanted: str | None, message: str) -> None:
    with pytest.raises(Forbidden, match=message) as caught:
        bearer(*instances).instance_for(wanted)
    assert caught.value.path == ["instanceId"]


def test_a_role_gives_no_instance() -> None:
    with pytest.raises(Forbidden):
        bearer("a", role=Role.ADMIN).instance_for("b")


@pytest.mark.parametrize("role", Role)
def test_only_an_administrator_is_one(role: Role) -> None:
    if role is Role.ADMIN:
        bearer(role=role).require_admin()
        return
    with pytest.raises(Forbidden):
        bearer(role=role).require_admin()


def test_nothing_without_a_token() -> None:
    with pytest.raises(Unauthenticated):
        authenticated(None)
    principal = bearer("a")
    assert authenticated(principal) is principal
