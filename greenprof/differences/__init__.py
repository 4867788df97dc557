"""What changed between two profiles: they are made comparable, and put side by side."""

from __future__ import annotations

from greenprof.differences.chance import Chance
from greenprof.differences.comparison import (
    AwaitChange,
    Change,
    Comparison,
    FunctionChange,
    GroupChange,
    SiteChange,
    compare,
    counted_changes,
    function_changes,
    group_changes,
    paired_sites,
    site_changes,
    total_changes,
)
from greenprof.differences.joining import Joined, join
from greenprof.differences.matching import SCALES

__all__ = [
    "SCALES",
    "AwaitChange",
    "Chance",
    "Change",
    "Comparison",
    "FunctionChange",
    "GroupChange",
    "Joined",
    "SiteChange",
    "compare",
    "counted_changes",
    "function_changes",
    "group_changes",
    "join",
    "paired_sites",
    "site_changes",
    "total_changes",
]
