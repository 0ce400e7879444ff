# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""One Redis deployment and how to log in, as the user wrote it down."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping, NamedTuple, Optional, Tuple

from .._errors import UsageError

PROVIDERS = ("dcs", "self_hosted", "other")
TOPOLOGIES = ("auto", "single", "master_standby", "proxy_cluster", "redis_cluster")


class Address(NamedTuple):
    """One host and port; ``str()`` is what ``parse_address`` reads."""

    host: str
    port: int

    def __str__(self) -> str:
        if ":" in self.host:
            return "[%s]:%d" % (self.host, self.port)
        return "%s:%d" % (self.host, self.port)


def parse_address(text: str) -> Address:
    """Read ``host:port`` or ``[ipv6]:port``; raise UsageError for anything else."""
    host, colon, port = text.strip().rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise UsageError("address %r" % text, "is not host:port", "Write it like 10.0.0.5:6379 or [2001:db8::5]:6379")
    if ":" in host and not bracketed:
        raise UsageError("address %r" % text, "is an IPv6 address without brackets", "Write it like [2001:db8::5]:6379")
    return Address(host, int(port))


@dataclass(frozen=True)
class Endpoint:
    """The endpoint options of the modules, checked; immutable and safe to log."""

    addresses: Tuple[Address, ...]
    username: Optional[str] = None
    password: Optional[str] = field(default=None, repr=False)
    provider: str = "self_hosted"
    topology: str = "auto"
    tls: bool = False
    ca_certs: Optional[str] = None
    client_cert: Optional[str] = None
    client_key: Optional[str] = None
    validate_certs: bool = True
    sentinel_service: Optional[str] = None
    shards: Tuple[Address, ...] = ()

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Endpoint:
        """Build one from a module's endpoint dict; raise UsageError where options contradict each other."""
        addresses = tuple(parse_address(text) for text in params.get("addresses") or ())
        if not addresses:
            raise UsageError("endpoint", "has no addresses", "Set addresses to a list of host:port")
        endpoint = cls(
            addresses=addresses,
            username=params.get("username") or None,
            password=params.get("password") or None,
            provider=params.get("provider") or "self_hosted",
            topology=params.get("topology") or "auto",
            tls=bool(params.get("tls")),
            ca_certs=params.get("ca_certs") or None,
            client_cert=params.get("client_cert") or None,
            client_key=params.get("client_key") or None,
            validate_certs=params.get("validate_certs") is not False,
            sentinel_service=params.get("sentinel_service") or None,
            shards=tuple(parse_address(text) for text in params.get("shards") or ()),
        )
        endpoint._check()
        return endpoint

    def _check(self) -> None:
        """Raise UsageError for options that cannot be meant together."""
        if self.provider not in PROVIDERS:
            raise UsageError(self.label, "provider %r is unknown" % self.provider, "Use one of " + ", ".join(PROVIDERS))
        if self.topology not in TOPOLOGIES:
            raise UsageError(self.label, "topology %r is unknown" % self.topology, "Use one of " + ", ".join(TOPOLOGIES))
        if self.username and not self.password:
            raise UsageError(self.label, "a username is given without a password", "Set password, or leave username out")
        if self.sentinel_service and self.topology in ("proxy_cluster", "redis_cluster"):
            raise UsageError(
                self.label,
                "Sentinel does not look after a %s" % self.topology.replace("_", " "),
                "Leave sentinel_service out, or set topology to auto",
            )
        if self.shards and self.topology not in ("auto", "proxy_cluster"):
            raise UsageError(
                self.label,
                "shards are the nodes behind a proxy, but topology is %s" % self.topology,
                "Leave shards out, or set topology to proxy_cluster",
            )
        if self.client_key and not self.client_cert:
            raise UsageError(self.label, "client_key is given without client_cert", "Set both or neither")

    @property
    def label(self) -> str:
        """A short name for messages, never with a secret in it."""
        text = str(self.addresses[0])
        if len(self.addresses) > 1:
            text += " (+%d)" % (len(self.addresses) - 1)
        if self.sentinel_service:
            text = "%s via Sentinel %s" % (self.sentinel_service, text)
        return text

    @property
    def shared_login(self) -> bool:
        """Whether addresses of different kinds (Sentinels, proxies, nodes) share one login that some may not need."""
        return bool(self.sentinel_service or self.shards)
