"""Who asks the admin API, and what they may do: pure."""

from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from config.tenancy import OidcSettings
from contract.errors import NotFound, PermissionDenied

Via = Literal["key", "session", "token"]


class AdminCaller(msgspec.Struct, frozen=True):
    """A program with the admin key, or a person. `teams`: those that they own.

    admin: reads and writes everything. viewer: reads everything. team-owner: reads and writes what belongs to their own teams.
    """

    subject: str
    name: str
    via: Via
    admin: bool = False
    viewer: bool = False
    teams: frozenset[str] = frozenset()

    @property
    def roles(self) -> tuple[str, ...]:
        held = (("admin", self.admin), ("team-owner", bool(self.teams)), ("viewer", self.viewer))
        return tuple(role for role, has in held if has)

    def may_read(self, team: str | None) -> bool:
        """`team` None: what belongs to no team or to several."""
        return self.admin or self.viewer or team in self.teams

    def may_write(self, team: str | None) -> bool:
        return self.admin or team in self.teams

    def require_read(self, team: str | None) -> None:
        """Raises NotFound for a team that is not this caller's: the same as for one that does not exist; PermissionDenied for what is nobody's."""
        if not self.may_read(team):
            raise _denied(team)

    def require_write(self, team: str | None) -> None:
        """As `require_read`; who may read a team but not write is told so."""
        if self.may_write(team):
            return
        if team is not None and self.may_read(team):
            raise PermissionDenied(f"this needs the role admin, or team-owner of {team}")
        raise _denied(team)


def _denied(team: str | None) -> NotFound | PermissionDenied:
    return PermissionDenied("this needs the role admin") if team is None else no_such_team(team)


def no_such_team(team: str) -> NotFound:
    """The one wording for a team that does not exist and for one that a caller may not see."""
    return NotFound(f"there is no team {team[:100]!r} here", param="team")


ADMIN_KEY = AdminCaller(subject="admin-key", name="the admin key", via="key", admin=True)


def values_of(claims: dict[str, Any], claim: str) -> frozenset[str] | None:
    """The texts in a claim; None: there is no such claim. A name with dots is a path where no claim has it whole (`realm_access.roles`)."""
    found: Any = claims
    for part in (claim,) if claim in claims else claim.split("."):
        if not isinstance(found, dict) or part not in found:
            return None
        found = found[part]
    if isinstance(found, str):
        return frozenset({found})
    return frozenset(each for each in found if isinstance(each, str)) if isinstance(found, list) else frozenset()


def caller_of(settings: OidcSettings, subject: str, name: str, values: Iterable[str], via: Via) -> AdminCaller:
    """Whom the configuration makes of somebody with those values in their `roles_claim`. Raises PermissionDenied when that is nobody."""
    held = frozenset(values)
    caller = AdminCaller(
        subject=subject,
        name=name,
        via=via,
        admin=not held.isdisjoint(settings.admins),
        viewer=not held.isdisjoint(settings.viewers),
        teams=frozenset(team for value, teams in settings.team_owners.items() if value in held for team in teams),
    )
    if not caller.roles:
        raise PermissionDenied("you are signed in, but have no role here; an admin can give you one in admin.oidc of the configuration")
    return caller
