import Groups

/// A group as `ps` shows it; one that is damaged does not hide the others.
struct GroupSummary: Encodable {
    let name: String
    let state: String
    let isLive: Bool
    let image: String?
    let memoryBytes: Int?
    /// What keeps its programs apart from their kernel; nil for a group that has not booted, or whose files are gone.
    let isolation: GroupIsolation?
    let ports: [PortMapping]
    let command: [String]
    let createdAt: String?
    let endedAt: String?
    let exitCode: Int32?
    let error: String?
    /// How its checkpoints go, while it runs and has any.
    let checkpoints: PersistenceReport?
    /// The newest checkpoint of a group that does not run.
    var resumableNumber: UInt64?

    /// Nil when the group was removed meanwhile.
    init?(_ directory: GroupDirectory) {
        name = directory.name.text
        do throws(GroupError) {
            let configuration = try directory.configuration()
            let status = try directory.status()
            state = status.state.rawValue
            isLive = status.isLive
            image = configuration.image
            memoryBytes = configuration.memoryBytes
            isolation = GroupIsolation(mode: status.mode, setting: configuration.isolation)
            ports = status.isLive ? status.ports : configuration.ports
            command = configuration.command
            createdAt = configuration.createdAt
            endedAt = status.endedAt
            exitCode = status.exitCode
            error = status.error
            checkpoints = status.isLive && status.backends != nil ? try? ControlClient(directory).persistence() : nil
        } catch {
            if error.kind == .notFound { return nil }
            (state, isLive, image, memoryBytes, isolation, ports, command, createdAt, endedAt, exitCode, checkpoints) = (
                "damaged", false, nil, nil, nil, [], [], nil, nil, nil, nil
            )
            self.error = error.message
        }
    }

    /// A group of which only the history is left.
    init(stored name: String, _ stream: StreamSummary) {
        self.name = name
        (state, isLive, image, memoryBytes, isolation, ports, command, endedAt, exitCode, error, checkpoints) = (
            "stored", false, nil, nil, nil, [], [], stream.latestTime, nil, nil, nil
        )
        createdAt = nil
        resumableNumber = stream.latestNumber
    }

    /// The columns of the table.
    static func head(checkpoints: Bool) -> [String] {
        let rates = checkpoints ? ["RATE", "STOP p50/p99", "DIRTY", "LAG", "STORED", "DEDUP"] : []
        return ["NAME", "STATE", "IMAGE", "MEMORY"] + rates + ["PORTS", "CREATED", "COMMAND"]
    }

    /// The cells of the table.
    func row(checkpoints hasColumns: Bool) -> [String] {
        let ago = endedAt.map { " \(Timestamp.age(of: $0)) ago" } ?? ""
        let code = exitCode.map { " (\($0))" } ?? ""
        let resumable = resumableNumber.map { ", resumable at \($0)" } ?? ""
        return [
            name, isLive ? state + (checkpoints?.note.map { ", \($0)" } ?? "") : state + code + ago + resumable, image ?? "?",
            memoryBytes.map(MemorySize.format) ?? "?",
        ] + (hasColumns ? checkpointCells : []) + [
            ports.map(\.description).joined(separator: ", "), createdAt.map { "\(Timestamp.age(of: $0)) ago" } ?? "?",
            Table.printable(command.joined(separator: " "), charactersMax: 40),
        ]
    }

    private var checkpointCells: [String] { GroupSummary.checkpointCells(checkpoints) }

    /// Rate achieved and wanted, stop times, pages written a second, lag, bytes in the store, and how much sharing saves.
    static func checkpointCells(_ checkpoints: PersistenceReport?) -> [String] {
        guard let checkpoints, !checkpoints.backends.isEmpty else { return ["-", "-", "-", "-", "-", "-"] }
        let target = checkpoints.period.rate.map { "\(CheckpointFormat.tenths($0))/s" } ?? "manual"
        let failed = checkpoints.backends.contains { $0.error != nil }
        let waits = checkpoints.backends.contains { $0.waitsFor != nil }
        return [
            failed ? "failed" : waits ? "no room" : "\(CheckpointFormat.tenths(checkpoints.rate))/\(target)",
            checkpoints.stops.map { "\(CheckpointFormat.time($0.median))/\(CheckpointFormat.time($0.p99))" } ?? "-",
            "\(Int(min(checkpoints.dirtyPagesPerSecond, 1e12)))/s",
            checkpoints.durabilityLagMilliseconds.map { CheckpointFormat.time($0 * 1000) } ?? "-",
            checkpoints.storedBytes.map(MemorySize.format) ?? "-",
            checkpoints.deduplication.map { "\(CheckpointFormat.tenths($0))x" } ?? "-",
        ]
    }
}
