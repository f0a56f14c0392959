"""The connection: address, encryption and the options that long streams need."""

from __future__ import annotations

import grpc

from rm_grpc_client.security import Security

MAX_MESSAGE_BYTES = 16_777_216
"""Largest message that is sent and read; the server's default is the same."""


def open_channel(address: str, security: Security) -> grpc.aio.Channel:
    """A channel to one server.

    Raises:
        InvalidRequestError: the security asked for cannot be had.
    """
    security.check(address)
    options: list[tuple[str, int | str]] = [
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.keepalive_time_ms", 30_000),  # a server that died without a word is noticed
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.use_local_subchannel_pool", 1),  # or every client of this process shares one connection
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 2_000),
    ]
    if security.server_name:
        options.append(("grpc.ssl_target_name_override", security.server_name))
    if (credentials := security.credentials()) is None:
        return grpc.aio.insecure_channel(address, options=options)
    return grpc.aio.secure_channel(address, credentials, options=options)
