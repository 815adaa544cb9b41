internal import CLinux
public import Linux
import Synchronization

/// One virtual machine: memory, a vCPU, devices.
///
/// It knows nothing of stores and groups.
///
/// Devices live on two event loops, one for disks (whose flushes block) and one for the rest. `rest()` first brings both
/// loops to rest, then parks the vCPU: as long as its value lives nothing changes the guest, and its state can be taken.
public final class Machine: Sendable {
    /// How the guest runs.
    public let mode: GuestMode
    /// The guest's memory.
    public let memory: GuestMemory
    /// What the guest printed last.
    public let console: ConsoleLog

    let platform: any Platform & Sendable
    let virtualMachine: VirtualMachine
    let devices: DeviceBoard
    let runner: VCPURunner
    let keeper: MachineRest
    let tracker: DirtyTracker
    let shadowPages: ShadowPages
    let ending: MachineEnding
    let lazyTimes = Mutex<RestoreTimes?>(nil)

    /// Makes the machine and loads the kernel; nothing runs yet.
    ///
    /// - Throws: `MachineError` saying what is missing or wrong.
    public convenience init(_ configuration: MachineConfiguration) throws(MachineError) {
        let configuration = try configuration.checked()
        let kernel = try KernelImage(path: configuration.kernelPath)
        let system = try KVMSystem()
        var mode = configuration.mode
        if mode == nil { mode = try KVMKind.probe(system).preferredMode }
        let parts = try MachineParts(configuration, mode: mode ?? .pv, system: system, memory: nil)
        let contents = BootContents(
            kernel: kernel,
            initramfs: try BootFiles.initramfs(
                modulesDirectory: configuration.modulesDirectory, without: parts.platform.modulesUnused,
                program: configuration.initialProgram),
            commandLine: BootFiles.commandLine(configuration, platform: parts.platform.kernelWords(parts.devices.addresses)),
            windows: parts.devices.addresses)
        try parts.platform.boot(contents, memory: parts.memory, cpu: parts.cpu, cpuid: try system.supportedCPUID())
        try self.init(parts)
        rehearseSave()
    }

    /// Takes the state once, for nothing: the first time costs half a millisecond more, for program pages and types that nobody has
    /// touched yet, and the first stop of a running guest should not have to pay that.
    private func rehearseSave() {
        _ = try? save()
    }

    /// Makes a machine of parts that are ready to run, paused.
    ///
    /// - Throws: `MachineError.system` when there is no thread to be had.
    init(_ parts: MachineParts) throws(MachineError) {
        mode = parts.mode
        console = parts.console
        platform = parts.platform
        virtualMachine = parts.virtualMachine
        memory = parts.memory
        devices = parts.devices
        tracker = parts.tracker
        shadowPages = parts.shadowPages
        // What a stop would have to find out otherwise, some 0.3 ms the first time.
        parts.cpu.findSavedRegisters()
        _ = CPUFeatures.visible(in: mode, table: parts.cpu.cpuid)
        let ending = MachineEnding()
        self.ending = ending
        let handler = ExitHandler(platform: platform, memory: memory, devices: devices, tracker: tracker, console: console)
        runner = try VCPURunner(cpu: parts.cpu, name: "vcpu 0", handle: { handler.handle($0) }, ended: { ending.set($0) })
        keeper = MachineRest(runner, devices, secondsMax: parts.restSecondsMax)
    }

    deinit { stop() }

    /// Lets the guest run from now on, whenever nobody keeps it at rest.
    ///
    /// Idempotent; may be called by any thread.
    public func start() { keeper.resume() }

    /// Brings the machine to rest until the value is let go, whoever else does so meanwhile: there is no other way to stop it for a while.
    ///
    /// - Throws: `MachineError` for a machine that has ended, or does not come to rest in time (`MachineConfiguration.restSecondsMax`),
    ///   which has failed then: `end` says so.
    public func rest() throws(MachineError) -> RestingMachine {
        do throws(MachineError) { return try RestingMachine(self) } catch {
            if case .guest = error { fail("\(error)") }
            throw error
        }
    }

    /// For tests, which have no place to keep a `RestingMachine`: takes `start()` back.
    func pause() {
        do throws(MachineError) { try keeper.pause() } catch { fail("\(error)") }
    }

    /// For tests: `start()`.
    func resume() { keeper.resume() }

    /// The machine must not run any more; who waits for its end is told.
    private func fail(_ reason: String) {
        runner.condemn(reason)
        ending.set(.failed(reason))
    }

    /// When the guest went on after the last rest, in nanoseconds of the host's monotonic clock.
    ///
    /// Whoever lets it go may be kept from running by the vCPU that it has woken, and cannot tell by its own clock.
    public var runningSince: Int64 { runner.runningSince.load(ordering: .acquiring) }

    /// Whether nothing changes the guest now.
    public var isPaused: Bool { keeper.isResting }

    /// Connects to a vsock port of the guest, which is asked when it runs.
    ///
    /// - Returns: the caller's end of a stream; closing it ends the connection.
    /// - Throws: `VsockError` when the guest is not ready or nobody listens.
    public func connectVsock(port: UInt32) async throws(VsockError) -> OwnedDescriptor {
        guard let vsock = devices.vsock else { throw .notReady }
        return try await vsock.connect(port: port)
    }

    /// Ends all threads of the machine.
    ///
    /// Idempotent; the guest is not asked. When a thread does not end in time, the machine's end is `.failed` with its name: whoever stops
    /// it should end the process then.
    ///
    /// - Parameter seconds: how long each thread may take, at most.
    public func stop(seconds: Int = EventLoop.handlerSecondsMax) {
        var end = MachineEnd.stopped
        do throws(MachineError) { try keeper.end(seconds: seconds) } catch { end = .failed("\(error)") }
        memory.lazy?.setFailureHandler(nil)
        let stuck = memory.lazy?.stop(seconds: seconds) ?? []
        if !stuck.isEmpty, end == .stopped {
            end = .failed("it does not end: thread \(stuck.joined(separator: ", ")) waits for memory that has not come for \(seconds) s")
        }
        ending.set(end)
    }

    /// Returns when the guest has ended, or `stop()` was called.
    public func waitUntilEnded() async -> MachineEnd { await ending.wait() }

    /// How the guest has ended; nil while it runs.
    public var end: MachineEnd? { ending.value }
}

/// The end of a machine, known once, awaited by many.
final class MachineEnding: Sendable {
    private struct State {
        var end: MachineEnd?
        var waiters: [CheckedContinuation<MachineEnd, Never>] = []
        var observer: (@Sendable (MachineEnd) -> Void)?
    }
    private let state = Mutex(State())

    var value: MachineEnd? { state.withLock { $0.end } }

    func set(_ end: MachineEnd) {
        let (waiters, observer) = state.withLock { state in
            if state.end != nil { return ([CheckedContinuation<MachineEnd, Never>](), nil as (@Sendable (MachineEnd) -> Void)?) }
            state.end = end
            defer { (state.waiters, state.observer) = ([], nil) }
            return (state.waiters, state.observer)
        }
        for waiter in waiters { waiter.resume(returning: end) }
        observer?(end)
    }

    /// Has one observer called with the end, on the thread that knows it first; at once when the machine has ended.
    func observe(_ observer: @escaping @Sendable (MachineEnd) -> Void) {
        let end = state.withLock { state in
            if state.end == nil { state.observer = observer }
            return state.end
        }
        if let end { observer(end) }
    }

    func wait() async -> MachineEnd {
        await withCheckedContinuation { continuation in
            let end = state.withLock { state in
                if state.end == nil { state.waiters.append(continuation) }
                return state.end
            }
            if let end { continuation.resume(returning: end) }
        }
    }
}
