"""Skips what moto need not load at startup: two thirds of the CPU time that a simulated VPC takes to start."""

from __future__ import annotations

import os
from typing import Any

# Services whose endpoint prefix differs from the service's name.
_ENDPOINTS = {"cloudwatch": "monitoring"}
_SERVICES = {"cloudwatch", "ec2", "iam", "sts"}


def lighten() -> None:
    """Must be called before the first import of moto."""
    # Thousands of images; instances here use one image, which moto does not check.
    os.environ["MOTO_EC2_LOAD_DEFAULT_AMIS"] = "false"
    _know_endpoints()
    _skip_offerings()


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
