"""Who may do what: bearer tokens by role, from a file or the environment; without any, this machine only."""

from __future__ import annotations

import hmac
import ipaddress
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nearline._errors import ConfigError
from nearline.serve._problems import Problem

ROLES = ("predict", "outcome", "admin")
_SHORTEST = 16


@dataclass(frozen=True)
class Tokens:
    """Tokens by role; several of one role are all good, so that one can be replaced while another is in use.

    Examples
    --------
    >>> tokens = Tokens.of({"admin": ["a long admin token"]})
    >>> tokens.check("admin", b"Bearer a long admin token")
    >>> tokens.check("admin", b"Bearer a wrong one")
    Traceback (most recent call last):
        ...
    nearline.serve._problems.Problem: this is no token for admin
    """

    by_role: Mapping[str, tuple[bytes, ...]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, found: Mapping[str, Iterable[str]]) -> Tokens:
        """Checked tokens.

        Raises
        ------
        ConfigError
            An unknown role, or a token that is too short or not printable ASCII.
        """
        for role, tokens in found.items():
            if role not in ROLES:
                raise ConfigError(f"tokens: {role!r} is no role; use {list(ROLES)}")
            if any(len(token) < _SHORTEST or not token.isascii() or not token.isprintable() for token in tokens):
                raise ConfigError(f"tokens: one for {role!r} is shorter than {_SHORTEST} characters or not plain ASCII")
        return cls({role: tuple(token.encode() for token in tokens) for role, tokens in found.items() if tokens})

    @classmethod
    def read(cls, path: Path | None = None, environment: Mapping[str, str] = os.environ) -> Tokens:
        """Tokens of a TOML file (`admin = "..."` or a list of them), and of NEARLINE_<ROLE>_TOKEN.

        Raises
        ------
        ConfigError
            The file cannot be read, others may read it, or a token is not usable.
        """
        found: dict[str, list[str]] = {role: [] for role in ROLES}
        for role, tokens in (_file(path) if path is not None else {}).items():
            found.setdefault(role, []).extend([tokens] if isinstance(tokens, str) else tokens)
        for role in ROLES:
            token = environment.get(f"NEARLINE_{role.upper()}_TOKEN", "")
            found[role] += [token] if token else []
        return cls.of(found)

    def __bool__(self) -> bool:
        return bool(self.by_role)

    def check(self, role: str, authorization: bytes | None) -> None:
        """Raise Problem (401, 403) unless the header carries a token of the role; the time it takes tells nothing."""
        if not self.by_role:
            return
        scheme, _, given = (authorization or b"").partition(b" ")
        if scheme.lower() != b"bearer" or not given:
            raise Problem("unauthenticated", f"send Authorization: Bearer <token for {role}>", headers=_CHALLENGE)
        good = [hmac.compare_digest(token, given.strip()) for token in self.by_role.get(role, ())]
        if not any(good):
            known = role in self.by_role
            raise Problem(
                "forbidden", f"this is no token for {role}" if known else f"no token for {role} is configured"
            )


_CHALLENGE = {"WWW-Authenticate": "Bearer"}


def _file(path: Path) -> dict[str, str | list[str]]:
    try:
        if os.name == "posix" and path.stat().st_mode & 0o077:
            raise ConfigError(f"{path}: other users may read these tokens; chmod 600 it")
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{path}: cannot read the tokens ({error})") from error


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_bind(host: str, tokens: Tokens) -> None:
    """Raise ConfigError for an address that others can reach while there are no tokens."""
    if not tokens and not is_loopback(host):
        raise ConfigError(
            f"host {host!r} can be reached from other machines, and no token is configured; "
            "set tokens (a file, or NEARLINE_ADMIN_TOKEN and so on) or bind 127.0.0.1"
        )


def check_host(header: bytes | None) -> None:
    """Raise Problem for a Host that is not this machine's: a web page that got there by a name of its own."""
    name = (header or b"").decode("latin-1").rsplit(":", 1)[0] if b"]" not in (header or b"") else "::1"
    if not is_loopback(name):
        raise Problem("forbidden", "without tokens this is for localhost alone; address it as localhost or 127.0.0.1")
