import AgentProtocol
import CLinux
import Foundation
import Linux
import Synchronization
import Testing

@testable import Groups

/// A group whose machine is the agent as a process, with a client attached from the beginning.
final class RunningGroup: Sendable {
    let home: TemporaryDirectory
    let directory: GroupDirectory
    let client: SharedDescriptor
    private let result: EventQueue<Int32>

    init(
        _ command: [String], _ behaviour: AgentMachine.Behaviour = AgentMachine.Behaviour(), size: WindowSize? = nil,
        _ change: (inout GroupConfiguration) -> Void = { _ in }
    ) throws {
        home = try TemporaryDirectory()
        var configuration = GroupConfiguration(name: try GroupName("g"), image: "base", memoryBytes: 64 << 20, command: command)
        configuration.startTimeoutSeconds = 60
        change(&configuration)
        let created = try GroupStore(home.data).create(configuration)
        directory = created.directory
        let (near, far) = try Socket.pair()
        client = near
        _ = clinux_socket_timeouts(near.rawValue, 120_000)
        if let size {
            var bytes: [UInt8] = []
            Frame.appendMessage(.resize, request: 1, payload: size.encoded, to: &bytes)
            try DescriptorIO.sendAll(bytes, to: near.rawValue, what: "runtime")
        }
        let machine = MachineBox()
        result = try EventQueue()
        let data = home.data
        let runtime = try GroupRuntime(configuration.name, in: data, usesNetworkNamespace: false) { specification in
            let made = try AgentMachine(specification, behaviour)
            machine.value.withLock { $0 = made }
            return made
        }
        box = machine
        let lock = created.takeLock()
        let descriptor = try systemCall("duplicate", "lock") { clinux_fcntl(lock.rawValue, F_DUPFD_CLOEXEC, 0) }
        let result = result
        try DetachedThread.start("runtime") {
            let lock = GroupLock(adopting: OwnedDescriptor(adopting: Int32(descriptor)))
            result.push(runtime.run(lock: lock, client: far))
        }
    }

    final class MachineBox: Sendable { let value = Mutex<AgentMachine?>(nil) }
    private let box: MachineBox
    func endMachine(_ outcome: MachineOutcome) { box.value.withLock { $0 }?.end(outcome) }

    /// Cuts the connections to the agent, as nothing but its end does.
    func cutAgent() { box.value.withLock { $0 }?.cutConnections() }

    func exitCode() throws -> Int32 { try #require(result.next(timeoutMilliseconds: 120_000)) }

    func send(_ type: MessageType, _ payload: [UInt8] = []) throws {
        var bytes: [UInt8] = []
        Frame.appendMessage(type, request: 1, payload: payload, to: &bytes)
        try DescriptorIO.writeAll(bytes, to: client.rawValue, what: "runtime")
    }

    /// Everything until the last frame: output by stream, and the frame.
    func readToEnd() throws -> (stdout: String, stderr: String, last: Frame) {
        var decoder = FrameDecoder()
        var output: [MessageType: [UInt8]] = [:]
        var chunk = [UInt8](repeating: 0, count: 65536)
        while true {
            while let frame = try decoder.next() {
                if frame.type == .exited || frame.type == .failed {
                    func text(_ type: MessageType) -> String { String(decoding: output[type] ?? [], as: UTF8.self) }
                    return (text(.stdout), text(.stderr), frame)
                }
                output[frame.type, default: []] += frame.payload
            }
            let count = try DescriptorIO.read(client.rawValue, into: &chunk, what: "runtime")
            try #require(count > 0)
            decoder.append(chunk[..<count])
        }
    }

    func waitUntil(_ what: String, _ condition: () throws -> Bool) throws {
        for _ in 0..<12_000 {
            if try condition() { return }
            usleep(10_000)
        }
        Issue.record("never: \(what)")
    }

    func waitUntil(_ state: GroupStatus.State) throws {
        for _ in 0..<12_000 {
            if try directory.status().state == state { return }
            usleep(10000)
        }
        Issue.record("the group did not come to be \(state.rawValue)")
    }
}
