"""The steps that every AWS request passes on its way to moto: counting, buckets, denials, latency, faults."""

from __future__ import annotations

import calendar
import contextlib
import fnmatch
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from io import BytesIO
from typing import Any
from urllib.parse import parse_qsl

from .buckets import RequestBuckets
from .counts import CallCounts
from .credentials import RoleCredentials
from .errors import EC2Error, auth_failure, error_xml, query_error_xml
from .faults import Fault, FaultTable
from .http_listener import Reply, Request

_ERROR_CODE = re.compile(rb"<Code>([^<]*)</Code>")
_UNSIGNED = {"AssumeRoleWithWebIdentity": "sts", "AssumeRoleWithSAML": "sts"}
_SCOPE = re.compile(r"Credential=([^/,\s]+)/(\d{8})/([^/]+)/([^/]+)/aws4_request")


class Gate:
    """Answers requests for the AWS services with moto's WSGI application behind it."""

    def __init__(self, application: Callable[..., Any], region: str, callers: Callable[[str], str],
                 credentials: RoleCredentials, verify: bool) -> None:
        self._application = application
        self._region = region
        self._callers = callers
        self._credentials = credentials
        self._verify = verify
        self._lock = threading.Lock()
        self._latency: dict[str, float] = {}
        self._denied: set[str] = set()
        self.counts = CallCounts()
        self.buckets = RequestBuckets()
        self.faults = FaultTable()

    def set_latency(self, action: str, seconds: float) -> dict[str, float]:
        """Adds this latency to every call of `action` (a glob); 0 removes it. Returns all latencies."""
        if not 0 <= seconds <= 600:
            raise ValueError(f"latency {seconds} is not between 0 and 600 seconds")
        with self._lock:
            if seconds:
                self._latency[action] = seconds
            else:
                self._latency.pop(action, None)
            return dict(self._latency)

    def deny(self, action: str) -> None:
        with self._lock:
            self._denied.add(action)

    def allow(self, action: str) -> bool:
        """Ends the denial of an action. Returns whether it was denied before."""
        with self._lock:
            before = action in self._denied
            self._denied.discard(action)
            return before

    @property
    def denied(self) -> list[str]:
        return sorted(self._denied)

    def warm_up(self) -> None:
        """Lets moto load what its first answers need, so that no first call is slow."""
        scope = f"Credential=AKIAWARMUPWARMUPWARM/20200101/{self._region}/ec2/aws4_request, SignedHeaders=host, Signature=0"
        for action in ("DescribeSubnets", "DescribeNetworkInterfaces", "DescribeInstances", "DescribeInstanceTypes&InstanceType.1=m5.large"):
            headers = {"Host": "localhost", "Content-Type": "application/x-www-form-urlencoded",
                       "Authorization": f"AWS4-HMAC-SHA256 {scope}", "X-Amz-Date": "20200101T000000Z"}
            self._act(Request("POST", "/", headers, f"Action={action}&Version=2016-11-15".encode(), "127.0.0.1"))

    def respond(self, request: Request) -> Reply:
        caller = self._callers(request.peer)
        with self.counts.running(caller):
            return self._respond(request, caller)

    def _respond(self, request: Request, caller: str) -> Reply:
        parameters = _parameters(request)
        service, error = self._service(request, parameters)
        name = parameters.get("Action") or request.headers.get("X-Amz-Target", "").rpartition(".")[2] or request.target
        action = name if service == "ec2" else f"{service}:{name}"
        if error is not None:
            self.counts.add(action, caller, "failed", error.code)
            return _xml(service, error)
        if service == "ec2" and not self.buckets.admit(name, parameters):
            self.counts.add(action, caller, "refused", "RequestLimitExceeded")
            return _xml(service, EC2Error("RequestLimitExceeded", "Request limit exceeded.", 503))
        with self.faults.met(action, caller) as fault:
            return self._serve(request, service, name, action, caller, fault)

    def _serve(self, request: Request, service: str, name: str, action: str, caller: str, fault: Fault | None) -> Reply:
        if fault is not None and fault.delay:
            time.sleep(fault.delay)
        if fault is not None and fault.when == "before" and not fault.only_delay:
            self.counts.add(action, caller, "failed", fault.code)
            return faulty_reply(fault, error_xml(fault.code, fault.message))
        if delay := self._delay(action):
            time.sleep(delay)
        if self._is_denied(action):
            reply = _xml(service, EC2Error(
                "UnauthorizedOperation" if service == "ec2" else "AccessDenied",
                f"You are not authorized to perform this operation. User: {self._credentials.session_arn(caller)} "
                f"is not authorized to perform: {service}:{name} because no identity-based policy allows the "
                f"{service}:{name} action",
                403))
        else:
            reply = self._act(request)
        failed = reply.status >= 400
        code = _ERROR_CODE.search(reply.body) if failed else None
        if fault is not None and fault.when == "after" and not fault.only_delay:
            self.counts.add(action, caller, "failed", fault.code)
            return faulty_reply(fault, error_xml(fault.code, fault.message))
        if fault is not None and fault.when == "answered":
            reply.sent = lambda: _kill(fault.kill)
        self.counts.add(action, caller, "failed" if failed else "successful",
                        (code.group(1).decode() if code else str(reply.status)) if failed else None)
        return reply

    def _service(self, request: Request, parameters: dict[str, str]) -> tuple[str, EC2Error | None]:
        """The service that a request addresses, and any error in the form of its signature."""
        scope = _SCOPE.search(request.headers.get("Authorization", ""))
        if scope is None:
            service = _UNSIGNED.get(parameters.get("Action", ""))
            if service is None:
                return "ec2", auth_failure()
            return service, None
        key, _, region, service = scope.groups()
        if region != self._region and service != "iam":
            return service, EC2Error("AuthFailure", "Credential should be scoped to a valid region.", 401)
        if self._verify:
            stamp = request.headers.get("X-Amz-Date", "")
            if self._credentials.is_expired(key) or not _is_recent(stamp):
                return service, EC2Error("RequestExpired" if service == "ec2" else "ExpiredToken", "Request has expired.")
        return service, None

    def _delay(self, action: str) -> float:
        with self._lock:
            return sum(seconds for pattern, seconds in self._latency.items() if fnmatch.fnmatchcase(action, pattern))

    def _is_denied(self, action: str) -> bool:
        with self._lock:
            return any(fnmatch.fnmatchcase(action, pattern) for pattern in self._denied)

    def _act(self, request: Request) -> Reply:
        path, _, query = request.target.partition("?")
        host = request.headers.get("Host", "localhost")
        environ: dict[str, Any] = {
            "REQUEST_METHOD": request.method, "SCRIPT_NAME": "", "PATH_INFO": path or "/", "QUERY_STRING": query,
            "RAW_URI": request.target, "REQUEST_URI": request.target,
            "SERVER_NAME": host.partition(":")[0], "SERVER_PORT": host.partition(":")[2] or "80",
            "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": request.peer,
            "CONTENT_TYPE": request.headers.get("Content-Type", ""), "CONTENT_LENGTH": str(len(request.body)),
            "wsgi.version": (1, 0), "wsgi.url_scheme": "http", "wsgi.input": BytesIO(request.body),
            "wsgi.errors": BytesIO(), "wsgi.multithread": True, "wsgi.multiprocess": False, "wsgi.run_once": False,
        }
        for name, value in request.headers.items():
            key = name.upper().replace("-", "_")
            if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
                environ[f"HTTP_{key}"] = value
        reply = Reply()

        def start_response(status: str, headers: list[tuple[str, str]], *_: Any) -> None:
            reply.status = int(status.split()[0])
            skipped = {"content-length", "connection", "server", "date", "transfer-encoding", "status"}
            reply.headers = {name: value for name, value in headers if name.lower() not in skipped}

        try:
            reply.body = b"".join(self._application(environ, start_response))
        except Exception as error:  # moto raises various exceptions for what it does not implement
            return Reply(500, {"Content-Type": "text/xml"}, error_xml("InternalError", f"simulator: {error!r}").encode())
        return reply


def faulty_reply(fault: Fault, document: str) -> Reply:
    """The answer that a fault puts in place of the real one. A process to be killed is dead before the answer is sent."""
    if fault.kill:
        _kill(fault.kill)
        return Reply(drop=True)
    body = (fault.body if fault.body is not None else document).encode()
    if fault.size > len(body):
        body += b" " * (fault.size - len(body))
    return Reply(fault.http, {"Content-Type": "text/xml;charset=UTF-8"}, body, truncate=fault.truncate, drop=fault.drop)


def _kill(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def _xml(service: str, error: EC2Error) -> Reply:
    document = error.xml() if service == "ec2" else query_error_xml(error.code, error.message)
    return Reply(error.status, {"Content-Type": "text/xml;charset=UTF-8"}, document.encode())


def _parameters(request: Request) -> dict[str, str]:
    query = request.target.partition("?")[2]
    text = request.body.decode("utf-8", "replace") if request.body and request.body[:1] not in b"{[" else ""
    try:
        return dict(parse_qsl(query, keep_blank_values=True) + parse_qsl(text, keep_blank_values=True))
    except ValueError:
        return {}


def _is_recent(stamp: str) -> bool:
    try:
        at = time.strptime(stamp, "%Y%m%dT%H%M%SZ")
    except ValueError:
        return False
    return abs(calendar.timegm(at) - time.time()) < 300
