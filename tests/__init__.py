"""The suite, and what its tests share: conftest, postgres, running, accuracy."""
