"""The instance role, its policy, and the credentials that IMDS returns for it. moto's IAM and STS issue them."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from typing import Any

ROLE = "vpcsim-node-role"
ACCOUNT = "123456789012"

# AmazonEKS_CNI_Policy, additional permissions for IPv6 and the metrics helper, and subnet discovery
_NODE_ACTIONS = [
    "ec2:AssignPrivateIpAddresses", "ec2:AttachNetworkInterface", "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface", "ec2:DescribeInstances", "ec2:DescribeTags", "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeInstanceTypes", "ec2:DescribeSubnets", "ec2:DescribeSecurityGroups", "ec2:DetachNetworkInterface",
    "ec2:ModifyNetworkInterfaceAttribute", "ec2:UnassignPrivateIpAddresses", "ec2:AssignIpv6Addresses",
    "ec2:UnassignIpv6Addresses", "ec2:CreateTags", "ec2:DescribeVpcs", "cloudwatch:PutMetricData",
    "monitoring:PutMetricData", "sts:GetCallerIdentity",
]


@dataclass
class Issued:
    key: str
    secret: str
    token: str
    updated: float
    expires: float


class RoleCredentials:
    """Credentials for each caller, renewed when less than a sixth of their lifetime is left, as in IMDS."""

    def __init__(self, region: str, lifetime: float) -> None:
        from moto.iam.models import iam_backends
        from moto.sts.models import sts_backends

        self._region = region
        self.lifetime = lifetime
        self._lock = threading.Lock()
        self._issued: dict[str, Issued] = {}
        self._expiries: dict[str, float] = {}
        self._sts: Any = sts_backends[ACCOUNT]["aws"]
        iam: Any = iam_backends[ACCOUNT]["aws"]
        trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"},
                                                         "Action": "sts:AssumeRole"}]}
        self._role = iam.create_role(
            role_name=ROLE, assume_role_policy_document=json.dumps(trust), path="/", permissions_boundary=None,
            description="", tags=[], max_session_duration="3600")
        iam.put_role_policy(ROLE, "node", _policy(_NODE_ACTIONS))
        iam.create_user(region_name=region, user_name="operator")
        iam.put_user_policy("operator", "everything", _policy(["*"]))
        key = iam.create_access_key("operator")
        self.operator = {"AWS_ACCESS_KEY_ID": key.access_key_id, "AWS_SECRET_ACCESS_KEY": key.secret_access_key,
                         "AWS_DEFAULT_REGION": region}

    @property
    def role_arn(self) -> str:
        return str(self._role.arn)

    def session_arn(self, caller: str) -> str:
        return f"arn:aws:sts::{ACCOUNT}:assumed-role/{ROLE}/{caller}"

    def current(self, caller: str) -> Issued:
        """The credentials that IMDS shows this instance now."""
        now = time.time()
        with self._lock:
            issued = self._issued.get(caller)
            if issued is None or issued.expires - now < self.lifetime / 6:
                role = self._sts.assume_role(region_name=self._region, role_session_name=caller, role_arn=self.role_arn,
                                             policy=None, duration=int(self.lifetime), external_id=None)
                issued = Issued(role.access_key_id, role.secret_access_key, role.session_token, now, now + self.lifetime)
                self._issued[caller] = issued
                self._expiries[issued.key] = issued.expires
            return issued

    def rotate(self) -> None:
        """Issued credentials stay valid for their lifetime; the next request for credentials gets new ones."""
        with self._lock:
            self._issued.clear()

    def is_expired(self, key: str) -> bool:
        expires = self._expiries.get(key)
        return expires is not None and time.time() > expires


def _policy(actions: list[str]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": actions, "Resource": "*"}]})
