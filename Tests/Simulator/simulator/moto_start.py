"""Skips what moto need not do at startup: three quarters of the CPU time that a simulated VPC takes to start."""

from __future__ import annotations

import functools
import gc
import json
import os
from typing import Any

# Services whose endpoint prefix differs from the service's name.
_ENDPOINTS = {"cloudwatch": "monitoring"}
_SERVICES = {"cloudwatch", "ec2", "iam", "sts"}


def lighten() -> None:
    """Must be called before the first import of moto; `settle` ends the start."""
    # Nothing that moto loads becomes garbage, and the collector would go through it again and again.
    gc.disable()
    # Thousands of images; instances here use one image, which moto does not check.
    os.environ["MOTO_EC2_LOAD_DEFAULT_AMIS"] = "false"
    _read_models_fast()
    _share_session()
    _know_endpoints()
    _skip_offerings()


def settle() -> None:
    """Must be called once moto is loaded: from now on the collector leaves out what exists already."""
    gc.freeze()
    gc.enable()


def _read_models_fast() -> None:
    """Reads botocore's models into plain dictionaries, and each file once: its own ordered dictionaries take twice the time,
    and each session reads the table of endpoints, 1.2 MB, again."""
    import botocore.loaders

    @functools.cache
    def load(path: str, open_file: Any) -> Any:
        if not os.path.isfile(path):
            return None
        with open_file(path, "rb") as file:
            return json.loads(file.read())

    botocore.loaders.JSONFileLoader._load_file = lambda self, path, open_file: load(path, open_file)  # type: ignore[method-assign]


def _share_session() -> None:
    """Gives all modules of moto one session in place of one each: they only ask it for the names of regions."""
    import boto3

    boto3.Session = functools.cache(boto3.Session)  # type: ignore[misc]


def _know_endpoints() -> None:
    """Avoids a slow lookup: to list a service's regions, botocore parses the service's whole model only for its endpoint prefix."""
    import botocore.session

    of_models = botocore.session.Session.get_available_regions

    known: dict[tuple[str, str, bool], list[str]] = {}

    def get_available_regions(self: Any, service_name: str, partition_name: str = "aws", allow_non_regional: bool = False) -> list[str]:
        if service_name not in _SERVICES:
            return of_models(self, service_name, partition_name, allow_non_regional)
        asked = (_ENDPOINTS.get(service_name, service_name), partition_name, allow_non_regional)
        if asked not in known:
            known[asked] = self._get_internal_component("endpoint_resolver").get_available_endpoints(*asked)
        return list(known[asked])

    botocore.session.Session.get_available_regions = get_available_regions  # type: ignore[method-assign]


def _skip_offerings() -> None:
    """Skips the table of instance types by zone: 95 files, for a call that the simulator does not serve."""
    import moto.utilities.utils

    load = moto.utilities.utils.load_resource

    def load_resource(package: str, resource: str) -> Any:
        return [] if "/instance_type_offerings/" in resource else load(package, resource)

    moto.utilities.utils.load_resource = load_resource
