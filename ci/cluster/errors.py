"""The one error of the local cluster."""

from __future__ import annotations


class ClusterError(Exception):
    """Something that the user must know or do; the message is complete, no traceback is needed."""
