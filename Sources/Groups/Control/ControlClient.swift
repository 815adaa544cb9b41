internal import CLinux
internal import FoundationEssentials

/// Speaks to the VMM process of a running group.
public struct ControlClient: Sendable {
    private let directory: GroupDirectory

    /// Names the group.
    public init(_ directory: GroupDirectory) { self.directory = directory }

    /// Asks for configuration and status.
    ///
    /// - Throws: `GroupError`.
    public func status() throws(GroupError) -> ControlStatus { try decode(try call("GET", "/v1/status")) }

    /// Whether somebody answers for the group within some milliseconds: a process that is being torn down holds the group's lock, and
    /// does not.
    public func answers(withinMilliseconds limit: Int32) -> Bool {
        let request = HTTPRequest(method: "GET", path: "/v1/status", parameters: [:])
        return (try? HTTPClient.send(request, to: directory.controlSocketPath, timeoutMilliseconds: limit)) != nil
    }

    /// What the group says of itself; nil when it does not answer, whatever its files say of that.
    func ownStatus() -> GroupStatus? {
        let request = HTTPRequest(method: "GET", path: "/v1/status")
        guard let response = try? HTTPClient.send(request, to: directory.controlSocketPath, timeoutMilliseconds: 5000),
            response.status == 200, let answer: ControlStatus = try? decode(response.body)
        else { return nil }
        return answer.status
    }

    /// The guest's objects as the VMM reports them, in JSON.
    ///
    /// - Throws: `GroupError`.
    public func objects() throws(GroupError) -> [UInt8] { try call("GET", "/v1/objects") }

    /// The guest console's last lines.
    ///
    /// - Throws: `GroupError`.
    public func console() throws(GroupError) -> String { String(decoding: try call("GET", "/v1/console"), as: UTF8.self) }

    /// Stops the machine's processors until `resume`.
    ///
    /// - Throws: `GroupError`.
    public func pause() throws(GroupError) { _ = try call("POST", "/v1/pause", [:], ControlClient.diskTimeoutMilliseconds) }

    /// Lets the machine go on.
    ///
    /// - Throws: `GroupError`.
    public func resume() throws(GroupError) { _ = try call("POST", "/v1/resume", [:], ControlClient.diskTimeoutMilliseconds) }

    /// Asks the program to end, and makes it after some seconds; returns at once.
    ///
    /// - Throws: `GroupError`.
    public func stop(graceSeconds: Int) throws(GroupError) { _ = try call("POST", "/v1/stop", ["seconds": "\(graceSeconds)"]) }

    /// Sends a signal to the program.
    ///
    /// - Throws: `GroupError`.
    public func kill(signal: Int32) throws(GroupError) { _ = try call("POST", "/v1/kill", ["signal": "\(signal)"]) }

    /// Ends the machine at once, as pulling the plug would.
    ///
    /// - Throws: `GroupError`.
    public func powerCut() throws(GroupError) { _ = try call("POST", "/v1/power-cut") }

    /// How its checkpoints go.
    ///
    /// - Throws: `GroupError`.
    public func persistence() throws(GroupError) -> PersistenceReport { try decode(try call("GET", "/v1/persistence")) }

    /// What happened behind the event of a number.
    ///
    /// - Throws: `GroupError`.
    public func events(after number: UInt64) throws(GroupError) -> GroupEvents {
        try decode(try call("GET", "/v1/events", ["after": "\(number)"]))
    }

    /// Takes a checkpoint and waits until it is durable.
    ///
    /// - Parameter seconds: how long it may take.
    /// - Throws: `GroupError`, which says what it waited for.
    public func checkpoint(
        name: String? = nil, within seconds: Double = CheckpointReceipt.secondsDefault
    ) throws(GroupError) -> CheckpointReceipt {
        var parameters = ["seconds": "\(seconds)"]
        parameters["name"] = name
        return try decode(try call("POST", "/v1/checkpoint", parameters, ControlClient.milliseconds(seconds)))
    }

    /// Adds a place for checkpoints.
    ///
    /// - Throws: `GroupError`.
    public func attach(_ backend: BackendKind) throws(GroupError) {
        _ = try call("POST", "/v1/attach", ["backend": backend.rawValue], ControlClient.diskTimeoutMilliseconds)
    }

    /// Takes a place for checkpoints away.
    ///
    /// - Parameter seconds: how long what is on its way there may take.
    /// - Throws: `GroupError`, which says what did not end.
    public func detach(_ backend: BackendKind, within seconds: Double = CheckpointReceipt.secondsDefault) throws(GroupError) {
        let parameters = ["backend": backend.rawValue, "seconds": "\(seconds)"]
        _ = try call("POST", "/v1/detach", parameters, ControlClient.milliseconds(seconds))
    }

    /// What an answer that may take some seconds is waited for.
    private static func milliseconds(_ seconds: Double) -> Int32 {
        let longest = CheckpointReceipt.secondsRange.contains(seconds) ? seconds : CheckpointReceipt.secondsRange.upperBound
        return Int32(clamping: Int(longest * 1000)) + answerMilliseconds
    }

    /// Changes how often the group is checkpointed.
    ///
    /// - Throws: `GroupError`.
    public func setPeriod(_ period: PersistencePeriod) throws(GroupError) {
        _ = try call("POST", "/v1/period", ["period": period.description])
    }

    /// Puts the group back to a checkpoint, in place.
    ///
    /// - Parameter selector: as a user writes it.
    /// - Throws: `GroupError`.
    public func rollback(to selector: String) throws(GroupError) {
        _ = try call("POST", "/v1/rollback", ["to": selector], ControlClient.diskTimeoutMilliseconds)
    }

    /// What waits for a disk, or for a rollback, may wait longer: a first, full checkpoint writes all of the memory.
    private static let diskTimeoutMilliseconds: Int32 = 600_000
    /// What an answer may take beyond what was waited for.
    private static let answerMilliseconds: Int32 = 30_000

    private func call(
        _ method: String, _ path: String, _ parameters: [String: String] = [:], _ timeoutMilliseconds: Int32 = 30_000
    ) throws(GroupError) -> [UInt8] {
        let response: HTTPResponse
        do throws(GroupError) {
            response = try HTTPClient.send(
                HTTPRequest(method: method, path: path, parameters: parameters), to: directory.controlSocketPath,
                timeoutMilliseconds: timeoutMilliseconds)
        } catch  where error.kind == .notRunning {
            throw notRunning
        }
        guard response.status == 200 else {
            let failure: ControlFailure? = try? decode(response.body)
            throw GroupError(
                response.status == 504 ? .guest : .host, failure?.error ?? "Group \(directory.name) answered with status \(response.status)"
            )
        }
        return response.body
    }

    /// How long a process that nobody can talk to any more is given to be gone, so that what became of the group can be said.
    private static let goneAttempts = 40
    private static let goneMicroseconds: UInt32 = 50_000

    private var notRunning: GroupError {
        for _ in 0..<ControlClient.goneAttempts where (try? directory.isLive()) ?? false { usleep(ControlClient.goneMicroseconds) }
        guard let status = try? directory.status(), !status.isLive else {
            return GroupError(.notRunning, "Group \(directory.name) is not running", remedy: "See its state with: aurora ps -a")
        }
        let isResumable = status.backends?.contains(.store) ?? false
        return GroupError(
            .notRunning, "Group \(directory.name) is not running but \(status.state.rawValue)",
            remedy: isResumable
                ? "Go on from its last checkpoint with: aurora restore \(directory.name)"
                : "See what became of it with: aurora inspect \(directory.name)")
    }

    private func decode<Value: Decodable>(_ bytes: [UInt8]) throws(GroupError) -> Value {
        do {
            return try JSONDecoder().decode(Value.self, from: Data(bytes))
        } catch {
            throw GroupError(.host, "Strange answer of group \(directory.name): \(error)")
        }
    }
}
