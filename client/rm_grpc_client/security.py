"""How a client knows its server, and how the server knows the client."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import grpc

from rm_grpc.addresses import is_loopback
from rm_grpc.errors import InvalidRequestError

_Path: TypeAlias = "str | os.PathLike[str] | None"


@dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    """Encryption and the client's proof of who it is.

    Attributes:
        tls: whether to encrypt; also on where any of the next four is given.
        ca_file: PEM of the authorities that the server's certificate may come from; by default grpc's own roots.
        cert_file, key_file: PEM of the client's certificate and key, for a server that asks for one.
        server_name: the name that the server's certificate must have, where it is not the address's host.
        token: sent with every call as a bearer token.
        token_file: a file that holds the token, read anew for each call, so that it can be replaced.
        insecure: lets a token leave this machine without encryption.

    Raises:
        InvalidRequestError: what is given does not go together.
    """

    tls: bool = False
    ca_file: _Path = None
    cert_file: _Path = None
    key_file: _Path = None
    server_name: str = ""
    token: str = field(default="", repr=False)
    token_file: _Path = None
    insecure: bool = False

    def __post_init__(self) -> None:
        if bool(self.cert_file) != bool(self.key_file):
            given, missing = ("cert_file", "key_file") if self.cert_file else ("key_file", "cert_file")
            raise InvalidRequestError(f"goes with {given}, which is given", field=missing)
        if self.token and self.token_file:
            raise InvalidRequestError("goes without token; give one of them", field="token_file")
        _checked(self.token, "token")

    @property
    def is_encrypted(self) -> bool:
        """Whether connections are encrypted."""
        return bool(self.tls or self.ca_file or self.cert_file or self.server_name)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What each call carries.

        Raises:
            InvalidRequestError: the token's file cannot be read, or holds none.
        """
        token = self.token
        if self.token_file:
            token = _checked(_read(self.token_file, "token_file").decode(errors="replace").strip(), "token_file")
            if not token:
                raise InvalidRequestError(f"{os.fspath(self.token_file)} is empty", field="token_file")
        return (("authorization", f"Bearer {token}"),) if token else ()

    def check(self, address: str) -> None:
        """
        Raises:
            InvalidRequestError: the token would leave this machine in the clear.
        """
        if self.metadata() and not (self.is_encrypted or self.insecure or is_loopback(address)):
            told = f"would go to {address} without encryption; use tls, or allow it with insecure"
            raise InvalidRequestError(told, field="token_file" if self.token_file else "token")

    def credentials(self) -> grpc.ChannelCredentials | None:
        """For an encrypted channel; None for a plain one.

        Raises:
            InvalidRequestError: a file cannot be read.
        """
        if not self.is_encrypted:
            return None
        ca, key, cert = (
            _read(path, name) if path else None
            for path, name in ((self.ca_file, "ca_file"), (self.key_file, "key_file"), (self.cert_file, "cert_file"))
        )
        return grpc.ssl_channel_credentials(ca, key, cert)


def _checked(token: str, name: str) -> str:
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise InvalidRequestError("a token is one word of printable ASCII", field=name)
    return token


def _read(path: str | os.PathLike[str], name: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidRequestError(f"{os.fspath(path)} cannot be read: {error.strerror}", field=name) from error
