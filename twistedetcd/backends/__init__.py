"""
backends: engines that keep buckets of ordered keys, each behind `IBackend` and found as a plugin.

Yours to change: add an engine (one module, a line in ``twisted/plugins/``).
With care: what is durable when ``write`` returns.
Imports interfaces and errors.  Imported by service only, through the plugin system.
"""
