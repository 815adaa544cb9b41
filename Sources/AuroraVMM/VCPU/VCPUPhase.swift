internal import CLinux
import Synchronization

/// Where the thread of a vCPU is.
///
/// | from | to | by | when |
/// |---|---|---|---|
/// | parked | running | `resume()` | the guest is let go |
/// | running | pausing | `pause()` | somebody wants it out of the guest, and then interrupts it |
/// | pausing | parked | the thread | it is out, and the instruction whose exit KVM still held is complete |
/// | running, pausing | ended | the thread | the guest has ended, cannot be run any more, or must not (`condemn`) |
/// | parked, running, pausing, ended | stopping | `stop()` | the thread is to end |
/// | stopping | left | the thread | it touches nothing any more |
///
/// Nobody else takes it anywhere: whoever finds it elsewhere than where a transition begins has come too late, and leaves it there.
enum VCPUPhase: UInt32, CaseIterable, Sendable {
    case parked, running, pausing, ended, stopping, left

    /// A transition of the table.
    struct Edge: Hashable, Sendable, CustomStringConvertible {
        let from: VCPUPhase
        let to: VCPUPhase
        var description: String { "\(from) -> \(to)" }

        fileprivate var bit: UInt64 { 1 << UInt64(from.rawValue * 8 + to.rawValue) }
    }

    /// The table.
    static let edges: [Edge] =
        [(parked, running), (running, pausing), (pausing, parked), (running, ended), (pausing, ended)].map { Edge(from: $0, to: $1) }
        + [parked, running, pausing, ended].map { Edge(from: $0, to: stopping) } + [Edge(from: stopping, to: left)]

    fileprivate static let allowed = edges.reduce(UInt64(0)) { $0 | $1.bit }
}

/// The phase as one word, which others can wait for; it allocates nothing and takes no lock.
///
/// `@unchecked Sendable`: an atomic word in memory this object owns.
final class VCPUPhaseWord: @unchecked Sendable {
    private let word: UnsafeMutablePointer<Atomic<UInt32>>
    #if DEBUG
        private let taken = Atomic<UInt64>(0)
    #endif

    init() {
        word = .allocate(capacity: 1)
        word.initialize(to: Atomic(VCPUPhase.parked.rawValue))
    }

    deinit {
        word.deinitialize(count: 1)
        word.deallocate()
    }

    /// The phase now.
    @inline(__always)
    var current: VCPUPhase { VCPUPhase(rawValue: word.pointee.load(ordering: .acquiring)) ?? .left }

    /// Takes a transition of the table; nil when it was, and otherwise the phase that was found instead.
    @inline(__always)
    @discardableResult
    func move(_ from: VCPUPhase, to: VCPUPhase) -> VCPUPhase? {
        let (exchanged, found) = word.pointee.compareExchange(
            expected: from.rawValue, desired: to.rawValue, ordering: .acquiringAndReleasing)
        #if DEBUG
            let edge = VCPUPhase.Edge(from: from, to: to)
            precondition(VCPUPhase.allowed & edge.bit != 0, "no vCPU goes \(edge)")
            if exchanged { taken.bitwiseOr(edge.bit, ordering: .relaxed) }
        #endif
        return exchanged ? nil : VCPUPhase(rawValue: found) ?? .left
    }

    /// Takes the transition to a phase from wherever the table has one; false when there is none from where it is.
    func move(to phase: VCPUPhase) -> Bool {
        while true {
            let found = current
            guard VCPUPhase.edges.contains(where: { $0.from == found && $0.to == phase }) else { return found == phase }
            if move(found, to: phase) == nil { return true }
        }
    }

    #if DEBUG
        /// For tests: whether a transition was ever taken.
        func hasTaken(_ edge: VCPUPhase.Edge) -> Bool { taken.load(ordering: .relaxed) & edge.bit != 0 }
    #endif

    /// Wakes all who wait.
    func wake() { _ = clinux_futex_wake(word, Int32.max) }

    /// Waits for somebody to wake, unless the phase is another one already; nanoseconds, negative: without a limit.
    func wait(while phase: VCPUPhase, nanoseconds: Int64 = -1) { _ = clinux_futex_wait(word, phase.rawValue, nanoseconds) }
}
