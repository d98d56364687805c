"""The VPC's router for IPv6, on the fabric's end of every ENI: it advertises itself and answers for neighbours of a subnet."""

from __future__ import annotations

import ctypes
import ipaddress
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass

ROUTER_ADDRESS6 = "fe80:ec2::1"  # the fabric's kernel has this one on every ENI's device and answers for it
ADVERTISEMENT_SECONDS = 30.0

_SOLICIT_ROUTER, _ADVERTISE_ROUTER, _SOLICIT_NEIGHBOUR, _ADVERTISE_NEIGHBOUR = 133, 134, 135, 136
_ICMP6 = 58
_ALL_NODES = ipaddress.IPv6Address("ff02::1").packed
_ALL_NODES_MAC = bytes.fromhex("333300000001")
_SO_ATTACH_FILTER = 26
_UNSPECIFIED = bytes(16)
# BPF: ICMPv6 directly after the IPv6 header, type 133 or 135
_FILTER = [(0x28, 0, 0, 12), (0x15, 0, 6, 0x86DD), (0x30, 0, 0, 20), (0x15, 0, 4, _ICMP6), (0x30, 0, 0, 54),
           (0x15, 1, 0, _SOLICIT_ROUTER), (0x15, 0, 1, _SOLICIT_NEIGHBOUR), (0x06, 0, 0, 0xFFFF), (0x06, 0, 0, 0)]


@dataclass(frozen=True)
class _Port:
    mac: bytes
    address: bytes  # link-local, the source of advertisements
    network: bytes  # the first eight bytes of the subnet's addresses; empty for a subnet without IPv6


class Router6:
    """Must be created in the fabric's namespace. Thread-safe.

    A subnet's /64 is on-link for its nodes, but each ENI is a link of its own: as in a VPC, the router answers the
    solicitation of a neighbour if another ENI has the address, and does not if none has it. It advertises the /64
    without autoconfiguration, and itself as default router, on every ENI: in answer to a solicitation, when told to, and
    every 30 s (each third of the lifetime if that is shorter).
    """

    def __init__(self, lifetime: float) -> None:
        self._lock = threading.Lock()
        self.lifetime = lifetime
        self._ports: dict[str, _Port] = {}
        self._owners: dict[bytes, str] = {}  # an address, or the first ten bytes of a prefix, to its ENI's device
        self._keys: dict[str, set[bytes]] = {}  # the same by device
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x86DD))
        program = b"".join(struct.pack("HBBI", *each) for each in _FILTER)
        held = ctypes.create_string_buffer(program, len(program))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HL", len(_FILTER), ctypes.addressof(held)))
        threading.Thread(target=self._serve, name="router6", daemon=True).start()

    def add_port(self, device: str, mac: str, network: ipaddress.IPv6Network | None) -> None:
        """`mac` is the device's own; `network` is the /64 of the ENI's subnet."""
        hardware = bytes.fromhex(mac.replace(":", ""))
        with self._lock:
            self._ports[device] = _Port(hardware, link_local(hardware), network.network_address.packed[:8] if network else b"")

    def remove_port(self, device: str) -> None:
        self.set_routes(device, set())
        with self._lock:
            self._ports.pop(device, None)

    def set_routes(self, device: str, routes: set[str]) -> None:
        """The addresses (/128) and prefixes (/80) of the ENI; routes of IPv4 are passed over."""
        keys = {_key(each) for each in routes if ":" in each}
        with self._lock:
            for each in self._keys.pop(device, set()) - keys:
                if self._owners.get(each) == device:
                    del self._owners[each]
            if keys:
                self._keys[device] = keys
                self._owners.update((each, device) for each in keys)

    def set_lifetime(self, seconds: float) -> None:
        """Changes the lifetime of the default route in advertisements, and advertises on every ENI. 0: no default router."""
        with self._lock:
            self.lifetime = seconds
        self._advertise_everywhere()

    def advertise(self, device: str) -> None:
        with self._lock:
            port, lifetime = self._ports.get(device), self.lifetime
        if port is not None and port.network:
            self._send(device, advertisement(port.mac, port.address, port.network, lifetime))

    def close(self) -> None:
        self._socket.close()

    def _serve(self) -> None:
        due = time.monotonic()
        while self._socket.fileno() >= 0:
            interval = min(ADVERTISEMENT_SECONDS, self.lifetime / 3 or ADVERTISEMENT_SECONDS)
            due = min(due, time.monotonic() + interval)
            try:
                # a closed socket is noticed within a second
                ready, _, _ = select.select([self._socket], [], [], max(0.0, min(1.0, due - time.monotonic())))
                if ready:
                    frame, (device, _, kind, *_) = self._socket.recvfrom(2048)
                    if kind != socket.PACKET_OUTGOING:
                        self._answer(device, frame)
            except (OSError, ValueError):
                continue
            if time.monotonic() >= due:
                self._advertise_everywhere()
                due = time.monotonic() + interval

    def _answer(self, device: str, frame: bytes) -> None:
        if len(frame) < 62 or frame[21] != 255:
            return
        if frame[54] == _SOLICIT_ROUTER:
            self.advertise(device)
            return
        source, target = frame[22:38], frame[62:78]
        with self._lock:
            port = self._ports.get(device)
            owner = self._owners.get(target) or self._owners.get(target[:10])
        # no answer to the search for a duplicate address, which has no source: an ENI searches for its own
        if port is None or target[:8] != port.network or owner in (None, device) or source == _UNSPECIFIED:
            return
        body = struct.pack("!BBHI", _ADVERTISE_NEIGHBOUR, 0, 0, 0x60000000) + target + b"\x02\x01" + port.mac
        self._send(device, _frame(port.mac, frame[6:12], port.address, source, body))

    def _advertise_everywhere(self) -> None:
        with self._lock:
            devices = list(self._ports)
        for each in devices:
            self.advertise(each)

    def _send(self, device: str, frame: bytes) -> None:
        try:
            self._socket.sendto(frame, (device, 0))
        except OSError:
            pass  # the instance is gone, or its device is down


def advertisement(mac: bytes, source: bytes, network: bytes, lifetime: float) -> bytes:
    """The frame of a router advertisement to all nodes: addresses are managed, the /64 is on-link."""
    body = struct.pack("!BBHBBHII", _ADVERTISE_ROUTER, 0, 0, 255, 0xC0, int(lifetime), 0, 0)
    body += b"\x01\x01" + mac
    body += struct.pack("!BBBBIII", 3, 4, 64, 0x80, 0xFFFFFFFF, 0xFFFFFFFF, 0) + network + bytes(8)
    return _frame(mac, _ALL_NODES_MAC, source, _ALL_NODES, body)


def link_local(mac: bytes) -> bytes:
    """The link-local address that the kernel makes of a MAC."""
    return b"\xfe\x80" + bytes(6) + bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:]


def router_mac(mac: str) -> str:
    """The MAC of the router on the ENI that has `mac`: another locally administered one for each ENI."""
    return f"0a{mac[2:]}"


def _frame(from_mac: bytes, to_mac: bytes, source: bytes, destination: bytes, body: bytes) -> bytes:
    total = sum(struct.unpack(f"!{(32 + len(body)) // 2}H", source + destination + body)) + len(body) + _ICMP6
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    body = body[:2] + struct.pack("!H", ~total & 0xFFFF) + body[4:]
    header = struct.pack("!IHBB", 6 << 28, len(body), _ICMP6, 255)
    return to_mac + from_mac + b"\x86\xdd" + header + source + destination + body


def _key(route: str) -> bytes:
    address, _, length = route.partition("/")
    return ipaddress.IPv6Address(address).packed[:int(length) // 8]

