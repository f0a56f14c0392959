"""What an address says of who can reach it."""

from __future__ import annotations

import ipaddress

_SCHEMES = ("dns:///", "dns:", "ipv4:", "ipv6:")


def is_loopback(address: str) -> bool:
    """Whether an address, or each of several with commas between, is on this machine and nowhere else.

    Args:
        address: host:port, [host]:port, or unix:path, as gRPC takes them.
    """
    if address.startswith("unix:"):
        return True
    scheme = next((scheme for scheme in _SCHEMES if address.startswith(scheme)), "")
    return all(_is_loopback_host(one.rpartition(":")[0].strip("[]")) for one in address.removeprefix(scheme).split(","))


def _is_loopback_host(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
