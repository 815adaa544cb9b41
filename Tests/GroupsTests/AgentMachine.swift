import CLinux
import Foundation
import Groups
import Linux
import Synchronization

/// A machine without a processor: the real guest agent as a process of the host, behind a vsock front of its own.
///
/// What the runtime does with a group can be tested with it where there is no /dev/kvm.
final class AgentMachine: GroupMachine, GroupPersistence {
    /// The agent as `make guest` builds it.
    static let agentPath = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        .appending(path: "Sources/GuestBlobs/generated/agent").path

    /// Whether the agent has been built.
    static var isAvailable: Bool { clinux_file_bytes(agentPath) > 0 }

    let modeName = "test"
    let consoleTail = "line one\nline two\n"
    private let agentSocketPath: String
    private let etcPath: String
    private let listener: SharedDescriptor
    private let process = Mutex<Process?>(nil)
    private let ending = MachineEnding()

    /// What a test wants of the machine.
    struct Behaviour: Sendable {
        /// The agent never starts, so that nobody answers.
        var isSilent = false
        /// Serves a connection to the agent instead of it.
        var agent: (@Sendable (SharedDescriptor) -> Void)?
        /// Called in a rollback, with the guest standing still.
        var inRollback: @Sendable () throws -> Void = {}
        /// Takes a checkpoint.
        var inCheckpoint: @Sendable () throws -> Void = {}
        /// Takes the last checkpoint.
        var inLast: @Sendable () throws -> Void = {}
    }

    private let behaviour: Behaviour
    private let connections = Connections()
    private let context: @Sendable () -> GroupContext?

    init(_ specification: consuming GroupMachineSpecification, _ behaviour: Behaviour = Behaviour()) throws {
        self.behaviour = behaviour
        context = specification.context
        let directory = String(specification.vsockSocketPath.dropLast("/vsock.sock".count))
        agentSocketPath = "\(directory)/agent-test.sock"
        etcPath = directory
        listener = SharedDescriptor(try Socket.listen(unix: specification.vsockSocketPath))
    }

    func start() throws {
        if behaviour.isSilent { return }
        if let agent = behaviour.agent { return try listen { agent($0) } }
        let agent = Process()
        agent.executableURL = URL(filePath: AgentMachine.agentPath)
        agent.arguments = ["--test-socket", agentSocketPath, "--test-etc", etcPath]
        let ending = ending
        agent.terminationHandler = { @Sendable _ in ending.end(.powerOff) }
        try agent.run()
        process.withLock { $0 = agent }
        let path = agentSocketPath
        try listen { AgentMachine.serve($0, path) }
    }

    private func listen(_ serve: @escaping @Sendable (SharedDescriptor) -> Void) throws {
        let listener = listener
        let connections = connections
        try DetachedThread.start("vsock-front") {
            while true {
                let number = clinux_accept_blocking(listener.rawValue)
                guard number >= 0 else { return }
                let client = SharedDescriptor(OwnedDescriptor(adopting: Int32(number)))
                connections.add(client)
                try? DetachedThread.start("vsock") { serve(client) }
            }
        }
    }

    func pause() throws { if let process = process.withLock({ $0 }) { kill(process.processIdentifier, SIGSTOP) } }
    func resume() throws { if let process = process.withLock({ $0 }) { kill(process.processIdentifier, SIGCONT) } }

    func stop() {
        _ = clinux_shutdown(listener.rawValue, Int32(SHUT_RDWR))
        if let process = process.withLock({ $0 }) { kill(process.processIdentifier, SIGKILL) }
        ending.end(.stopped)
        // The agent listens for functions beside its own socket.
        for path in [agentSocketPath, agentSocketPath + ".function"] { try? FileManager.default.removeItem(atPath: path) }
        for name in ["hosts", "resolv.conf", "hostname"] { try? FileManager.default.removeItem(atPath: "\(etcPath)/\(name)") }
    }

    // MARK: - Persistence

    var persistence: (any GroupPersistence)? { self }
    func begin() {}
    func checkpoint(name: String?, within seconds: Double) throws -> CheckpointReceipt {
        try behaviour.inCheckpoint()
        return CheckpointReceipt(number: 1, name: name, stopMicroseconds: 0)
    }
    func takeLast() throws { try behaviour.inLast() }
    func report() -> PersistenceReport {
        var report = PersistenceReport()
        report.backends = [PersistenceReport.Backend(kind: .store)]
        return report
    }
    func attach(_ backend: BackendKind) throws {}
    func detach(_ backend: BackendKind, within seconds: Double) throws {}
    func setPeriod(_ period: PersistencePeriod) throws {}

    /// What connections notice of a rollback: they are cut.
    func rollback(to selector: CheckpointChoice, atStandstill: () -> Void) throws -> GroupContext {
        guard let context = context() else { throw GroupError(.notRunning, "The program does not run") }
        try behaviour.inRollback()
        connections.cut()
        atStandstill()
        return context
    }

    /// Connections through the front, until they are cut.
    private final class Connections: Sendable {
        private let all = Mutex<[SharedDescriptor]>([])
        func add(_ connection: SharedDescriptor) { all.withLock { $0.append(connection) } }
        func cut() {
            let all = all.withLock { all in
                defer { all = [] }
                return all
            }
            for connection in all { _ = clinux_shutdown(connection.rawValue, Int32(SHUT_RDWR)) }
        }
    }

    /// Cuts the connections to the agent.
    func cutConnections() { connections.cut() }

    /// Ends the machine as the guest would.
    func end(_ outcome: MachineOutcome) { ending.end(outcome) }

    func whenEnded(_ report: @escaping @Sendable (MachineOutcome) -> Void) { ending.whenEnded(report) }

    /// Takes the line with which a connection to a port of the guest begins; nil when there is none.
    static func port(of client: SharedDescriptor) -> String? {
        var line: [UInt8] = []
        var byte: UInt8 = 0
        while line.last != 10 {
            guard line.count < 100, clinux_recv(client.rawValue, &byte, 1) == 1 else { return nil }
            line.append(byte)
        }
        return String(decoding: line, as: UTF8.self)
    }

    private static func serve(_ client: SharedDescriptor, _ path: String) {
        guard port(of: client) == "CONNECT 1024\n", let agent = try? Socket.connect(unix: path) else { return }
        let guest = SharedDescriptor(agent)
        _ = "OK 5000\n".withCString { clinux_send(client.rawValue, $0, 8) }
        try? DetachedThread.start("vsock-in") { copy(client, guest) }
        copy(guest, client)
    }

    private static func copy(_ from: SharedDescriptor, _ to: SharedDescriptor) {
        var chunk = [UInt8](repeating: 0, count: 65536)
        while true {
            let count = clinux_recv(from.rawValue, &chunk, chunk.count)
            guard count > 0 else { break }
            var start = 0
            while start < count {
                let sent = chunk.withUnsafeBytes { clinux_send(to.rawValue, $0.baseAddress.map { $0 + start }, count - start) }
                guard sent > 0 else { return }
                start += sent
            }
        }
        _ = clinux_shutdown(to.rawValue, Int32(SHUT_WR))
    }
}

/// The first end that is told, told on once.
///
/// No task is involved: tests block the few threads on which tasks run.
private final class MachineEnding: Sendable {
    private struct State {
        var outcome: MachineOutcome?
        var report: (@Sendable (MachineOutcome) -> Void)?
    }
    private let state = Mutex(State())

    func end(_ outcome: MachineOutcome) {
        let report = state.withLock { state in
            guard state.outcome == nil else { return nil as (@Sendable (MachineOutcome) -> Void)? }
            state.outcome = outcome
            return state.report
        }
        report?(outcome)
    }

    func whenEnded(_ report: @escaping @Sendable (MachineOutcome) -> Void) {
        let outcome = state.withLock { state in
            state.report = report
            return state.outcome
        }
        if let outcome { report(outcome) }
    }
}
