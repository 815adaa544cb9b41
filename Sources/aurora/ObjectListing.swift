import AgentClient
import AgentProtocol
import Groups
import Linux

/// The objects of a guest as people read them: processes, their threads and descriptors, mappings, and what is shared by name.
struct ObjectListing {
    private let report: ObjectReport
    private let peers: PeerIndex

    init(_ report: ObjectReport) {
        self.report = report
        peers = PeerIndex(report)
    }

    /// Writes everything to standard output.
    func print() {
        for process in report.processes { print(process) }
        printInterprocess()
        if report.isTruncated { Terminal.writeError("warning: the guest has more objects than the agent reports\n") }
    }

    private func print(_ process: ProcessObject) {
        let command = process.arguments.isEmpty ? "[\(process.name)]" : process.arguments.map(\.string).joined(separator: " ")
        Swift.print(
            "process \(process.number)  parent \(process.parent)  state \(process.state)  user \(process.user)  "
                + "resident \(MemorySize.format(Int(clamping: process.residentBytes)))  "
                + Table.printable(command, charactersMax: 80))
        if process.threads.count > 1 {
            let names = process.threads.map { "\($0.number) \(Table.printable($0.name.string, charactersMax: 16))" }
            Swift.print("  threads: \(names.joined(separator: ", "))")
        }
        for object in report.descriptors where object.process == process.number { Swift.print("  \(line(object))") }
        let mappings = report.mappings.filter { $0.process == process.number }
        if !mappings.isEmpty {
            let bytes = mappings.reduce(UInt64(0)) { $0 &+ $1.bytes }
            let shared = mappings.filter(\.isShared).count
            Swift.print("  mappings: \(mappings.count) objects, \(MemorySize.format(Int(clamping: bytes))), \(shared) shared")
        }
    }

    private func line(_ object: DescriptorObject) -> String {
        let mode = object.isReadable ? (object.isWritable ? "rw" : "r ") : " w"
        var words = ["fd \(object.number)", mode, "\(object.kind)", Table.printable(object.target.string, charactersMax: 100)]
        if object.kind == .file { words.append("offset \(object.offset) of \(object.size)") }
        if object.isDeleted { words.append("(deleted)") }
        words += details(object)
        let others = peers.peers(of: object).map { "\($0.process)/fd \($0.descriptor)" }
        if !others.isEmpty { words.append("<-> \(others.joined(separator: ", "))") }
        return words.joined(separator: "  ")
    }

    private func details(_ object: DescriptorObject) -> [String] {
        if let socket = peers.internetSocket(of: object) {
            let remote = socket.remotePort == 0 ? "" : " -> \(socket.remoteAddress):\(socket.remotePort)"
            return [
                "\(socket.transport) \(socket.localAddress):\(socket.localPort)\(remote) \(socket.state)",
                queues(socket.receiveQueue, socket.sendQueue),
            ]
            .filter { !$0.isEmpty }
        }
        if let socket = peers.unixSocket(of: object) {
            return [
                "unix \(socket.type) \(socket.state) \(Table.printable(socket.path.string, charactersMax: 100))",
                queues(socket.receiveQueue, socket.sendQueue),
            ]
            .filter { !$0.isEmpty }
        }
        switch object.detail {
        case .none: return []
        case .counter(let value): return ["counter \(value)"]
        case .timer(_, let remaining, let interval): return ["fires in \(remaining) ns, then every \(interval) ns"]
        case .members(let members): return ["watches fd \(members.map { "\($0.descriptor)" }.joined(separator: ", "))"]
        case .signals(let mask): return ["signals 0x\(String(mask, radix: 16))"]
        case .watches(let count): return ["\(count) watches"]
        case .terminal(let number): return ["terminal \(number)"]
        case .process(let number): return ["process \(number)"]
        }
    }

    private func queues(_ receive: UInt32, _ send: UInt32) -> String {
        receive == 0 && send == 0 ? "" : "queued \(receive) in, \(send) out"
    }

    private func printInterprocess() {
        for object in report.sysvObjects {
            let size = "\(object.bytes) bytes  count \(object.count)"
            Swift.print("sysv \(object.kind)  key \(object.key)  id \(object.identifier)  \(size)  user \(object.user)")
        }
        for object in report.namedObjects {
            let name = Table.printable(object.name.string, charactersMax: 100)
            Swift.print("posix \(object.kind)  \(name)  \(object.bytes) bytes  user \(object.user)")
        }
    }
}
