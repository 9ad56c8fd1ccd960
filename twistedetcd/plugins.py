"""
plugins: parts that are chosen by name on the command line, ``NAME`` or ``NAME:OPTION=VALUE,OPTION=VALUE``.

Yours to change: how a refusal is worded.
Never: a name of a plugin; what there is, Twisted's plugin system finds.
Imports interfaces and errors.  Imported by disk and peertransports.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.plugin import getPlugins

from twistedetcd.errors import ConfigError
from twistedetcd.interfaces import PluginOption


def chosen(contract: Any, flag: str, kind: str, spec: str) -> tuple[Any, dict[str, Any]]:
    """
    Find what the user chose.

    Args:
        contract: The interface that the plugin provides.
        flag: What it is chosen with: ``--backend``.
        kind: What it is called: ``backend``.
        spec: What was typed.

    Returns:
        The plugin, and the options that were set, with underscores for hyphens.

    Raises:
        ConfigError: No plugin of that name, or no such option, or not such a value.
    """
    name, _, settings = spec.partition(":")
    found = {factory.name: factory for factory in getPlugins(contract)}
    if name not in found:
        raise ConfigError(f"there is no {kind} {name!r}; there are: {', '.join(sorted(found))}")
    return found[name], _options(f"{flag}={name}", settings, found[name].options)


def _options(flag: str, settings: str, known: Mapping[str, PluginOption]) -> dict[str, Any]:
    options = {}
    for setting in filter(None, settings.split(",")):
        option, _, value = setting.partition("=")
        if option not in known:
            names = ", ".join(sorted(known)) or "none"
            raise ConfigError(f"{flag} has no option {option!r}; there are: {names}")
        try:
            options[option.replace("-", "_")] = known[option].parse(value)
        except ValueError as error:
            raise ConfigError(f"{flag}: {option}: {error}") from error
    return options
