"""A program run as an ordinary user, without any capability."""

from __future__ import annotations

# setpriv keeps until then what it takes to start a program in a folder that only root may enter, as a clone may be.
AS_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs", "--bounding-set=-all",
             "--inh-caps=-all"]
