internal import CLinux
import Synchronization

/// A lock that is waited for no longer than some time, and that knows what its holder is at.
///
/// For what may be held over a disk or another process: whoever cannot have it is told why, instead of waiting for ever.
///
/// `@unchecked Sendable`: one atomic word in memory this object owns; the rest is under a mutex.
public final class Turn: @unchecked Sendable {
    /// Why somebody did not get it.
    public struct Denial: Error, Hashable, Sendable, CustomStringConvertible {
        /// What its holder is at.
        public let holder: String
        /// For how long, in nanoseconds.
        public let nanoseconds: Int64

        /// "HOLDER has been going on for N s".
        public var description: String { "\(holder) has been going on for \(nanoseconds / 1_000_000_000) s" }
    }

    private struct State {
        var holder: (what: StaticString, since: Int64)?
        var waiters = 0
    }

    private let state = Mutex(State())
    /// Counts how often it was given back, so that this is not missed by who is about to wait.
    private let returns = UnsafeMutablePointer<Atomic<UInt32>>.allocate(capacity: 1)

    /// Nobody has it.
    public init() { returns.initialize(to: Atomic(0)) }

    deinit {
        returns.deinitialize(count: 1)
        returns.deallocate()
    }

    /// Runs something while nobody else does.
    ///
    /// - Parameters:
    ///   - what: what it is, for those who wait meanwhile: "a rollback".
    ///   - limit: nanoseconds to wait at most.
    ///   - refusal: the error for who does not get it.
    /// - Throws: `refusal`, or what `body` throws.
    public func take<Result, Failure: Error>(
        _ what: StaticString, withinNanoseconds limit: Int64, orThrow refusal: (Denial) -> Failure, _ body: () throws(Failure) -> Result
    ) throws(Failure) -> Result {
        if let denial = wait(what, limit) { throw refusal(denial) }
        defer { giveBack() }
        return try body()
    }

    /// Nil: the caller has it.
    private func wait(_ what: StaticString, _ limit: Int64) -> Denial? {
        let begin = clinux_clock_ns(CLOCK_MONOTONIC)
        var isWaiting = false
        defer { if isWaiting { state.withLock { $0.waiters -= 1 } } }
        while true {
            let ticket = returns.pointee.load(ordering: .acquiring)
            let now = clinux_clock_ns(CLOCK_MONOTONIC)
            let holder = state.withLock { state -> (what: StaticString, since: Int64)? in
                if let holder = state.holder {
                    if !isWaiting { state.waiters += 1 }
                    return holder
                }
                state.holder = (what, now)
                return nil
            }
            guard let holder else { return nil }
            isWaiting = true
            let left = begin + limit - now
            if left <= 0 { return Denial(holder: "\(holder.what)", nanoseconds: now - holder.since) }
            _ = clinux_futex_wait(returns, ticket, left)
        }
    }

    private func giveBack() {
        let isWanted = state.withLock { state in
            state.holder = nil
            return state.waiters > 0
        }
        returns.pointee.add(1, ordering: .acquiringAndReleasing)
        if isWanted { _ = clinux_futex_wake(returns, 1) }
    }
}
