"""The bearer tokens that the server takes."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from pathlib import Path

from rm_grpc.errors import UnauthenticatedError
from rm_grpc_server.config import ServerSettings, secret
from rm_grpc_server.errors import ConfigError
from rm_grpc_server.transport.door.reloaded import Reloaded

_BEARER = re.compile(r"bearer +(\S+) *", re.IGNORECASE)


class Tokens:
    """Compares what callers bring; holds digests only, so that nothing can tell a token.

    Args:
        fixed: tokens for as long as the server runs.
        file: one token a line, read again once it was replaced; empty lines and those that begin with # are skipped.

    Raises:
        ConfigError: there is no token.
    """

    def __init__(self, fixed: Iterable[str], file: Path | None) -> None:
        self._fixed = [_digest(token) for token in fixed]
        try:
            self._in_file = Reloaded([file], lambda: _read(file), "token file") if file is not None else None
        except (OSError, ValueError) as error:
            raise ConfigError(f"token_file: {error}") from error

    @classmethod
    def of(cls, settings: ServerSettings) -> Tokens | None:
        """Those of the settings; None where callers need none."""
        if not (settings.token_file or settings.token_env):
            return None
        fixed = secret(settings.token_env, "token_env").split() if settings.token_env else []
        return cls(fixed, Path(settings.token_file) if settings.token_file else None)

    def check(self, authorization: str | None) -> None:
        """Lets a caller in, given its header `authorization`.

        Raises:
            UnauthenticatedError: it has no token of the server's.
        """
        if not authorization:
            raise UnauthenticatedError("the server asks for a token: send 'authorization: Bearer TOKEN' with every call")
        bearer = _BEARER.fullmatch(authorization)
        if bearer is None:
            raise UnauthenticatedError("authorization must be 'Bearer TOKEN'")
        brought = _digest(bearer[1])
        # Every known token is compared, each in a time that does not depend on where it differs.
        known = self._fixed + (self._in_file.current() if self._in_file is not None else [])
        if sum(hmac.compare_digest(brought, one) for one in known) == 0:
            raise UnauthenticatedError("the token is none of the server's")


def _read(file: Path) -> list[bytes]:
    lines = [line.strip() for line in file.read_text().splitlines()]
    tokens = [line for line in lines if line and not line.startswith("#")]
    if not tokens:
        raise ValueError(f"{file} holds no token; it needs one a line")
    if any(len(token.split()) > 1 for token in tokens):
        raise ValueError(f"{file} has a line of more than one word; a token is one word")
    return [_digest(token) for token in tokens]


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogateescape")).digest()
