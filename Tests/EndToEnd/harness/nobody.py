"""Runs a program as an ordinary user, without any capability."""

from __future__ import annotations

# Until exec, setpriv can still enter a folder that only root may enter, such as a clone, to start a program there.
AS_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs", "--bounding-set=-all",
             "--inh-caps=-all"]
