"""What a task of a shuffle is to the scheduler."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

__all__ = ["BARRIER", "ROLE", "SHARDS", "Graph", "Roles"]

#: The annotation, and its values as the extension module knows them.
ROLE = "taskloom_role"
#: The result names files that only its worker has.
SHARDS = "shards"
#: The result lists those of its inputs, and is worth nothing without them.
BARRIER = "barrier"

Graph = dict[Hashable, Any]
Roles = dict[Hashable, str]
