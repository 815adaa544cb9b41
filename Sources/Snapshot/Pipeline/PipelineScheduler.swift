internal import CLinux
package import Linux

/// What runs the steps of a pipeline and tells it the time: threads, or a simulation that decides what happens next.
///
/// A pipeline has several *activities*: the one that makes epochs, and one for each backend. Each is a function that does the next
/// step and says when it wants to be called again; nothing in it waits for another activity.
package protocol PipelineScheduler: Sendable {
    /// The monotonic clock, in nanoseconds.
    var now: Int64 { get }
    /// Nanoseconds since 1970.
    var wallClock: Int64 { get }

    /// Begins an activity.
    ///
    /// - Parameters:
    ///   - name: for those who look at the process.
    ///   - isUrgent: whether its steps must not wait behind other work.
    ///   - wake: what other activities signal.
    ///   - step: called again and again, never twice at once, until it returns `.end`.
    /// - Throws: `SystemError` when the host has no room.
    func start(
        _ name: String, isUrgent: Bool, wake: WakeSignal, _ step: @escaping @Sendable () -> NextStep
    ) throws(SystemError) -> any PipelineActivityRun
}

/// An activity that was begun; it has to be joined, or left.
package protocol PipelineActivityRun: AnyObject, Sendable {
    /// Returns when its last step has ended; at once for the activity itself.
    ///
    /// - Returns: false when it has not within the time.
    func join(withinNanoseconds limit: Int64) -> Bool

    /// Nobody waits for it any more: it ends when it can.
    func leave()
}

/// When an activity goes on.
package enum NextStep: Hashable, Sendable {
    case atOnce
    /// When there was a signal since the ticket, or at a time of the monotonic clock; nil: only then.
    case wait(UInt32, until: Int64?)
    case end
}

/// Real threads and the host's clocks.
struct ThreadScheduler: PipelineScheduler {
    var now: Int64 { clinux_clock_ns(CLOCK_MONOTONIC) }
    var wallClock: Int64 { clinux_clock_ns(CLOCK_REALTIME) }

    func start(
        _ name: String, isUrgent: Bool, wake: WakeSignal, _ step: @escaping @Sendable () -> NextStep
    ) throws(SystemError) -> any PipelineActivityRun {
        try Linux::Thread(name: name) { @Sendable in
            if isUrgent {
                _ = clinux_set_timer_slack(1)
                // It must not wait for the slice of a thread that writes checkpoints, or of a neighbour.
                Linux::Thread.prefersShortSlices()
            }
            while true {
                switch step() {
                case .atOnce: continue
                case .wait(let ticket, let until): wake.wait(ticket, nanoseconds: until.map { $0 - clinux_clock_ns(CLOCK_MONOTONIC) })
                case .end: return
                }
            }
        }
    }
}

extension Linux::Thread: PipelineActivityRun {}
