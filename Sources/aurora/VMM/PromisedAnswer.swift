import CLinux
import Dispatch
import Synchronization

/// An answer that another thread will give, waited for by a thread that is nobody's pool's.
final class PromisedAnswer<Answer: Sendable>: Sendable {
    /// How often is looked whether it is still worth waiting.
    private static var lookMilliseconds: Int { 100 }

    private let answer = Mutex<Answer?>(nil)
    private let given = DispatchSemaphore(value: 0)

    /// Gives the answer, once.
    func set(_ value: Answer) {
        answer.withLock { $0 = value }
        given.signal()
    }

    /// What an asynchronous function answers within some seconds; nil when it does not, and its answer is dropped when it comes.
    ///
    /// Never on a thread of Swift's own pool.
    static func of(withinSeconds seconds: Double, _ body: @escaping @Sendable () async -> Answer) -> Answer? {
        let promised = PromisedAnswer()
        Task.detached { promised.set(await body()) }
        return promised.wait(seconds: seconds) { false }
    }

    /// The answer; nil when it did not come in time, or an obstacle keeps it.
    func wait(seconds: Double, unless isObstructed: () -> Bool) -> Answer? {
        let begin = clinux_monotonic_milliseconds()
        while true {
            _ = given.wait(timeout: .now() + .milliseconds(PromisedAnswer.lookMilliseconds))
            if let answer = answer.withLock({ $0 }) { return answer }
            if isObstructed() || Double(clinux_monotonic_milliseconds() - begin) >= seconds * 1000 { return nil }
        }
    }
}
