@testable import AuroraVMM
@testable import Snapshot

/// Keeps epochs as stamps; stalls and fails when it is told to, and loses then what was not durable.
///
/// `@unchecked Sendable`: a simulation has one thread.
final class SimulatedBackend: Backend, @unchecked Sendable {
    /// What it has of one epoch.
    struct Kept: Equatable {
        var memory = [UInt64](repeating: 0, count: SimulatedMachine.pages)
        var volume = [UInt64](repeating: 0, count: SimulatedVolume.blocks)
        var ticks: UInt64 = 0
        var name: String?
    }

    let name: String
    /// Numbers up to this one are taken in its history.
    private let history: EpochNumber
    private var staged: [(key: PageKey, stamp: UInt64)] = []
    private var current = Kept()
    private var last: EpochNumber?
    private var written: [(number: EpochNumber, kept: Kept)] = []
    /// What a power cut would leave.
    private(set) var durable: [EpochNumber: Kept] = [:]
    private(set) var hasFailed = false
    /// Calls until it fails; nil: it does not.
    var failsAfter: Int?

    /// Called in each call: time passes, and others go on.
    var meanwhile: (SimulatedBackend) -> Void = { _ in }
    /// Called with each epoch that is durable.
    var check: (EpochNumber, Kept) -> Void = { _, _ in }
    var complain: (String) -> Void = { _ in }

    init(name: String, history: EpochNumber) {
        self.name = name
        self.history = history
    }

    /// Whether an epoch is on its way here.
    func isWriting(_ number: EpochNumber) -> Bool { written.contains { $0.number == number } }

    private func begin(_ call: String) throws(BackendError) {
        if hasFailed { complain("\(name) is used although it has failed") }
        meanwhile(self)
        guard let left = failsAfter else { return }
        failsAfter = left - 1
        guard left <= 0 else { return }
        hasFailed = true
        staged = []
        written = []
        throw BackendError(backend: name, reason: "it was told to fail in \(call)")
    }

    private func take(_ pages: PageSet) -> [(key: PageKey, stamp: UInt64)] {
        (0..<pages.count).map { index in
            let stamp = pages.withBytes(at: index) { SimulatedMachine.stamp($0) }
            if stamp == nil { complain("page \(pages[index]) has parts of several contents") }
            return (pages[index], stamp ?? .max)
        }
    }

    func stage(_ pages: PageSet) throws(BackendError) {
        let taken = take(pages)
        try begin("stage")
        staged += taken
    }

    func write(_ epoch: Epoch, after previous: EpochNumber?) throws(BackendError) {
        try begin("write")
        if previous != last {
            complain("\(name) wrote \(last?.description ?? "nothing") before, not \(previous?.description ?? "nothing")")
        }
        if epoch.number <= max(history, last ?? history) { complain("\(name) has a number \(epoch.number) already") }
        for (key, stamp) in staged + take(epoch.pages) {
            if key.map == PageKey.memory { current.memory[key.page] = stamp } else { current.volume[key.page] = stamp }
        }
        staged = []
        current.ticks = SimulatedMachine.ticks(of: epoch.state) ?? 0
        current.name = epoch.name
        last = epoch.number
        written.append((epoch.number, current))
    }

    func flush() throws(BackendError) {
        try begin("flush")
        for (number, kept) in written {
            durable[number] = kept
            check(number, kept)
        }
        written = []
    }
}
