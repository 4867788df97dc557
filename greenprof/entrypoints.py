"""The entry points of a group, without importlib.metadata where no installed package has any.

Importing that takes longer than all of greenprof's samplers: it reads metadata as e-mail. Nearly
nobody has what is looked for here, and that is seen from the files themselves.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["entry_points", "may_have"]

_METADATA = (".dist-info", ".egg-info")
# What importlib.metadata too takes for a distribution that has no such file.
_NO_FILE = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)


def entry_points(group: str) -> Iterable[EntryPoint]:
    """What `importlib.metadata.entry_points` returns for a group."""
    if not may_have(group):
        return ()
    from importlib import metadata

    return metadata.entry_points(group=group)


def may_have(group: str) -> bool:
    """Whether any distribution can have entry points of the group: True wherever that is not certain.

    It is where packages are found in folders alone, and no folder's metadata has the group's name in it.
    """
    # Who finds modules elsewhere may find distributions there.
    if any(one is not PathFinder and hasattr(one, "find_distributions") for one in sys.meta_path):
        return True
    return any(_folder_may_have(folder, group.encode()) for folder in list(sys.path))


def _folder_may_have(folder: object, group: bytes) -> bool:
    if not isinstance(folder, str):
        return True
    try:
        names = os.listdir(folder or os.curdir)
    except (FileNotFoundError, ValueError):  # or what cannot be a file's name
        return False
    except OSError:  # an archive, perhaps
        return True
    is_egg = folder.lower().endswith(".egg")
    for name in names:
        lowered = name.lower()
        if lowered.endswith(_METADATA) or (is_egg and lowered == "egg-info"):
            try:
                with open(f"{folder or os.curdir}/{name}/entry_points.txt", "rb", 0) as file:
                    if group in file.read():
                        return True
            except _NO_FILE:
                continue
            except OSError:
                return True
    return False
