internal import CLinux
import Synchronization

/// A real thread of the system, for work that must not share a pool: vCPUs.
///
/// It traps when it is dropped unjoined.
public final class Thread: @unchecked Sendable {
    private enum State {
        case running
        /// Somebody waits for its end; it is not interrupted any more.
        case joining
        /// Nobody waits for it, or it has ended: `handle` names nothing.
        case gone
    }

    // Safety: `handle` is written before the thread is visible to anyone else; `state` guards it.
    private var handle = pthread_t()
    private let state = Mutex(State.running)
    /// Held by the one who joins: others wait for it, and so for the thread.
    private let turn = Mutex(())
    private let finish = Finish()

    /// Whether the body has returned; lives as long as thread or owner, whichever goes last.
    private final class Finish: @unchecked Sendable {
        // Safety: one atomic word in memory this object owns.
        private let word = UnsafeMutablePointer<Atomic<UInt32>>.allocate(capacity: 1)

        init() { word.initialize(to: Atomic(0)) }

        deinit {
            word.deinitialize(count: 1)
            word.deallocate()
        }

        func tell() {
            word.pointee.store(1, ordering: .releasing)
            _ = clinux_futex_wake(word, Int32.max)
        }

        /// False when the time is over first.
        func wait(nanoseconds: Int64) -> Bool {
            let deadline = clinux_clock_ns(CLOCK_MONOTONIC) + nanoseconds
            while word.pointee.load(ordering: .acquiring) == 0 {
                let left = deadline - clinux_clock_ns(CLOCK_MONOTONIC)
                if left <= 0 { return false }
                _ = clinux_futex_wait(word, 0, left)
            }
            return true
        }
    }

    private final class Start {
        let name: String
        let body: @Sendable () -> Void
        let finish: Finish
        init(name: String, finish: Finish, body: @escaping @Sendable () -> Void) {
            self.name = name
            self.finish = finish
            self.body = body
        }
    }

    /// Starts a thread that runs `body`.
    ///
    /// - Parameter name: shown by `ps -L`; the kernel keeps 15 bytes.
    /// - Throws: `SystemError` when the process has no room for threads.
    public init(name: String, _ body: @escaping @Sendable () -> Void) throws(SystemError) {
        let start = Unmanaged.passRetained(Start(name: name, finish: finish, body: body))
        let result = pthread_create(
            &handle, nil,
            { @Sendable argument in
                guard let argument else { return nil }
                let start = Unmanaged<Start>.fromOpaque(argument).takeRetainedValue()
                _ = clinux_set_thread_name(start.name)
                // A thread started from a dispatch worker inherits a mask that blocks every signal.
                var mask = sigset_t()
                sigemptyset(&mask)
                sigaddset(&mask, Thread.interruptSignal)
                pthread_sigmask(SIG_UNBLOCK, &mask, nil)
                start.body()
                start.finish.tell()
                return nil
            }, start.toOpaque())
        if result != 0 {
            start.release()
            state.withLock { $0 = .gone }
            throw SystemError("start", "thread \(name)", errno: Errno(rawValue: result))
        }
    }

    deinit { precondition(state.withLock { $0 } == .gone, "a thread was dropped without being joined") }

    /// Gives the calling thread a short time slice: on a crowded processor it then runs sooner, and shorter, at the same share of the time.
    ///
    /// Nothing changes on a kernel without slices of threads (before Linux 6.12), or where it is forbidden.
    public static func prefersShortSlices() { _ = clinux_set_time_slice(shortSliceNanoseconds) }

    /// The shortest that Linux accepts.
    private static let shortSliceNanoseconds: UInt64 = 100_000

    /// Waits for the thread's end, not longer than some time: for a thread whose body may be held up from outside, by a disk for example.
    ///
    /// - Returns: false when the body has not returned; then join again, or `leave()`.
    public func join(withinNanoseconds limit: Int64) -> Bool {
        if detachIfOwn() { return true }
        let isLeft = state.withLock { $0 == .gone }
        guard finish.wait(nanoseconds: isLeft ? 0 : limit) else { return false }
        join()
        return true
    }

    /// Nobody waits for the thread any more: it lives on until its body returns, or the process ends.
    ///
    /// What the body uses must be its own.
    public func leave() {
        state.withLock { state in
            guard state == .running else { return }
            pthread_detach(handle)
            state = .gone
        }
    }

    /// Waits for the thread's end; every caller does, not the first alone.
    ///
    /// Without a bound: only for a body that returns by itself. A thread that joins itself, because it let go of the last reference to
    /// its owner, is not waited for: its body must not touch the owner any more.
    public func join() {
        if detachIfOwn() { return }
        turn.withLock { _ in
            let isFirst = state.withLock { state in
                guard state == .running else { return false }
                state = .joining
                return true
            }
            guard isFirst else { return }
            let result = pthread_join(handle, nil)
            // Going on while the thread runs would let it use memory that is freed.
            precondition(result == 0, "a thread cannot be joined: \(result)")
            state.withLock { $0 = .gone }
        }
    }

    /// Whether the caller is the thread itself.
    private func detachIfOwn() -> Bool {
        state.withLock { state in
            guard state != .gone, pthread_equal(pthread_self(), handle) != 0 else { return false }
            // Somebody else may be waiting for it, who then does the rest.
            if state == .running {
                pthread_detach(handle)
                state = .gone
            }
            return true
        }
    }

    /// Whether the caller runs on this thread.
    public var isCurrent: Bool { pthread_equal(pthread_self(), handle) != 0 }

    /// Sends the signal that makes a blocking `KVM_RUN` return.
    ///
    /// Does nothing once somebody joins the thread.
    public func interrupt() { state.withLock { if $0 == .running { pthread_kill(handle, Thread.interruptSignal) } } }

    /// The signal used to interrupt threads; its handler does nothing.
    public static let interruptSignal = SIGUSR1

    /// Installs the empty handler; idempotent, to be called before the first `interrupt()`.
    public static func installInterruptHandler() {
        var action = sigaction()
        action.__sigaction_handler.sa_handler = { _ in }
        sigaction(interruptSignal, &action, nil)
    }
}
