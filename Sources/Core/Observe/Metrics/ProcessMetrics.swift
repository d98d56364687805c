// SPDX-License-Identifier: Apache-2.0

import Glibc
import VPCSystem

/// The process metrics of Prometheus's client libraries, as far as the system provides them.
///
/// Source: https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics; proc(5).
package struct ProcessMetrics: Sendable {
  private let cpu: MetricCounter
  private let resident: MetricGauge
  private let virtual: MetricGauge
  private let openFiles: MetricGauge
  private let maximumFiles: MetricGauge
  private let startTime: MetricGauge
  /// Seconds since 1970.
  private let started: Double

  package init(in registry: MetricRegistry) {
    cpu = registry.counter("process_cpu_seconds_total", "User and system CPU time of the agent in seconds")
    resident = registry.gauge("process_resident_memory_bytes", "Resident memory of the agent in bytes")
    virtual = registry.gauge("process_virtual_memory_bytes", "Virtual memory of the agent in bytes")
    openFiles = registry.gauge("process_open_fds", "Open file descriptors of the agent")
    maximumFiles = registry.gauge("process_max_fds", "File descriptors that the agent may open")
    startTime = registry.gauge("process_start_time_seconds", "When the agent started, in seconds since 1970")
    started = Self.startSeconds()
  }

  /// Reads the system; unavailable values stay unchanged. Takes tens of microseconds at a scrape.
  package func collect() {
    var usage = rusage()
    if getrusage(RUSAGE_SELF.rawValue, &usage) == 0 {
      cpu.set(total: Self.seconds(usage.ru_utime) + Self.seconds(usage.ru_stime))
    }
    let pages = Self.text("/proc/self/statm").split(separator: " ").compactMap { Double($0) }
    if pages.count >= 2 {
      let size = Double(getpagesize())
      virtual.set(pages[0] * size)
      resident.set(pages[1] * size)
    }
    if let count = Self.openDescriptors() { openFiles.set(Double(count)) }
    var limit = rlimit()
    if getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 { maximumFiles.set(Double(limit.rlim_cur)) }
    startTime.set(started)
  }

  private static func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) / 1e6 }

  /// The calendar now, less the time since boot, plus the start's (in clock ticks since boot, field 22 of stat).
  private static func startSeconds() -> Double {
    // The second field is the program's name in parentheses, which may hold anything.
    let fields = text("/proc/self/stat").split(separator: ")").last?.split(separator: " ") ?? []
    guard fields.count > 19, let ticks = Double(fields[19]) else { return 0 }
    return Double(SystemClock.wall.nanoseconds - SystemClock.sinceBoot.nanoseconds) / 1e9 + ticks
      / Double(sysconf(Int32(_SC_CLK_TCK)))
  }

  private static func openDescriptors() -> Int? {
    guard var names = FolderNames("/proc/self/fd") else { return nil }
    var count = 0
    while names.next() != nil { count += 1 }
    // Without the folder itself.
    return max(count - 1, 0)
  }

  /// A small system file; empty if it cannot be read.
  private static func text(_ path: String) -> String {
    String(decoding: (try? BoundedFile.read(path, limit: 4_096)) ?? [], as: UTF8.self)
  }
}
