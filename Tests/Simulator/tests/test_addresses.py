"""Tests of the allocator in isolation."""

from __future__ import annotations

import pytest

from simulator.addresses import SubnetAddresses
from simulator.errors import EC2Error


def code(action, *arguments) -> str:
    with pytest.raises(EC2Error) as caught:
        action(*arguments)
    return caught.value.code


def test_the_lowest_free_address_comes_first_and_never_a_reserved_one():
    pool = SubnetAddresses("10.0.0.0/28")
    assert pool.free == 11
    assert pool.take(3) == ["10.0.0.4", "10.0.0.5", "10.0.0.6"]
    pool.release("10.0.0.5")
    assert pool.take(2) == ["10.0.0.5", "10.0.0.7"]
    assert pool.take(pool.free)[-1] == "10.0.0.14"
    assert code(pool.take, 1) == "InsufficientFreeAddressesInSubnet"


def test_what_is_asked_for_in_one_go_comes_whole_or_not_at_all():
    pool = SubnetAddresses("10.0.0.0/28")
    assert code(pool.take, 12) == "InsufficientFreeAddressesInSubnet"
    assert pool.free == 11


def test_named_addresses():
    pool = SubnetAddresses("10.0.0.0/28")
    pool.take_address("10.0.0.9")
    assert code(pool.take_address, "10.0.0.9") == "InvalidIPAddress.InUse"
    for address in ("10.0.0.0", "10.0.0.3", "10.0.0.15", "10.0.1.4", "nonsense"):
        assert code(pool.take_address, address) == "InvalidParameterValue"


def test_prefixes_are_aligned_whole_and_lowest_first():
    pool = SubnetAddresses("10.0.0.0/26")
    assert pool.take_prefixes(1) == ["10.0.0.16/28"]
    pool.take_address("10.0.0.33")
    # the last block holds the broadcast address, the first the router
    assert code(pool.take_prefixes, 1) == "InsufficientCidrBlocks"
    pool.release("10.0.0.33")
    assert pool.take_prefixes(1) == ["10.0.0.32/28"]
    pool.release_prefix("10.0.0.16/28")
    assert pool.take_prefixes(1) == ["10.0.0.16/28"]


def test_too_few_addresses_for_a_prefix_is_another_error_than_fragmentation():
    pool = SubnetAddresses("10.0.0.0/26")
    pool.take(pool.free - 15)
    assert code(pool.take_prefixes, 1) == "InvalidParameterValue"


def test_a_prefix_reservation_is_kept_from_single_addresses():
    pool = SubnetAddresses("10.0.0.0/26")
    pool.reserve("10.0.0.16/28", "prefix")
    assert pool.take(13)[-1] == "10.0.0.32"
    assert pool.take_prefixes(1) == ["10.0.0.16/28"]
    pool.release_prefix("10.0.0.16/28")
    assert "10.0.0.16" not in pool.take(pool.free)


def test_an_explicit_reservation_gives_only_named_addresses():
    pool = SubnetAddresses("10.0.0.0/28")
    pool.reserve("10.0.0.4/30", "explicit")
    assert pool.take(1) == ["10.0.0.8"]
    pool.take_address("10.0.0.5")
