"""Certificates of authorities that nobody else trusts, as PEM files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import trustme

SERVER_NAME = "rewards.test"


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key."""

    cert: Path
    key: Path

    def replace(self, by: Pair) -> None:
        """Puts another pair in the place of this one, the certificate first."""
        for here, there in ((self.cert, by.cert), (self.key, by.key)):
            partial = here.with_suffix(".partial")
            partial.write_bytes(there.read_bytes())
            os.replace(partial, here)


class Authority:
    """Issues certificates.

    Attributes:
        file: its own certificate.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._ca = trustme.CA()
        self.file = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(str(self.file))

    def issue(self, name: str, *identities: str) -> Pair:
        """A certificate; by default for this machine's address and for `SERVER_NAME`."""
        issued = self._ca.issue_cert(*(identities or ("127.0.0.1", SERVER_NAME)))
        pair = Pair(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        pair.cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(pair.key))
        return pair
