// SPDX-License-Identifier: Apache-2.0

extension Setting {
  static let hostBinaries = Setting(
    "HOST_CNI_BIN_PATH", .path, "/host/opt/cni/bin", "where the host's CNI plugins are, as this container sees it",
    allowed: "an absolute path")
  static let hostConfiguration = Setting(
    "HOST_CNI_CONFDIR_PATH", .path, "/host/etc/cni/net.d",
    "where the host's network configurations are, as this container sees it", allowed: "an absolute path")
  static let conflistTemplate = Setting(
    "VPC_CNI_CONFLIST_TEMPLATE", .path, "/app/10-aws.conflist",
    "a template of one's own; without the file the built-in one", allowed: "an absolute path")
  static let corePlugins = Setting(
    "VPC_CNI_CORE_PLUGINS_PATH", .path, "/app/plugins",
    "the standard CNI plugins of the image, installed if the host lacks them",
    allowed: "an absolute path")
  static let disableEarlyDemux = Setting(
    "DISABLE_TCP_EARLY_DEMUX", false,
    "net.ipv4.tcp_early_demux is set to 0, else to 1; kubelet's probes of pods with security groups need 0")
  static let pluginLogFile = Setting(
    "AWS_VPC_K8S_PLUGIN_LOG_FILE", .path, "/var/log/aws-routed-eni/plugin.log", "the plugin's log, on the host",
    allowed: "an absolute path or stderr")
  static let pluginLogLevel = Setting(
    "AWS_VPC_K8S_PLUGIN_LOG_LEVEL", .word, "Debug", "the plugin's log level",
    allowed: "debug, info, warn, error or fatal, any case")
  static let bandwidthPlugin = Setting(
    "ENABLE_BANDWIDTH_PLUGIN", false, "the plugin bandwidth comes last in the chain")
  static let disablePodIPv6 = Setting(
    "DISABLE_POD_V6", false, "the plugin tuning turns IPv6 off in pods")
  static let enableV4Egress = Setting("ENABLE_V4_EGRESS", true, "IPv4 egress for pods of an IPv6 cluster")
  static let egressV4LogFile = Setting(
    "AWS_VPC_K8S_EGRESS_V4_PLUGIN_LOG_FILE", .path, "/var/log/aws-routed-eni/egress-v4-plugin.log",
    "log of the plugin for IPv4 egress", allowed: "an absolute path or stderr")
  static let egressV6LogFile = Setting(
    "AWS_VPC_K8S_EGRESS_V6_PLUGIN_LOG_FILE", .path, "/var/log/aws-routed-eni/egress-v6-plugin.log",
    "log of the plugin for IPv6 egress", allowed: "an absolute path or stderr")

  /// Every variable that `NodeSettings` reads beside those of `all`, in the order of the documentation.
  package static let node: [Setting] = [
    hostBinaries, hostConfiguration, conflistTemplate, corePlugins, disableEarlyDemux, pluginLogFile, pluginLogLevel,
    bandwidthPlugin, disablePodIPv6, enableV4Egress, egressV4LogFile, egressV6LogFile,
  ]
}
