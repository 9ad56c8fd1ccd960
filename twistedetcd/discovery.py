"""
discovery: the founders of a cluster, from the SRV records of a domain.

Yours to change: what operators are told when something is wrong.
With care: which records count; founders that see other members found other clusters.
Never: a protocol of our own to look anything up.
Imports config, flagtable and errors.  Imported by service.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from ipaddress import ip_address
from itertools import count
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from twisted.internet.defer import TimeoutError
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import IResolver
from twisted.names import dns
from twisted.names.client import Resolver
from twisted.names.error import (
    AuthoritativeDomainError,
    DNSNameError,
    DomainError,
    ResolverError,
)
from twisted.names.hosts import Resolver as HostsResolver
from twisted.names.resolve import ResolverChain

from twistedetcd.config import Config, address
from twistedetcd.errors import ConfigError
from twistedetcd.flagtable import parse_url

SERVICES = (("etcd-server-ssl", "https"), ("etcd-server", "http"))
"""The services that are looked up, each with the scheme that its records stand for."""
RESOLV_CONF = "/etc/resolv.conf"
TIMEOUTS_SECONDS = (1, 3, 6)  # of the attempts of one lookup

_FAILURES = (DomainError, DNSLookupError, ResolverError)
_NO_SUCH_NAME = (DNSNameError, AuthoritativeDomainError)


class Place(NamedTuple):
    """Where a member listens."""

    host: str
    port: int


class _LookupError(Exception):
    """A name could not be looked up; the text says which, and why."""


class _NothingThereError(_LookupError):
    """It was, and there is nothing."""


async def discover(config: Config, resolver: IResolver) -> Config:
    """
    Look up who founds the cluster.

    To be called before `twistedetcd.cluster.founding`, if there is a ``discovery_srv``, and only by a member
    that has no log yet.

    Args:
        config: This member's.
        resolver: As `twisted.names` has them.

    Returns:
        The same, with ``initial_cluster`` filled in.  This member's own URLs are there, and in
        ``initial_advertise_peer_urls``, as the records spell them: founders must agree on the letters, for
        ids are made of them.  ``warnings`` has what was passed over, for others may have seen it.

    Raises:
        ConfigError: No members were found, or this one is not among them.
    """
    return await _Discovery(config, resolver).run()


def system_resolver(reactor: Any) -> IResolver:
    """
    One that asks the system's name servers, after a look at its table of hosts.

    Raises:
        ConfigError: The system names none.
    """
    try:
        with open(RESOLV_CONF, encoding="ascii", errors="replace") as file:
            lines = [line.split() for line in file]
    except OSError as error:
        raise ConfigError(f"cannot read {RESOLV_CONF}: {error.strerror}") from error
    servers = [(words[1], dns.PORT) for words in lines if words[:1] == ["nameserver"] and len(words) > 1]
    if not servers:
        raise ConfigError(f"{RESOLV_CONF} names no name server")
    # Twisted's own reader of that file would look at it every minute, for ever.
    return ResolverChain([HostsResolver(), Resolver(servers=servers, reactor=reactor)])


class _Discovery:
    def __init__(self, config: Config, resolver: IResolver) -> None:
        self._config = config
        self._resolver: Any = IResolver(resolver)
        self._advertised: dict[Place, str] = {}
        """This member's URLs, by every address that they lead to."""
        self._spelled: dict[str, str] = {}
        """Those of them that a record leads to, as that spells them."""
        self._members: dict[str, list[str]] = {}
        self._names = (name for number in count() if (name := str(number)) != config.name)
        """For the others; what they are called, they say themselves once they have started."""
        self._missing: list[str] = []
        """Services that the domain does not have; one of the two is enough."""
        self._problems: list[str] = []

    async def run(self) -> Config:
        config = self._config
        for url in config.initial_advertise_peer_urls:
            if urlsplit(url).scheme not in ("http", "https"):
                raise ConfigError(f"--initial-advertise-peer-urls {url}: no SRV record leads to a path")
            try:
                places = await self._places(Place(*address(url)[:2]))
            except _LookupError as error:
                raise ConfigError(f"--initial-advertise-peer-urls {url}: {error}") from error
            self._advertised |= dict.fromkeys(places, url)
        for service, scheme in SERVICES:
            await self._add_members(service, scheme)
        if not self._members:
            reasons = "; ".join(self._missing + self._problems)
            raise ConfigError(f"no members found by --discovery-srv: {reasons}")
        if config.name not in self._members:
            problems = "".join(f"; {problem}" for problem in self._problems)
            raise ConfigError(f'cannot find local etcd member "{config.name}" in SRV records{problems}')
        spelled = {self._spelled.get(url, url) for url in config.initial_advertise_peer_urls}
        return dataclasses.replace(
            config,
            initial_cluster=MappingProxyType(
                {name: tuple(sorted(urls)) for name, urls in sorted(self._members.items())}
            ),
            initial_advertise_peer_urls=tuple(sorted(spelled)),
            warnings=(*config.warnings, *self._problems),
        )

    async def _add_members(self, service: str, scheme: str) -> None:
        """Add the members of one service, if the domain has it."""
        config = self._config
        suffix = f"-{config.discovery_srv_name}" if config.discovery_srv_name else ""
        name = f"_{service}{suffix}._tcp.{config.discovery_srv}"
        try:
            targets = await self._targets(name)
        except _NothingThereError as error:
            self._missing.append(str(error))
            return
        except _LookupError as error:
            self._problems.append(str(error))
            return
        for target in targets:
            try:
                places = await self._places(target)
            except _LookupError as error:
                self._problems.append(f"a record of {name} is passed over: {error}")
                continue
            self._add(name, _url(scheme, target), places)

    def _add(self, name: str, url: str, places: Iterable[Place]) -> None:
        """Add a member, or one more URL of this one."""
        advertised = next((self._advertised[place] for place in places if place in self._advertised), None)
        if advertised is None:
            self._members[next(self._names)] = [url]
        elif urlsplit(advertised).scheme != urlsplit(url).scheme:
            self._problems.append(
                f"bootstrap at {url} from DNS for {name} has scheme mismatch with expected peer {advertised}"
            )
        else:
            self._spelled[advertised] = url
            self._members.setdefault(self._config.name, []).append(url)

    # Lookups.

    async def _targets(self, name: str) -> list[Place]:
        """Where the records of a service point to, in an order that does not depend on the server."""
        records = await self._lookup(self._resolver.lookupService, name, dns.SRV)
        found = {(each.priority, str(each.target).rstrip("."), each.port) for each in records}
        targets = [Place(host, port) for _, host, port in sorted(found) if host]
        if not targets:
            raise _NothingThereError(f"there are no SRV records of {name}")
        return targets

    async def _places(self, place: Place) -> list[Place]:
        """Every address that a place has."""
        try:
            return [Place(str(ip_address(place.host)), place.port)]
        except ValueError:
            pass  # a name
        places: list[Place] = []
        problems: list[_LookupError] = []
        for look_up, kind in (
            (self._resolver.lookupAddress, dns.A),
            (self._resolver.lookupIPV6Address, dns.AAAA),
        ):
            try:
                records = await self._lookup(look_up, place.host, kind)
            except _LookupError as error:
                problems.append(error)
            else:
                places += [Place(str(ip_address(each.address)), place.port) for each in records]
        if not places:
            raise problems[0] if problems else _NothingThereError(f"{place.host} has no address")
        return places

    async def _lookup(self, look_up: Any, name: str, kind: int) -> list[Any]:
        """The records of one kind that a name has, or the name that it is an alias of."""
        try:
            answers, _, _ = await look_up(name, TIMEOUTS_SECONDS)
        except _NO_SUCH_NAME as error:
            raise _NothingThereError(f"error looking up {name}: no such name") from error
        except TimeoutError as error:
            raise _LookupError(f"error looking up {name}: no answer in time") from error
        except _FAILURES as error:
            answer = type(error).__name__
            raise _LookupError(f"error looking up {name}: the server answered with {answer}") from error
        return [answer.payload for answer in answers if answer.type == kind]


def _url(scheme: str, place: Place) -> str:
    host = f"[{place.host}]" if ":" in place.host else place.host
    return parse_url(f"{scheme}://{host}:{place.port}").geturl()
