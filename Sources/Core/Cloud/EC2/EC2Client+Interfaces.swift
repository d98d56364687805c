// SPDX-License-Identifier: Apache-2.0

package import VPCModel

/// The result of a deletion: both are success.
package enum EC2Removal: Sendable, Hashable {
  case removed
  case alreadyGone
}

/// How many addresses to assign to an interface.
package enum EC2AddressDemand: Sendable, Hashable {
  /// Single addresses; of IPv4, the primary one not counted.
  case addresses(Int)
  /// Prefixes: /28 of IPv4, /80 of IPv6.
  case prefixes(Int)
}

extension EC2Client {
  /// A new interface's properties.
  package struct NewInterface: Sendable {
    package var subnetID: String
    package var securityGroupIDs: [String]
    /// Nil for only the primary address.
    package var demand: EC2AddressDemand?
    /// Single IPv6 addresses; nil for none. EC2 assigns no prefix in the same call.
    package var ipv6AddressCount: Int?
    package var description: String
    package var tags: [String: String]
    package var connectionTracking: EC2ConnectionTracking?
    /// The idempotency token: two calls with the same token create one interface. Keep it to retry a call whose answer
    /// was lost.
    package var clientToken: String

    package init(
      subnetID: String, securityGroupIDs: [String], demand: EC2AddressDemand? = nil, ipv6AddressCount: Int? = nil,
      description: String, tags: [String: String] = [:], connectionTracking: EC2ConnectionTracking? = nil,
      clientToken: String = EC2Client.clientToken()
    ) {
      self.subnetID = subnetID
      self.securityGroupIDs = securityGroupIDs
      self.demand = demand
      self.ipv6AddressCount = ipv6AddressCount
      self.description = description
      self.tags = tags
      self.connectionTracking = connectionTracking
      self.clientToken = clientToken
    }
  }

  /// DescribeNetworkInterfaces for known ids, at most 1000 of them; order is EC2's.
  ///
  /// - Throws: `interfaceNotFound` if any of them is gone: EC2 then describes none.
  package func describeNetworkInterfaces(_ ids: [ENIID]) async throws(EC2Error) -> [EC2NetworkInterface] {
    guard !ids.isEmpty else { return [] }
    let action = "DescribeNetworkInterfaces"
    var parameters = EC2Parameters(action: action)
    parameters.list("NetworkInterfaceId", ids.map(\.text))
    let answer = try await call(action, parameters, .describe)
    return try EC2Client.interfaces(answer)
  }

  /// DescribeNetworkInterfaces by filters, page by page.
  package func describeNetworkInterfaces(filters: [EC2Filter]) async throws(EC2Error) -> [EC2NetworkInterface] {
    try await pages("DescribeNetworkInterfaces", filters: filters, EC2Client.interfaces)
  }

  /// DescribeNetworkInterfaces for what is attached to one instance.
  package func describeNetworkInterfaces(instanceID: String) async throws(EC2Error) -> [EC2NetworkInterface] {
    try await describeNetworkInterfaces(filters: [EC2Filter("attachment.instance-id", [instanceID])])
  }

  private static func interfaces(_ answer: EC2Answer) throws(EC2Error) -> [EC2NetworkInterface] {
    var found: [EC2NetworkInterface] = []
    for item in answer.items("networkInterfaceSet") { found.append(try EC2NetworkInterface(item)) }
    return found
  }

  /// CreateNetworkInterface with all its addresses or prefixes in one call. Idempotent by its client token, so the call
  /// is retried after a lost answer.
  ///
  /// - Returns: the unattached interface; EC2 may list only a part of its addresses yet.
  package func createNetworkInterface(_ new: NewInterface) async throws(EC2Error) -> EC2NetworkInterface {
    let action = "CreateNetworkInterface"
    var parameters = EC2Parameters(action: action)
    parameters.set("SubnetId", new.subnetID)
    parameters.set("Description", new.description)
    parameters.list("SecurityGroupId", new.securityGroupIDs)
    switch new.demand {
    case nil: break
    // EC2 refuses a count of 0; omitting it means the same.
    case .addresses(let count)?: parameters.set("SecondaryPrivateIpAddressCount", count > 0 ? count : nil)
    case .prefixes(let count)?: parameters.set("Ipv4PrefixCount", count > 0 ? count : nil)
    }
    parameters.set("Ipv6AddressCount", new.ipv6AddressCount)
    if !new.tags.isEmpty {
      parameters.set("TagSpecification.1.ResourceType", "network-interface")
      parameters.tags("TagSpecification.1.Tag", new.tags)
    }
    if let tracking = new.connectionTracking {
      let prefix = "ConnectionTrackingSpecification"
      parameters.set("\(prefix).TcpEstablishedTimeout", tracking.tcpEstablishedSeconds)
      parameters.set("\(prefix).UdpStreamTimeout", tracking.udpStreamSeconds)
      parameters.set("\(prefix).UdpTimeout", tracking.udpSeconds)
    }
    parameters.set("ClientToken", new.clientToken)
    let answer = try await call(action, parameters, .idempotent)
    guard let interface = answer.child("networkInterface") else { throw answer.failure("no networkInterface") }
    let created = try EC2NetworkInterface(interface)
    guard created.subnetID == new.subnetID else {
      throw answer.failure("\(created.id) is in \(created.subnetID) and not in \(new.subnetID)")
    }
    return created
  }

  /// AttachNetworkInterface. Not idempotent: after a lost answer (`noAnswer`, not `isUnsent`) describe the interface.
  ///
  /// - Returns: the attachment's id.
  package func attachNetworkInterface(
    _ id: ENIID, instanceID: String, deviceIndex: Int, networkCard: Int = 0
  ) async throws(EC2Error) -> String {
    let action = "AttachNetworkInterface"
    var parameters = EC2Parameters(action: action)
    parameters.set("NetworkInterfaceId", id.text)
    parameters.set("InstanceId", instanceID)
    parameters.set("DeviceIndex", deviceIndex)
    // Sent only if needed: older endpoints do not know the parameter.
    if networkCard > 0 { parameters.set("NetworkCardIndex", networkCard) }
    return try await call(action, parameters, .once).required("attachmentId")
  }

  /// DetachNetworkInterface. Detaching twice is harmless, so the call is retried after a lost answer.
  ///
  /// - Parameter force: detaches without the instance's cooperation; only for a hanging instance.
  /// - Returns: `alreadyGone` if the attachment does not exist.
  package func detachNetworkInterface(
    attachmentID: String, force: Bool = false
  ) async throws(EC2Error) -> EC2Removal {
    let action = "DetachNetworkInterface"
    var parameters = EC2Parameters(action: action)
    parameters.set("AttachmentId", attachmentID)
    if force { parameters.set("Force", true) }
    return try await remove(action, parameters, gone: .attachmentNotFound)
  }

  /// DeleteNetworkInterface of an unattached interface. Retried after a lost answer.
  ///
  /// - Returns: `alreadyGone` if the interface does not exist.
  package func deleteNetworkInterface(_ id: ENIID) async throws(EC2Error) -> EC2Removal {
    let action = "DeleteNetworkInterface"
    var parameters = EC2Parameters(action: action)
    parameters.set("NetworkInterfaceId", id.text)
    return try await remove(action, parameters, gone: .interfaceNotFound)
  }

  private func remove(
    _ action: String, _ parameters: EC2Parameters, gone: EC2Error.Code
  ) async throws(EC2Error) -> EC2Removal {
    do {
      _ = try await call(action, parameters, .idempotent)
      return .removed
    } catch {
      if error.code == gone { return .alreadyGone }
      throw error
    }
  }

  /// ModifyNetworkInterfaceAttribute: sets DeleteOnTermination. Idempotent.
  package func setDeleteOnTermination(
    _ value: Bool, interface id: ENIID, attachmentID: String
  ) async throws(EC2Error) {
    let action = "ModifyNetworkInterfaceAttribute"
    var parameters = EC2Parameters(action: action)
    parameters.set("NetworkInterfaceId", id.text)
    parameters.set("Attachment.AttachmentId", attachmentID)
    parameters.set("Attachment.DeleteOnTermination", value)
    _ = try await call(action, parameters, .idempotent)
  }

  /// ModifyNetworkInterfaceAttribute: replaces the security groups, at least one. Idempotent.
  package func setSecurityGroups(_ groups: [String], interface id: ENIID) async throws(EC2Error) {
    let action = "ModifyNetworkInterfaceAttribute"
    var parameters = EC2Parameters(action: action)
    parameters.set("NetworkInterfaceId", id.text)
    parameters.list("SecurityGroupId", groups)
    _ = try await call(action, parameters, .idempotent)
  }
}
