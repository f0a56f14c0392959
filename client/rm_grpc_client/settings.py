"""Whom trainers ask: settings given in code, else in the environment; the only reader of `os.environ` in the client."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from rm_grpc.errors import InvalidRequestError
from rm_grpc.types import ControlTokens, ForeignMarkers, ScoreOptions
from rm_grpc_client.environment import RewardEnvironment
from rm_grpc_client.routing import STRATEGIES, Strategy
from rm_grpc_client.security import Security

ENV_PREFIX = "RM_GRPC_CLIENT_"
_SWITCHES = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """The settings of an environment that a trainer's configuration can hold; each is also RM_GRPC_CLIENT_NAME.

    Attributes:
        addresses: host:port of each server; in the environment with commas between.
        model: the model to ask.
        control_tokens: what is done with the reward model's control tokens in content: refuse, as_text or allow.
        foreign_markers: what is done with chat markers of other models in content: refuse or allow.
        timeout: seconds that each conversation may take.
        reconnect: seconds without any server after which the work is given up.
        routing: least_loaded or group.
        hedge_after: seconds without an answer after which a second server is asked; 0 for never.
        tls, ca_file, cert_file, key_file, server_name, token, token_file, insecure: see `Security`; in the environment the two
            that are yes or no are true or false.
    """

    addresses: tuple[str, ...] = ("127.0.0.1:50051",)
    model: str = ""
    control_tokens: str = "refuse"
    foreign_markers: str = "refuse"
    timeout: float = 600.0
    reconnect: float = 60.0
    routing: Strategy = "least_loaded"
    hedge_after: float = 0.0
    tls: bool = False
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    server_name: str = ""
    token: str = field(default="", repr=False)
    token_file: str = ""
    insecure: bool = False

    @classmethod
    def of(cls, given: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> ClientSettings:
        """The settings, those given before those of the environment.

        Raises:
            InvalidRequestError: one that is unknown, or a value that cannot be.
        """
        values: dict[str, Any] = {}
        for key, text in (os.environ if environ is None else environ).items():
            if key.startswith(ENV_PREFIX):
                values[key.removeprefix(ENV_PREFIX).lower()] = text
        values |= given
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise InvalidRequestError(f"no such setting; there are {', '.join(sorted(known))}", field=unknown[0])
        return cls(**{key: _checked(key, value) for key, value in values.items()})

    @property
    def security(self) -> Security:
        """How its servers are known, and it to them.

        Raises:
            InvalidRequestError: the settings do not go together.
        """
        return Security(**{field.name: getattr(self, field.name) for field in fields(Security)})

    def environment(self, **options: Any) -> RewardEnvironment:
        """An environment of these settings.

        Args:
            options: further ones of `RewardEnvironment`.
        """
        return RewardEnvironment(
            self.addresses,
            model=self.model,
            options=ScoreOptions(ControlTokens(self.control_tokens), ForeignMarkers(self.foreign_markers)),
            timeout=self.timeout,
            reconnect=self.reconnect,
            routing=self.routing,
            hedge_after=self.hedge_after or None,
            security=self.security,
            **options,
        )


def _checked(key: str, value: Any) -> Any:
    if key in ("tls", "insecure"):
        switch = _SWITCHES.get(value) if isinstance(value, str) else value
        if not isinstance(switch, bool):
            raise InvalidRequestError(f"must be true or false, not {value!r}", field=key)
        return switch
    if key == "addresses":
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, Iterable) or not (found := tuple(str(part).strip() for part in parts if str(part).strip())):
            raise InvalidRequestError(f"name at least one server, as host:port, not {value!r}", field=key)
        return found
    if key in ("timeout", "reconnect", "hedge_after"):
        try:
            seconds = -1.0 if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            seconds = -1.0
        if not 0 <= seconds < float("inf"):
            raise InvalidRequestError(f"must be seconds, as a number that is not negative, not {value!r}", field=key)
        return seconds
    choices: Sequence[str] | None = {
        "control_tokens": [one.value for one in ControlTokens],
        "foreign_markers": [one.value for one in ForeignMarkers],
        "routing": STRATEGIES,
    }.get(key)
    if choices is not None and value not in choices:
        raise InvalidRequestError(f"must be one of {', '.join(choices)}, not {value!r}", field=key)
    if not isinstance(value, str):
        raise InvalidRequestError(f"must be text, not {value!r}", field=key)
    return value
