import Foundation
import Synchronization

/// The console of a guest under test, read line by line.
final class GuestConsole: Sendable {
    private struct State {
        var text: [UInt8] = []
        var lines: [String] = []
    }
    private let state = Mutex(State())

    func append(_ bytes: UnsafeRawBufferPointer) {
        state.withLock { state in
            for byte in bytes {
                if byte == UInt8(ascii: "\n") {
                    state.lines.append(String(decoding: state.text, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines))
                    state.text.removeAll(keepingCapacity: true)
                } else {
                    state.text.append(byte)
                }
            }
        }
    }

    /// All whole lines so far.
    var lines: [String] { state.withLock { $0.lines } }
    /// The last counters the guest printed.
    var counters: GuestCounters? { lines.reversed().lazy.compactMap { GuestCounters($0) }.first }
    /// What the guest found wrong.
    var complaints: [String] {
        lines.filter { $0.hasPrefix("WRONG") || $0.contains("Kernel panic") || $0.contains("BUG:") || $0.contains("segfault") }
    }

    struct TimedOut: Error, CustomStringConvertible {
        let what: String
        let lines: [String]
        var description: String { "no \(what) within the time; the console says:\n" + lines.suffix(30).joined(separator: "\n") }
    }

    /// Waits until `found` answers something.
    @discardableResult
    func wait<Found>(_ what: String, seconds: Double = 180, _ found: (GuestConsole) -> Found?) throws -> Found {
        let deadline = Date().addingTimeInterval(seconds)
        while Date() < deadline {
            if let result = found(self) { return result }
            usleep(500)
        }
        throw TimedOut(what: what, lines: lines)
    }

    /// Waits for the guest's tick `number` or a later one.
    @discardableResult
    func wait(tick number: UInt64, seconds: Double = 180) throws -> GuestCounters {
        try wait("tick \(number)", seconds: seconds) { console in console.counters.flatMap { $0.tick >= number ? $0 : nil } }
    }
}

/// A line of the guest's program: "tick 5 mono=… registers=… timers=… forks=… disk=… alarm=… errors=…".
struct GuestCounters: Equatable {
    let tick: UInt64
    let values: [String: UInt64]

    init?(_ line: String) {
        let words = line.split(separator: " ")
        guard words.count == 9, words[0] == "tick", let tick = UInt64(words[1]) else { return nil }
        self.tick = tick
        var values: [String: UInt64] = [:]
        for word in words[2...] {
            let parts = word.split(separator: "=")
            guard parts.count == 2, let value = UInt64(parts[1]) else { return nil }
            values[String(parts[0])] = value
        }
        self.values = values
    }

    subscript(name: String) -> UInt64 { values[name] ?? 0 }
}
