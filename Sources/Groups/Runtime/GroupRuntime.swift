internal import AgentClient
internal import AgentProtocol
internal import CLinux
public import Linux
import Synchronization

/// The life of one group inside its VMM process: from taking over the lock to the last status.
public final class GroupRuntime: Sendable {
    /// Makes the machine of a specification.
    public typealias MachineMaker = @Sendable (consuming GroupMachineSpecification) throws -> any GroupMachine

    /// Reads what was kept beside the machine's state in a checkpoint.
    public typealias ContextReader = @Sendable (CheckpointAddress) throws -> GroupContext

    /// Begins to read the checkpoint that the group goes on from, beside everything else.
    public typealias RestoreBeginner = @Sendable () -> Void

    /// What the runtime waits for.
    enum Event: Sendable {
        case session(ApplicationSession.Happening)
        case machineEnded(MachineOutcome)
        case stop(graceSeconds: Int)
        case powerCut
        /// The last checkpoint of a group that is to end is made, or cannot be.
        case saved
        /// The machine was put back: see `lastRollback`.
        case rolledBack
    }

    let data: DataDirectory
    let directory: GroupDirectory
    let configuration: GroupConfiguration
    let makeMachine: MachineMaker
    /// The checkpoint to go on from; nil: the guest boots.
    let origin: CheckpointAddress?
    let usesNetworkNamespace: Bool
    let terminationSignals: SharedDescriptor?
    let beginRestore: RestoreBeginner
    let readContext: ContextReader
    let events: EventQueue<Event>
    let status: Mutex<GroupStatus>
    private let statusFile: StatusFile
    /// What happened of late.
    let journal = Mutex(EventJournal())
    let machine = Mutex<(any GroupMachine)?>(nil)
    /// The program's streams, while there are any.
    let live = Mutex<(ApplicationSession, EventLoop)?>(nil)
    /// The published ports, while there are any.
    let forwarder = Mutex<PortForwarder?>(nil)
    /// Rollbacks that were begun: each cuts off whoever is about to connect to the guest after the last one.
    let rollbacks = Atomic<UInt64>(0)
    /// What the last of them that is over left, and its number; nobody is connected to it until `goOn` is through with it.
    let lastRollback = Mutex<(context: GroupContext, number: UInt64)?>(nil)
    /// Those of them that are over, however.
    let rollbacksOver = Atomic<UInt64>(0)
    /// Whoever pauses, resumes, rolls back, or takes the last checkpoint: one after the other.
    let lifeOrder = Turn()
    /// Pauses there were: a guest that was paused meanwhile did not answer for that reason.
    let pauses = Atomic<UInt64>(0)
    /// Whether the program was asked to end, from when on nothing is checkpointed or rolled back.
    let isEnding = Atomic(false)
    /// Whether the machine was told to end at once.
    let isCut = Atomic(false)
    /// Keeps a long runtime directory reachable by a short path.
    let runtimeDirectory = Mutex<SharedDescriptor?>(nil)

    /// Prepares a runtime for a group whose lock the process holds.
    ///
    /// - Parameters:
    ///   - usesNetworkNamespace: whether the process may move into a namespace of its own; tests may not.
    ///   - terminationSignals: a descriptor that reports signals which ask the process, and so the group, to end.
    ///   - beginRestore: called once the process may have more than one thread, before anything else that takes time.
    /// - Throws: `GroupError` when the group's files are damaged.
    public init(
        _ name: GroupName, in data: DataDirectory, restoring origin: CheckpointAddress? = nil, usesNetworkNamespace: Bool = true,
        terminationSignals: SharedDescriptor? = nil, beginRestore: @escaping RestoreBeginner = {},
        readContext: @escaping ContextReader = GroupRuntime.refuseContext,
        makeMachine: @escaping MachineMaker
    ) throws(GroupError) {
        self.data = data
        self.origin = origin
        self.beginRestore = beginRestore
        self.readContext = readContext
        self.makeMachine = makeMachine
        self.usesNetworkNamespace = usesNetworkNamespace
        self.terminationSignals = terminationSignals
        directory = GroupDirectory(name: name, in: data)
        configuration = try directory.configuration()
        statusFile = StatusFile(directory)
        var status = GroupStatus(state: .starting)
        status.restoredFrom = origin
        status.restoreCount = (try? directory.status())?.restoreCount
        if origin != nil { status.restoreCount = (status.restoreCount ?? 0) + 1 }
        status.processID = getpid()
        status.startedAt = Timestamp.now()
        self.status = Mutex(status)
        do throws(SystemError) { events = try EventQueue() } catch { throw GroupError(.host, "\(error)") }
    }

    /// Runs the group to its end and returns the exit code of its program (125 for a failure of the engine).
    ///
    /// - Parameter client: a connected socket that is attached from the beginning and is told how the start went.
    public func run(lock: consuming GroupLock, client: SharedDescriptor?) -> Int32 {
        lock.noteHolder()
        var conclusion: ApplicationSession.Conclusion?
        var failure: (any Error)?
        var session: (ApplicationSession, EventLoop)?
        do {
            let listeners = try openListeners()
            // A namespace is for a process of one thread, and a restore begins a second one as soon as it can.
            if origin != nil, usesNetworkNamespace { NetworkNamespace.enterAhead() }
            beginRestore()
            saveStatus()
            let restored = try origin.map { try readContext($0) }
            let tap = try openNetwork(like: restored)
            let loop = try EventLoop(name: "engine")
            let application = try makeSession(on: loop)
            if let restored {
                application.outputBytes.store(restored.outputBytes, ordering: .relaxed)
                status.withLock { status in
                    status.session = restored.session
                    status.kernelRelease = restored.kernelRelease
                }
            }
            try obeySignals(on: loop)
            session = (application, loop)
            live.withLock { $0 = (application, loop) }
            if let client { loop.run { application.attach(client) } }
            conclusion = try live(application, loop, listeners, tap, restored)
        } catch {
            EngineLog.write("error: \(error)")
            failure = error
        }
        stopMachine()
        live.withLock { $0 = nil }
        // Not before: who reads `failed` may rely on it that the process is gone, or about to go.
        if let failure { conclusion = .failed(Failure(.system, Text(noteFailure(failure)))) }
        return end(conclusion ?? .exited(ExitStatus(.signal, UInt8(SIGKILL))), session, client, lock)
    }

    // MARK: - Steps

    /// How long machine and backends may take to end, in milliseconds.
    private static let endMilliseconds: Int32 = 20_000

    /// Ends the machine and its backends.
    ///
    /// What does not come back is left behind: the group ends all the same, and it ends with the process.
    private func stopMachine() {
        guard let machine = machine.withLock({ $0 }) else { return }
        guard let done = try? EventQueue<Bool>() else { return machine.stop() }
        let end = { @Sendable in
            machine.stop()
            done.push(true)
        }
        do throws(SystemError) { try DetachedThread.start("ending", end) } catch { end() }
        guard done.next(timeoutMilliseconds: GroupRuntime.endMilliseconds) == nil else { return }
        warn(
            "The machine or one of its backends did not end within \(GroupRuntime.endMilliseconds / 1000) s and was left behind: "
                + "a disk may not answer")
    }

    private func openListeners() throws(GroupError) -> [PortListener] {
        var listeners: [PortListener] = []
        for mapping in configuration.ports { listeners.append(try PortListener(mapping)) }
        let ports = listeners.map(\.mapping)
        status.withLock { $0.ports = ports }
        return listeners
    }

    /// A fresh guest gets a network where there is one to be had, a restored guest exactly what it had.
    private func openNetwork(like restored: GroupContext?) throws(GroupError) -> SharedDescriptor? {
        guard usesNetworkNamespace, restored?.hasNetwork ?? true else { return nil }
        let tap = openNetwork()
        if tap == nil, restored != nil {
            throw GroupError(
                .host, "The checkpoint has a network device, and this process may not make one",
                remedy: "See why with: aurora doctor. Restore it as a user who may.")
        }
        return tap
    }

    /// What a runtime without a store says.
    public static func refuseContext(_ reference: CheckpointAddress) throws -> GroupContext {
        throw GroupError(.host, "There is no store to read \(reference) from")
    }

    private func openNetwork() -> SharedDescriptor? {
        do throws(SystemError) {
            try NetworkNamespace.enter()
            let tap = SharedDescriptor(try TapDevice().takeDescriptor())
            status.withLock { $0.hasNetwork = true }
            return tap
        } catch {
            warn("The group has no network: \(error). Published ports go through the guest's agent. See: aurora doctor")
            return nil
        }
    }

    private func makeSession(on loop: EventLoop) throws -> ApplicationSession {
        try data.makeRuntime(directory.runtimePath)
        let log = try LogWriter(path: directory.logPath)
        let events = events
        let application = ApplicationSession(
            loop: loop, log: log, wantsInput: configuration.wantsInput, isTerminal: configuration.terminal
        ) { events.push(.session($0)) }
        return application
    }

    /// A host that shuts down ends its processes with SIGTERM: the group ends in order rather than by the SIGKILL that follows.
    private func obeySignals(on loop: EventLoop) throws(SystemError) {
        guard let signals = terminationSignals else { return }
        let events = events
        _ = try loop.register(signals.rawValue) { _ in
            while clinux_signal_read(signals.rawValue) > 0 {
                events.push(.stop(graceSeconds: GroupRuntime.terminationGraceSeconds), .order)
            }
        }
    }

    /// What a program gets to end when its VMM process is told to.
    private static let terminationGraceSeconds = 10

    /// Boots, starts the program and waits for the end.
    private func live(
        _ application: ApplicationSession, _ loop: EventLoop, _ listeners: [PortListener], _ tap: SharedDescriptor?,
        _ restored: GroupContext?
    ) throws -> ApplicationSession.Conclusion {
        let control = try HTTPServer(path: directory.controlSocketPath, loop: loop) { [self] in answer($0) }
        let attach = try AttachServer(path: directory.attachSocketPath, loop: loop, session: application)
        try startMachine(tap)
        // The program of a restored guest listens already: who asks it need not wait until the agent has answered.
        if restored != nil { try forward(listeners, hasNetwork: tap != nil) }
        defer { forwarder.withLock { $0 }?.stop() }
        let agent = try waitForAgent()
        if let restored { try adjustGuest(agent, restored) } else { try configureGuest(agent) }
        agent.close()
        if restored == nil { try forward(listeners, hasNetwork: tap != nil) }
        let socket = try GroupAgent.openSession(directory)
        let request = configuration.startRequest
        if let restored {
            loop.run { application.resume(socket, session: restored.session, receivedBytes: restored.outputBytes) }
        } else {
            loop.run { application.start(socket, request) }
        }
        let conclusion = try waitForEnd(application, loop)
        withExtendedLifetime((control, attach)) {}
        return conclusion
    }

    private func forward(_ listeners: [PortListener], hasNetwork: Bool) throws {
        guard !listeners.isEmpty else { return }
        let ports = try PortForwarder(listeners: listeners, route: route(hasNetwork: hasNetwork))
        forwarder.withLock { $0 = ports }
    }

    private func route(hasNetwork: Bool) -> PortForwarder.Route {
        if hasNetwork { return .direct(address: GroupNetwork.guestAddress) }
        let directory = directory
        return .proxy { port in try GroupAgent.connect(directory).proxy(port: port) }
    }

    // MARK: - Status

    /// Changes the status; when this returns the file has it.
    func update(_ change: (inout GroupStatus) -> Void) {
        let (before, after) = status.withLock { status in
            let before = status.state
            change(&status)
            return (before, status.state)
        }
        if before != after { tell(.state, after.rawValue) }
        saveStatus()
    }

    func saveStatus() {
        do throws(GroupError) { try statusFile.save { status.withLock { $0 } } } catch { EngineLog.write("\(error)") }
    }

    func warn(_ message: String) {
        tell(.warning, message)
        EngineLog.write("warning: \(message)")
        update { status in
            // The same again is told again: what was over in between has come back.
            status.warnings = status.warnings.suffix(GroupWarning.countMax - 1) + [GroupWarning(message)]
        }
    }

    func tell(_ kind: GroupEvent.Kind, _ message: String) {
        let time = Timestamp.now()
        journal.withLock { $0.append(kind, message, time: time) }
    }

    /// Writes down why the engine failed and returns the message for the user.
    private func noteFailure(_ error: any Error) -> String {
        let message = "\(error)"
        let tail = machine.withLock { $0 }?.consoleTail
        update { status in
            if origin != nil, status.state == .starting { status.failedToResume = true }
            status.state = .failed
            status.error = message
            status.consoleTail = tail
        }
        return message
    }

    private func end(
        _ conclusion: ApplicationSession.Conclusion, _ session: (ApplicationSession, EventLoop)?, _ client: SharedDescriptor?,
        _ lock: consuming GroupLock
    ) -> Int32 {
        var code: Int32 = 125
        if case .exited(let exit) = conclusion { code = exit.shellCode }
        update { status in
            status.processID = nil
            status.endedAt = Timestamp.now()
            if status.state != .failed {
                status.state = .exited
                status.exitCode = code
            }
        }
        directory.removeRuntimeFiles()
        if configuration.removeWhenEnded {
            do throws(GroupError) { try directory.removeFiles(in: data) } catch { EngineLog.write("\(error)") }
        }
        // Who is told that the group ended may remove it at once.
        lock.release()
        tell(conclusion, session, client)
        return code
    }

    /// Tells the attached client and gives it a moment to take the last output.
    private func tell(
        _ conclusion: ApplicationSession.Conclusion, _ session: (ApplicationSession, EventLoop)?, _ client: SharedDescriptor?
    ) {
        if let (application, loop) = session {
            let flushed = try? EventQueue<Bool>()
            loop.run { application.conclude(conclusion) { flushed?.push(true) } }
            _ = flushed?.next(timeoutMilliseconds: GroupRuntime.lastOutputMilliseconds)
        } else if let client, case .failed(let failure) = conclusion {
            var bytes: [UInt8] = []
            Frame.appendMessage(.failed, request: 1, payload: failure.encoded, to: &bytes)
            try? DescriptorIO.sendAll(bytes, to: client.rawValue, what: "client")
        }
    }

    /// How long a client that stands still may keep an ended group's process.
    private static let lastOutputMilliseconds: Int32 = 60_000
}
