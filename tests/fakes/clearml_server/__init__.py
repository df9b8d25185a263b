"""A ClearML API server for development and tests: in memory, one asyncio process, with fault injection.

Start it with ``python -m clearml_server`` or, from a test, with :class:`clearml_server.process.DevServer`.
"""
