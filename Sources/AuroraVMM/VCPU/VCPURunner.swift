internal import CLinux
import Linux
import Synchronization

/// What the vCPU thread does after an exit.
enum ExitAction: Sendable {
    /// Enter the guest again.
    case resume
    /// The machine has ended.
    case end(MachineEnd)
}

/// The thread of one vCPU.
///
/// It starts parked; `resume()` lets it run, `pause()` parks it between two instructions.
///
/// The loop allocates nothing and takes no lock. Where it may be, and who takes it on from there, is the table of `VCPUPhase`.
final class VCPURunner: @unchecked Sendable {
    // Safety: `thread` is set once in `init` after all other fields; `ended` only by the thread itself before it parks for good.
    private static let spins = 2000
    private static let exitsOfAnInstructionMax = 4096

    let cpu: VirtualCPU
    /// When the vCPU went on after it was parked last, in nanoseconds of the monotonic clock.
    let runningSince = Atomic<Int64>(0)
    let phase = VCPUPhaseWord()
    private var thread: Thread?
    private let condemnation: UnsafeMutablePointer<Condemnation>
    private let handle: @Sendable (VirtualCPU) -> ExitAction
    private let ended: @Sendable (MachineEnd) -> Void

    /// Starts the thread, parked.
    ///
    /// - Parameters:
    ///   - handle: called on the thread for every exit.
    ///   - ended: called once on the thread when the machine has ended by itself.
    /// - Throws: `MachineError.system` when there is no thread to be had.
    init(
        cpu: VirtualCPU, name: String, handle: @escaping @Sendable (VirtualCPU) -> ExitAction,
        ended: @escaping @Sendable (MachineEnd) -> Void
    ) throws(MachineError) {
        self.cpu = cpu
        self.handle = handle
        self.ended = ended
        condemnation = .allocate(capacity: 1)
        condemnation.initialize(to: Condemnation())
        Thread.installInterruptHandler()
        do throws(SystemError) {
            thread = try Thread(name: name) { @Sendable [unowned self] in
                // Who stops it waits until it is on a processor.
                Thread.prefersShortSlices()
                self.main()
            }
        } catch {
            throw .system(error)
        }
    }

    deinit {
        stop()
        condemnation.deinitialize(count: 1)
        condemnation.deallocate()
    }

    /// Whether the vCPU is out of the guest for good or until `resume()`.
    var isParked: Bool {
        let current = phase.current
        return current == .parked || current == .ended
    }

    /// Lets a parked vCPU run.
    ///
    /// No effect on one that runs or has ended.
    func resume() {
        if phase.move(.parked, to: .running) == nil { phase.wake() }
    }

    /// Returns when the vCPU is out of the guest and parked, or has ended.
    ///
    /// - Returns: false when it was not for all of `seconds`; it parks when it can.
    @discardableResult
    func pause(seconds: Int = EventLoop.handlerSecondsMax) -> Bool {
        if phase.move(.running, to: .pausing) == nil {
            cpu.requestExit()
            thread?.interrupt()
        }
        for _ in 0..<VCPURunner.spins {
            if phase.current != .pausing { return true }
            clinux_pause()
        }
        return wait(seconds) { $0 != .pausing }
    }

    /// Ends the thread.
    ///
    /// Idempotent.
    ///
    /// - Returns: false when it has not ended within `seconds`; it lives on then, and so does this object.
    @discardableResult
    func stop(seconds: Int = EventLoop.handlerSecondsMax) -> Bool {
        _ = phase.move(to: .stopping)
        cpu.requestExit()
        thread?.interrupt()
        phase.wake()
        guard let thread else { return true }
        guard thread.isCurrent || wait(seconds, until: { $0 == .left }) else {
            // Its stack refers to this object.
            _ = Unmanaged.passRetained(self)
            return false
        }
        thread.join()
        return true
    }

    /// Waits for a phase; false when the time is over first.
    private func wait(_ seconds: Int, until isReached: (VCPUPhase) -> Bool) -> Bool {
        let deadline = clinux_clock_ns(CLOCK_MONOTONIC) + Int64(seconds) * 1_000_000_000
        while true {
            let current = phase.current
            if isReached(current) { return true }
            let left = deadline - clinux_clock_ns(CLOCK_MONOTONIC)
            if left <= 0 { return false }
            phase.wait(while: current, nanoseconds: left)
        }
    }

    /// Ends the vCPU for good because it must not execute another instruction; called from any thread.
    ///
    /// Returns when it is out of the guest, or stuck in the kernel with a signal that keeps it from entering the guest again.
    func condemn(_ reason: String) {
        condemnation.pointee.reason.withLock { if $0 == nil { $0 = reason } }
        condemnation.pointee.isPassed.store(true, ordering: .sequentiallyConsistent)
        cpu.requestExit()
        thread?.interrupt()
        let deadline = clinux_clock_ns(CLOCK_MONOTONIC) + VCPURunner.exitNanosecondsMax
        while condemnation.pointee.isInGuest.load(ordering: .sequentiallyConsistent), clinux_clock_ns(CLOCK_MONOTONIC) < deadline {
            sched_yield()
        }
    }

    private static let exitNanosecondsMax: Int64 = 100_000_000

    /// Whether the vCPU must not enter the guest any more, which is then its end.
    @inline(__always)
    private func isCondemned() -> Bool {
        guard condemnation.pointee.isPassed.load(ordering: .sequentiallyConsistent) else { return false }
        finish(.failed(condemnation.pointee.reason.withLock { $0 } ?? "The vCPU was stopped"))
        return true
    }

    /// `VirtualCPU.enter`, known to others while it lasts.
    @inline(__always)
    private func enter() -> Int {
        condemnation.pointee.isInGuest.store(true, ordering: .sequentiallyConsistent)
        defer { condemnation.pointee.isInGuest.store(false, ordering: .releasing) }
        return cpu.enter()
    }

    private func main() {
        defer {
            phase.move(.stopping, to: .left)
            phase.wake()
        }
        var hasWaited = false
        while true {
            switch phase.current {
            case .running:
                if hasWaited { runningSince.store(clinux_clock_ns(CLOCK_MONOTONIC), ordering: .releasing) }
                hasWaited = false
                runOnce()
            case .pausing: park()
            case .stopping: return
            case let current:
                hasWaited = true
                phase.wait(while: current)
            }
        }
    }

    /// Enters the guest once and serves its exit.
    @inline(__always)
    private func runOnce() {
        if isCondemned() { return }
        cpu.registersAreInRunPage = false
        let result = enter()
        if result == 0 {
            if case .end(let end) = handle(cpu) { finish(end) }
        } else if result == -Int(EINTR) || result == -Int(EAGAIN) {
            // Whoever asks sets the phase first. A request that came when the vCPU had already parked for it is stale here, and
            // would keep KVM from ever entering the guest again.
            cpu.takeExitRequest()
        } else {
            finish(.failed("Cannot run the vCPU: \(Errno(rawValue: Int32(truncatingIfNeeded: -result)))"))
        }
    }

    /// Completes an exit that KVM still holds (the result of a port or memory access), then parks.
    ///
    /// One instruction may take several exits, such as an access that crosses the end of a window: they are served here, or
    /// a state taken now would have it half done.
    private func park() {
        cpu.requestExit()
        cpu.leaveRegisters(true)
        defer { cpu.leaveRegisters(false) }
        for _ in 0..<VCPURunner.exitsOfAnInstructionMax {
            let result = enter()
            cpu.noteExit(result)
            if result != 0 { break }
            if case .end(let end) = handle(cpu) {
                cpu.clearExitRequest()
                return finish(end)
            }
        }
        cpu.clearExitRequest()
        // One who condemned it meanwhile relies on the request that was just taken back.
        if condemnation.pointee.isPassed.load(ordering: .sequentiallyConsistent) { cpu.requestExit() }
        // `stop` may have come in between: its word stands.
        phase.move(.pausing, to: .parked)
        phase.wake()
    }

    private func finish(_ end: MachineEnd) {
        if phase.move(.running, to: .ended) == .pausing { phase.move(.pausing, to: .ended) }
        phase.wake()
        ended(end)
    }
}

/// Why a vCPU must not run any more, and whether it does.
private struct Condemnation: ~Copyable {
    let isPassed = Atomic(false)
    let isInGuest = Atomic(false)
    let reason = Mutex<String?>(nil)
}
