"""Certificates and tokens of a run, made when it begins."""

from __future__ import annotations

import secrets
from pathlib import Path

from services.certificates import Authority, Pair

TOKENS = ("right", "other", "wrong")


class Files:
    """A folder of what servers and clients are given.

    Attributes:
        folder: holds authority/ca.pem and stranger/ca.pem with what they issued, NAME.pem and NAME.key: authority/server and
            authority/replaced (which a case may replace), authority/renewed, authority/client, stranger/impostor and
            stranger/client; token-right, token-other and token-wrong; tokens, as a server reads them, with the first two.
        tokens: the tokens themselves, which no output may have.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.tokens = {name: secrets.token_hex(16) for name in TOKENS}
        for name, token in self.tokens.items():
            (folder / f"token-{name}").write_text(token + "\n")
        (folder / "tokens").write_text(f"{self.tokens['right']}\n{self.tokens['other']}\n")
        self._pairs: dict[str, Pair] = {}
        for authority, names in (
            ("authority", ("server", "replaced", "renewed", "client")),
            ("stranger", ("impostor", "client")),
        ):
            issuing = Authority(folder / authority)
            self._pairs |= {f"{authority}/{name}": issuing.issue(name) for name in names}

    def replace(self, name: str, by: str) -> None:
        """Puts one certificate with its key in another's place."""
        self._pairs[name].replace(self._pairs[by])
