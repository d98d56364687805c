// SPDX-License-Identifier: Apache-2.0
internal import CNetlink
internal import Glibc
internal import VPCModel

/// Collects the elements of one verdict map, message by message.
final class NftablesElementReader {
  private struct Point {
    let address: IPAddress
    /// Nil at the end of an interval.
    let chain: String?
  }

  private let shape: NftablesMap.Shape
  private var points: [Point] = []
  private var isSound = true

  init(shape: NftablesMap.Shape) { self.shape = shape }

  func append(_ message: UnsafePointer<nlmsghdr>) {
    guard NftablesAnswer.has(message, type: NFT_MSG_NEWSETELEM), let set = cnft_nftnl_set_alloc() else {
      return isSound = false
    }
    defer { cnft_nftnl_set_free(set) }
    guard cnft_nftnl_set_elems_nlmsg_parse(message, set) >= 0, let iterator = cnft_nftnl_set_elems_iter_create(set)
    else { return isSound = false }
    defer { cnft_nftnl_set_elems_iter_destroy(iterator) }
    while let element = cnft_nftnl_set_elems_iter_next(iterator) {
      var size: UInt32 = 0
      guard let key = cnft_nftnl_set_elem_get(element, UInt16(NFTNL_SET_ELEM_KEY), &size),
        let address = IPAddress(bytes: UnsafeRawBufferPointer(start: key, count: Int(size))),
        address.family == shape.family
      else { return isSound = false }
      // libnftnl dereferences a null pointer if an attribute is not set.
      let number = { (attribute: Int) in
        cnft_nftnl_set_elem_is_set(element, UInt16(attribute))
          ? cnft_nftnl_set_elem_get_u32(element, UInt16(attribute)) : 0
      }
      if number(NFTNL_SET_ELEM_FLAGS) & UInt32(NFT_SET_ELEM_INTERVAL_END.rawValue) != 0 {
        points.append(Point(address: address, chain: nil))
        continue
      }
      guard Int32(bitPattern: number(NFTNL_SET_ELEM_VERDICT)) == NFT_GOTO.rawValue,
        cnft_nftnl_set_elem_is_set(element, UInt16(NFTNL_SET_ELEM_CHAIN)),
        let chain = cnft_nftnl_set_elem_get_str(element, UInt16(NFTNL_SET_ELEM_CHAIN))
      else { return isSound = false }
      points.append(Point(address: address, chain: String(cString: chain)))
    }
  }

  /// The elements; nil if the model cannot express one of them: another verdict, a range that is not a prefix.
  func elements() -> [IPPrefix: String]? {
    guard isSound else { return nil }
    var result: [IPPrefix: String] = [:]
    guard shape.isInterval else {
      for point in points {
        guard let chain = point.chain else { return nil }
        result[IPPrefix(single: point.address)] = chain
      }
      return result
    }
    // An interval's end is the first address after it, and comes before a start at the same address.
    let sorted = points.sorted {
      $0.address != $1.address ? $0.address < $1.address : ($0.chain == nil && $1.chain != nil)
    }
    var open: Point?
    for point in sorted {
      if let start = open, let chain = start.chain {
        guard point.chain == nil,
          let prefix = IPPrefix(from: start.address, count: point.address.bits - start.address.bits)
        else { return nil }
        result[prefix] = chain
        open = nil
      } else if point.chain != nil {
        open = point
      }
      // The rest is an end without a start: nft writes one at address zero.
    }
    if let start = open, let chain = start.chain {
      let limit = UInt128(1) << UInt128(shape.family.bitWidth - 1)
      guard let prefix = IPPrefix(from: start.address, count: (limit &- start.address.bits) &+ limit) else {
        return nil
      }
      result[prefix] = chain
    }
    return result
  }
}

extension IPPrefix {
  /// The prefix of `count` addresses from `first`; nil if the range is not a prefix.
  fileprivate init?(from first: IPAddress, count: UInt128) {
    guard count.nonzeroBitCount == 1 else { return nil }
    self.init(address: first, length: first.family.bitWidth - count.trailingZeroBitCount)
  }
}
