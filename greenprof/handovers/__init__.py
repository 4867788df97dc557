"""Awaits as they are handed over a bridge: where each begins and ends, how, and what it is called."""
