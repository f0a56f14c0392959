"""The server's certificate, and the authorities that clients' may come from; replaced files count for the next connection."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

from rm_grpc_server.config import ServerSettings
from rm_grpc_server.errors import ConfigError
from rm_grpc_server.transport.door.reloaded import Reloaded


@dataclass(frozen=True, slots=True)
class _Loaded:
    """What the files held at one time, in the forms that gRPC and Python's ssl take."""

    pair: tuple[bytes, bytes]
    """PEM of the private key, and of the chain of certificates."""
    client_ca: bytes | None
    context: ssl.SSLContext


class Certificates:
    """The server's certificate, in the forms that its two ports take.

    Args:
        cert_file: PEM of the server's certificate, with those between it and its authority.
        key_file: PEM of its key.
        client_ca_file: PEM of the authorities that clients' certificates must come from; None asks clients for none.

    Raises:
        ConfigError: the files cannot be read, or do not go together.
    """

    def __init__(self, cert_file: Path, key_file: Path, client_ca_file: Path | None) -> None:
        self._cert_file, self._key_file, self._client_ca_file = cert_file, key_file, client_ca_file
        files = [cert_file, key_file, *([client_ca_file] if client_ca_file is not None else [])]
        try:
            self._reloaded = Reloaded(files, self._load, "TLS certificate")
        except (OSError, ValueError) as error:
            raise ConfigError(f"tls_cert_file, tls_key_file, tls_client_ca_file: {error}") from error

    @classmethod
    def of(cls, settings: ServerSettings) -> Certificates | None:
        """Those of the settings; None where nothing is encrypted."""
        if not settings.tls_cert_file:
            return None
        client_ca = Path(settings.tls_client_ca_file) if settings.tls_client_ca_file else None
        return cls(Path(settings.tls_cert_file), Path(settings.tls_key_file), client_ca)

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """For a gRPC port; asks for the files anew at each connection."""
        told = self._reloaded.current()

        def renewed() -> grpc.ServerCertificateConfiguration | None:
            nonlocal told
            before, told = told, self._reloaded.current()
            return None if told is before else _configuration(told)

        return grpc.dynamic_ssl_server_credentials(
            _configuration(told),
            renewed,  # type: ignore[arg-type]  # typeshed leaves out the None that grpc takes for no change
            require_client_authentication=self._client_ca_file is not None,
        )

    def ssl_context(self) -> ssl.SSLContext:
        """For a server of Python's own; asks for the files anew at each connection."""
        context = self._reloaded.current().context

        def renew(connection: ssl.SSLObject, name: str | None, before: ssl.SSLContext) -> None:
            del name, before
            connection.context = self._reloaded.current().context

        context.sni_callback = renew
        return context

    def _load(self) -> _Loaded:
        """
        Raises:
            OSError: a file cannot be read, or is no PEM that goes with the others.
        """
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self._client_ca_file)
        context.load_cert_chain(self._cert_file, self._key_file, password=_no_password)
        context.set_alpn_protocols(["http/1.1"])
        if self._client_ca_file is not None:
            context.verify_mode = ssl.CERT_REQUIRED
        pair = (self._key_file.read_bytes(), self._cert_file.read_bytes())
        return _Loaded(pair, self._client_ca_file.read_bytes() if self._client_ca_file is not None else None, context)


def _configuration(loaded: _Loaded) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([loaded.pair], loaded.client_ca)


def _no_password() -> str:
    raise ValueError("the key is encrypted, and nobody is there to be asked for its password; give one that is not")
