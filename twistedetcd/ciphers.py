"""
ciphers: the cipher suites of TLS 1.2 by the names that etcd takes, in OpenSSL's.

Yours to change: add a suite that both Go and OpenSSL know.
Never: a suite that OpenSSL would not use by itself, such as those with RC4 or 3DES.
Imports nothing of ours.  Imported by configchecks and security.
"""

from __future__ import annotations

from types import MappingProxyType

_EXCHANGES = {"ECDHE_ECDSA": "ECDHE-ECDSA-", "ECDHE_RSA": "ECDHE-RSA-", "RSA": ""}
_CIPHERS = {
    "AES_128_CBC_SHA": "AES128-SHA",
    "AES_256_CBC_SHA": "AES256-SHA",
    "AES_128_CBC_SHA256": "AES128-SHA256",
    "AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "AES_256_GCM_SHA384": "AES256-GCM-SHA384",
}

CIPHER_SUITES = MappingProxyType(
    {
        f"TLS_{exchange}_WITH_{cipher}": f"{start}{name}"
        for exchange, start in _EXCHANGES.items()
        for cipher, name in _CIPHERS.items()
    }
    # Go has called them by a shorter name once.
    | {
        f"TLS_{exchange}_WITH_CHACHA20_POLY1305{end}": f"{_EXCHANGES[exchange]}CHACHA20-POLY1305"
        for exchange in ("ECDHE_ECDSA", "ECDHE_RSA")
        for end in ("", "_SHA256")
    }
    # Those of TLS 1.3 may be listed, but nobody can choose among them.
    | dict.fromkeys(("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"), "")
)
"""OpenSSL's name of each suite; empty where there is nothing to choose."""
