"""EC2's error texts and the XML that contains them."""

from __future__ import annotations

import uuid
from xml.sax.saxutils import escape


class EC2Error(Exception):
    """An error from EC2: its code, message and HTTP status."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status

    def xml(self) -> str:
        return error_xml(self.code, self.message)


def error_xml(code: str, message: str) -> str:
    return ('<?xml version="1.0" encoding="UTF-8"?>\n'
            f"<Response><Errors><Error><Code>{escape(code)}</Code><Message>{escape(message)}</Message></Error></Errors>"
            f"<RequestID>{uuid.uuid4()}</RequestID></Response>")


def query_error_xml(code: str, message: str) -> str:
    """The error format of the other query services (STS, CloudWatch)."""
    return (f"<ErrorResponse><Error><Type>Sender</Type><Code>{escape(code)}</Code><Message>{escape(message)}</Message>"
            f"</Error><RequestId>{uuid.uuid4()}</RequestId></ErrorResponse>")


def interface_not_found(interface_id: str) -> EC2Error:
    return EC2Error("InvalidNetworkInterfaceID.NotFound", f"The networkInterface ID '{interface_id}' does not exist")


def subnet_not_found(subnet_id: str) -> EC2Error:
    return EC2Error("InvalidSubnetID.NotFound", f"The subnet ID '{subnet_id}' does not exist")


def instance_not_found(instance_id: str) -> EC2Error:
    return EC2Error("InvalidInstanceID.NotFound", f"The instance ID '{instance_id}' does not exist")


def no_free_blocks() -> EC2Error:
    return EC2Error("InsufficientCidrBlocks",
                    "The specified subnet does not have enough free cidr blocks to satisfy the request.")


def no_ipv6_cidr(subnet_id: str) -> EC2Error:
    return EC2Error("InvalidParameterValue", f"The subnet '{subnet_id}' does not have an IPv6 CIDR block.")


def too_many_addresses() -> EC2Error:
    return EC2Error("PrivateIpAddressLimitExceeded", "Number of private addresses will exceed limit.")


def auth_failure() -> EC2Error:
    return EC2Error("AuthFailure", "AWS was not able to validate the provided access credentials", 401)
