"""greenprof as a part of other tools."""
