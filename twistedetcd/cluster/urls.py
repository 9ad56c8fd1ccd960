"""The addresses by which members reach each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from ipaddress import ip_address

from twistedetcd.errors import MemberBadURLsError
from twistedetcd.flagtable import parse_url


def parse_peer_urls(given: Sequence[str]) -> tuple[str, ...]:
    """
    Check the peer URLs of a member that is to be added.

    Returns:
        Trimmed, in ascending order.

    Raises:
        MemberBadURLsError: There are none, or one of them is not a scheme, a host and a port.
    """
    try:
        urls = tuple(sorted(parse_url(url.strip()).geturl() for url in given))
    except ValueError:
        urls = ()
    if not urls:
        raise MemberBadURLsError
    return urls


def same_places(some: Iterable[str], others: Iterable[str]) -> bool:
    """
    Whether two lists of URLs lead to the same places, in whatever order.

    An IPv6 address is the same however it is spelled, a host name in whatever case.  Nobody is asked what a
    name stands for: unlike etcd, two names of one host are two places here.
    """
    return sorted(map(_spelled, some)) == sorted(map(_spelled, others))


def _spelled(url: str) -> tuple[str, ...]:
    """The same for all ways to write one URL; of what is no URL, and of a socket's path, the text."""
    try:
        split = parse_url(url)
    except ValueError:
        return (url,)
    if split.scheme not in ("http", "https"):
        return (url,)
    host = split.hostname or ""
    with suppress(ValueError):  # a name
        host = str(ip_address(host))
    return (split.scheme, host, str(split.port))
