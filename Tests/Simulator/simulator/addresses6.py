"""Allocates IPv6 addresses and /80 prefixes of a subnet: the lowest first, never one twice, never a reserved one."""

from __future__ import annotations

import ipaddress
from collections import Counter

from .errors import EC2Error, no_free_blocks

PREFIX_LENGTH6 = 80
_BLOCK_BITS = 128 - PREFIX_LENGTH6
_BLOCKS = 1 << (PREFIX_LENGTH6 - 64)
_LAST = (1 << 64) - 1
_RESERVED = (0, 1, 2, 3, _LAST)  # the subnet's first four addresses and its last


class SubnetAddresses6:
    """The IPv6 addresses of one subnet, a /64. Not thread-safe: the caller holds the world's lock.

    Addresses and prefixes are in canonical form (`canonical_address`, `canonical_prefix`). EC2 chooses at random; the
    lowest first makes tests repeatable.
    """

    def __init__(self, cidr: str) -> None:
        self.network = ipaddress.IPv6Network(cidr)
        if self.network.prefixlen != 64:
            raise ValueError(f"IPv6 CIDR {cidr} of a subnet is not a /64")
        self._base = int(self.network.network_address)
        self._addresses: set[int] = set()
        self._prefixes: set[int] = set()  # numbers of the taken /80 blocks
        self._per_block: Counter[int] = Counter(offset >> _BLOCK_BITS for offset in _RESERVED)

    def take(self, count: int) -> list[str]:
        """The `count` lowest free addresses outside of taken prefixes."""
        taken: list[str] = []
        offset = len(_RESERVED) - 1
        while len(taken) < count:
            if offset >> _BLOCK_BITS in self._prefixes:
                offset = ((offset >> _BLOCK_BITS) + 1) << _BLOCK_BITS
            elif offset in self._addresses:
                offset += 1
            else:
                self._take(offset)
                taken.append(self._address(offset))
        return taken

    def take_address(self, address: str) -> None:
        """Takes one named address. Raises InvalidParameterValue or InvalidIPAddress.InUse."""
        offset = self._offset(address)
        if offset in _RESERVED:
            raise EC2Error("InvalidParameterValue", f"Address {address} is in subnet's reserved address range")
        if offset in self._addresses or offset >> _BLOCK_BITS in self._prefixes:
            raise EC2Error("InvalidIPAddress.InUse", f"Address {address} is in use.")
        self._take(offset)

    def take_prefixes(self, count: int) -> list[str]:
        """The `count` lowest free /80 blocks. Raises InsufficientCidrBlocks and takes none if there are fewer."""
        blocks = self._free_blocks(count)
        if len(blocks) < count:
            raise no_free_blocks()
        self._prefixes.update(blocks)
        return [f"{self._address(block << _BLOCK_BITS)}/{PREFIX_LENGTH6}" for block in blocks]

    def take_prefix(self, prefix: str) -> None:
        """Takes one named /80. Raises InvalidParameterValue or InvalidIPAddress.InUse."""
        address, _, length = prefix.partition("/")
        if length != str(PREFIX_LENGTH6):
            raise EC2Error("InvalidParameterValue", f"The prefix {prefix} must be a /{PREFIX_LENGTH6}.")
        block = self._offset(address) >> _BLOCK_BITS
        if block in self._prefixes or self._per_block.get(block):
            raise EC2Error("InvalidIPAddress.InUse", f"Prefix {prefix} is in use.")
        self._prefixes.add(block)

    def release(self, address: str) -> None:
        offset = self._offset(address)
        if offset in self._addresses:
            self._addresses.remove(offset)
            self._per_block[offset >> _BLOCK_BITS] -= 1

    def release_prefix(self, prefix: str) -> None:
        self._prefixes.discard(self._offset(prefix.partition("/")[0]) >> _BLOCK_BITS)

    def lowest_of_each_free_block(self) -> list[str]:
        """One address in every completely free /80: taking all of them leaves no room for a prefix."""
        return [self._address(block << _BLOCK_BITS) for block in self._free_blocks(_BLOCKS)]

    @property
    def free_prefixes(self) -> int:
        return len(self._free_blocks(_BLOCKS))

    def _free_blocks(self, count: int) -> list[int]:
        found: list[int] = []
        for block in range(_BLOCKS):
            if len(found) == count:
                break
            if block not in self._prefixes and not self._per_block.get(block):
                found.append(block)
        return found

    def _take(self, offset: int) -> None:
        self._addresses.add(offset)
        self._per_block[offset >> _BLOCK_BITS] += 1

    def _address(self, offset: int) -> str:
        return str(ipaddress.IPv6Address(self._base + offset))

    def _offset(self, address: str) -> int:
        offset = int(ipaddress.IPv6Address(address)) - self._base
        if not 0 <= offset <= _LAST:
            raise EC2Error("InvalidParameterValue", f"Address {address} does not fall within the subnet's address range")
        return offset


def canonical_address(text: str) -> str:
    """The address as EC2 writes it, whatever form the caller used. Raises InvalidParameterValue."""
    try:
        return str(ipaddress.IPv6Address(text))
    except ValueError:
        raise EC2Error("InvalidParameterValue", f"The address {text} is not valid.") from None


def canonical_prefix(text: str) -> str:
    """The prefix as EC2 writes it. Raises InvalidParameterValue."""
    try:
        return str(ipaddress.IPv6Network(text))
    except ValueError:
        raise EC2Error("InvalidParameterValue", f"The prefix {text} is not valid.") from None
