"""Tests of the IPv6 allocator in isolation."""

from __future__ import annotations

import pytest

from simulator.addresses6 import SubnetAddresses6, canonical_address, canonical_prefix
from test_addresses import code

SUBNET = "2001:db8:0:1::/64"


def test_the_lowest_free_address_comes_first_and_never_a_reserved_one():
    pool = SubnetAddresses6(SUBNET)
    assert pool.take(3) == ["2001:db8:0:1::4", "2001:db8:0:1::5", "2001:db8:0:1::6"]
    pool.release("2001:db8:0:1::5")
    assert pool.take(2) == ["2001:db8:0:1::5", "2001:db8:0:1::7"]
    for address in ("2001:db8:0:1::", "2001:db8:0:1::3", "2001:db8:0:1:ffff:ffff:ffff:ffff", "2001:db8:0:2::4"):
        assert code(pool.take_address, address) == "InvalidParameterValue"
    assert code(pool.take_address, "2001:db8:0:1::4") == "InvalidIPAddress.InUse"


def test_a_prefix_is_a_whole_free_block_and_the_lowest_first():
    pool = SubnetAddresses6(SUBNET)
    assert pool.take_prefixes(2) == ["2001:db8:0:1:1::/80", "2001:db8:0:1:2::/80"]
    pool.take_address("2001:db8:0:1:3::9")
    assert pool.take_prefixes(1) == ["2001:db8:0:1:4::/80"]
    pool.release_prefix("2001:db8:0:1:1::/80")
    pool.release("2001:db8:0:1:3::9")
    assert pool.take_prefixes(2) == ["2001:db8:0:1:1::/80", "2001:db8:0:1:3::/80"]


def test_named_prefixes():
    pool = SubnetAddresses6(SUBNET)
    pool.take_prefix("2001:db8:0:1:77::/80")
    assert code(pool.take_prefix, "2001:db8:0:1:77::/80") == "InvalidIPAddress.InUse"
    assert code(pool.take_address, "2001:db8:0:1:77::1") == "InvalidIPAddress.InUse"
    # the first block holds reserved addresses, and so does the last
    for prefix in ("2001:db8:0:1::/80", "2001:db8:0:1:ffff::/80"):
        assert code(pool.take_prefix, prefix) == "InvalidIPAddress.InUse"
    for prefix in ("2001:db8:0:1:78::/81", "2001:db8:0:2:1::/80"):
        assert code(pool.take_prefix, prefix) == "InvalidParameterValue"


def test_a_fragmented_subnet_has_addresses_and_no_prefix():
    pool = SubnetAddresses6(SUBNET)
    assert pool.free_prefixes == 65534
    for each in pool.lowest_of_each_free_block()[1:]:
        pool.take_address(each)
    assert pool.free_prefixes == 1
    assert code(pool.take_prefixes, 2) == "InsufficientCidrBlocks"
    assert pool.take_prefixes(1) == ["2001:db8:0:1:1::/80"]
    assert code(pool.take_prefixes, 1) == "InsufficientCidrBlocks"
    assert pool.take(1) == ["2001:db8:0:1::4"]


def test_every_spelling_of_an_address_is_the_same():
    assert canonical_address("2001:DB8:0:0001:0:0:0:4") == "2001:db8:0:1::4"
    assert canonical_prefix("2001:DB8:0:1:1:0:0:0/80") == "2001:db8:0:1:1::/80"
    assert code(canonical_address, "192.0.2.1") == code(canonical_prefix, "2001:db8::1/80") == "InvalidParameterValue"


def test_a_subnet_is_a_64():
    with pytest.raises(ValueError, match="not a /64"):
        SubnetAddresses6("2001:db8::/56")
