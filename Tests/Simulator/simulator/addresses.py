"""Allocates addresses of a subnet: the lowest first, never one twice, never a reserved one."""

from __future__ import annotations

import ipaddress

from .errors import EC2Error, no_free_blocks

_FREE, _TAKEN, _PREFIX_RESERVED, _EXPLICIT_RESERVED, _AWS = 0, 1, 2, 3, 4
PREFIX_LENGTH = 28
_BLOCK = 1 << (32 - PREFIX_LENGTH)


class SubnetAddresses:
    """The IPv4 addresses of one subnet. Not thread-safe: the caller holds the world's lock."""

    def __init__(self, cidr: str) -> None:
        self.network = ipaddress.IPv4Network(cidr)
        self._base = int(self.network.network_address)
        self._state = bytearray(self.network.num_addresses)
        # the network, the gateway, the DNS resolver, one reserved for future use, the broadcast address
        for offset in (0, 1, 2, 3, self.network.num_addresses - 1):
            self._state[offset] = _AWS
        self._reservations: dict[str, int] = {}

    @property
    def free(self) -> int:
        """AvailableIpAddressCount: addresses in a prefix reservation do not count."""
        return self._state.count(_FREE) + self._state.count(_EXPLICIT_RESERVED)

    def take(self, count: int) -> list[str]:
        """The `count` lowest free addresses.

        Raises InsufficientFreeAddressesInSubnet and takes none if there are fewer.
        """
        offsets: list[int] = []
        start = 0
        for _ in range(count):
            offset = self._state.find(_FREE, start)
            if offset < 0:
                raise EC2Error("InsufficientFreeAddressesInSubnet",
                               "The specified subnet does not have enough free addresses to satisfy the request.")
            offsets.append(offset)
            start = offset + 1
        for offset in offsets:
            self._state[offset] = _TAKEN
        return [self._address(offset) for offset in offsets]

    def take_address(self, address: str) -> None:
        """Takes one named address. Raises InvalidParameterValue or InvalidIPAddress.InUse."""
        offset = self._offset(address)
        if self._state[offset] == _AWS:
            raise EC2Error("InvalidParameterValue", f"Address {address} is in subnet's reserved address range")
        if self._state[offset] == _TAKEN:
            raise EC2Error("InvalidIPAddress.InUse", f"Address {address} is in use.")
        self._state[offset] = _TAKEN

    def take_prefixes(self, count: int) -> list[str]:
        """The `count` lowest free /28 blocks; those in prefix reservations come first.

        Raises as EC2 does: InvalidParameterValue if the subnet has too few free addresses in total,
        InsufficientCidrBlocks if it has enough, but too few free blocks.
        """
        blocks = self._blocks(_PREFIX_RESERVED, count)
        if len(blocks) < count:
            blocks += self._blocks(_FREE, count - len(blocks))
        if len(blocks) < count:
            if self._state.count(_FREE) + self._state.count(_PREFIX_RESERVED) < count * _BLOCK:
                raise no_room_for_prefixes()
            raise no_free_blocks()
        for offset in blocks:
            self._fill(offset, _BLOCK, _TAKEN)
        return [f"{self._address(offset)}/{PREFIX_LENGTH}" for offset in blocks]

    def take_prefix(self, prefix: str) -> None:
        """Takes one named /28. Raises InvalidParameterValue or InsufficientCidrBlocks."""
        try:
            network = ipaddress.IPv4Network(prefix)
        except ValueError:
            raise EC2Error("InvalidParameterValue", f"The prefix {prefix} is not valid.") from None
        if network.prefixlen != PREFIX_LENGTH:
            raise EC2Error("InvalidParameterValue", f"The prefix {prefix} must be a /{PREFIX_LENGTH}.")
        offset = self._offset(str(network.network_address))
        states = set(self._state[offset:offset + _BLOCK])
        if not states <= {_FREE} and not states <= {_PREFIX_RESERVED}:
            raise EC2Error("InvalidIPAddress.InUse", f"Prefix {prefix} is in use.")
        self._fill(offset, _BLOCK, _TAKEN)

    def release(self, address: str) -> None:
        offset = self._offset(address)
        if self._state[offset] == _TAKEN:
            self._state[offset] = self._reserved_state(offset)

    def release_prefix(self, prefix: str) -> None:
        offset = self._offset(prefix.partition("/")[0])
        for each in range(offset, offset + _BLOCK):
            self._state[each] = self._reserved_state(each)

    def reserve(self, cidr: str, kind: str) -> None:
        """Adds a subnet CIDR reservation of type `prefix` or `explicit`; addresses in use stay in use."""
        network = ipaddress.IPv4Network(cidr)
        state = _PREFIX_RESERVED if kind == "prefix" else _EXPLICIT_RESERVED
        self._reservations[cidr] = state
        offset = self._offset(str(network.network_address))
        for each in range(offset, offset + network.num_addresses):
            if self._state[each] == _FREE:
                self._state[each] = state

    def unreserve(self, cidr: str) -> None:
        self._reservations.pop(cidr, None)
        network = ipaddress.IPv4Network(cidr)
        offset = self._offset(str(network.network_address))
        for each in range(offset, offset + network.num_addresses):
            if self._state[each] in (_PREFIX_RESERVED, _EXPLICIT_RESERVED):
                self._state[each] = _FREE

    def lowest_of_each_free_block(self) -> list[str]:
        """One address in every completely free /28: taking all of them leaves no room for a prefix."""
        return [self._address(offset) for offset in self._blocks(_FREE, len(self._state))]

    def _blocks(self, state: int, count: int) -> list[int]:
        wanted = bytes([state]) * _BLOCK
        found: list[int] = []
        for offset in range(0, len(self._state), _BLOCK):
            if len(found) == count:
                break
            if self._state[offset:offset + _BLOCK] == wanted:
                found.append(offset)
        return found

    def _reserved_state(self, offset: int) -> int:
        for cidr, state in self._reservations.items():
            network = ipaddress.IPv4Network(cidr)
            if 0 <= offset - (int(network.network_address) - self._base) < network.num_addresses:
                return state
        return _FREE

    def _fill(self, offset: int, count: int, state: int) -> None:
        self._state[offset:offset + count] = bytes([state]) * count

    def _address(self, offset: int) -> str:
        return str(ipaddress.IPv4Address(self._base + offset))

    def _offset(self, address: str) -> int:
        try:
            offset = int(ipaddress.IPv4Address(address)) - self._base
        except ValueError:
            raise EC2Error("InvalidParameterValue", f"The address {address} is not valid.") from None
        if not 0 <= offset < len(self._state):
            raise EC2Error("InvalidParameterValue", f"Address {address} does not fall within the subnet's address range")
        return offset


def no_room_for_prefixes() -> EC2Error:
    return EC2Error("InvalidParameterValue", "There aren't sufficient free Ipv4 addresses or prefixes")
