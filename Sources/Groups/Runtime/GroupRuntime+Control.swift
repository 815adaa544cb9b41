internal import AgentClient
internal import AgentProtocol
internal import Linux
import Synchronization

/// The control socket: what docs/control-api.md describes.
extension GroupRuntime {
    /// Answers one request; called on a thread of its own.
    func answer(_ request: HTTPRequest) -> HTTPResponse {
        do {
            switch (request.method, request.path) {
            case ("GET", "/v1/status"):
                return try json(ControlStatus(configuration: configuration, status: status.withLock { $0 }))
            case ("GET", "/v1/console"):
                let tail = machine.withLock { $0 }?.consoleTail ?? ""
                return HTTPResponse(status: 200, contentType: "text/plain; charset=utf-8", body: Array(tail.utf8))
            case ("GET", "/v1/objects"): return try objects(ObjectsRequest.everything)
            case ("GET", "/v1/processes"): return try objects(ObjectsRequest.processes)
            case ("POST", "/v1/pause"): return try pause()
            case ("POST", "/v1/resume"): return try resume()
            case ("POST", "/v1/stop"): return try stop(request)
            case ("POST", "/v1/kill"): return try kill(request)
            case ("POST", "/v1/power-cut"):
                if !isCut.exchange(true, ordering: .relaxed) { events.push(.powerCut, .last) }
                return try done()
            default: return try answerPersistence(request) ?? unknown(request)
            }
        } catch let error as AgentError {
            return HTTPServer.failure(504, error.description)
        } catch let error as GroupError {
            let status =
                switch error.kind {
                case .invalidValue: 400
                case .notRunning: 409
                case .guest, .timeout: 504
                default: 500
                }
            return HTTPServer.failure(status, error.description)
        } catch {
            return HTTPServer.failure(500, "\(error)")
        }
    }

    private static let paths = [
        "/v1/status", "/v1/console", "/v1/objects", "/v1/processes", "/v1/pause", "/v1/resume", "/v1/stop", "/v1/kill", "/v1/power-cut",
        "/v1/persistence", "/v1/checkpoint", "/v1/attach", "/v1/detach", "/v1/period", "/v1/rollback",
        "/v1/events", "/metrics",
    ]

    private func unknown(_ request: HTTPRequest) -> HTTPResponse {
        GroupRuntime.paths.contains(request.path)
            ? HTTPServer.failure(405, "\(request.path) does not take \(request.method)")
            : HTTPServer.failure(404, "There is no \(request.path)")
    }

    func json(_ value: some Encodable) throws -> HTTPResponse {
        HTTPResponse(status: 200, body: try StateFile.encode(value))
    }

    func done() throws -> HTTPResponse { try json(ControlDone(state: status.withLock { $0.state })) }

    func require(_ states: GroupStatus.State...) throws(GroupError) {
        let state = status.withLock { $0.state }
        guard states.contains(state) else { throw GroupError(.notRunning, "Group \(configuration.name) is \(state.rawValue)") }
    }

    private func objects(_ sections: UInt32) throws -> HTTPResponse {
        try require(.running)
        return try json(try GroupAgent.connect(directory).objects(sections))
    }

    /// Whether somebody wants the guest to stand still.
    var isPaused: Bool { status.withLock { $0.state } == .paused }

    private func pause() throws -> HTTPResponse {
        try inOrder("a pause") {
            try refuseEnding()
            try require(.running)
            pauses.add(1, ordering: .acquiringAndReleasing)
            try machine.withLock { $0 }?.pause()
            update { $0.state = .paused }
        }
        return try done()
    }

    /// Also for a group that nobody paused: one stands still whose backend has failed.
    private func resume() throws -> HTTPResponse {
        try inOrder("a resumption") {
            try require(.paused, .running)
            try letGoOn()
        }
        return try done()
    }

    /// For whoever has the life's order.
    func letGoOn() throws {
        try machine.withLock { $0 }?.resume()
        update { if $0.state == .paused { $0.state = .running } }
    }

    /// A program that was asked to end is not held up, and what it does now is not for whoever goes on from a checkpoint.
    func refuseEnding() throws(GroupError) {
        guard isEnding.load(ordering: .acquiring) else { return }
        throw GroupError(
            .notRunning, "Group \(configuration.name) is being stopped",
            remedy: "When it has ended, go on with: aurora restore \(configuration.name)")
    }

    private func stop(_ request: HTTPRequest) throws -> HTTPResponse {
        guard let seconds = Int(request.parameters["seconds"] ?? "10"), (0...86400).contains(seconds) else {
            throw GroupError(.invalidValue, "seconds must be 0 to 86400")
        }
        guard events.push(.stop(graceSeconds: seconds), .order) else {
            throw GroupError(.host, "Group \(configuration.name) has been told to stop many times and did not look yet")
        }
        return try done()
    }

    private func kill(_ request: HTTPRequest) throws -> HTTPResponse {
        try require(.running)
        guard let signal = Int32(request.parameters["signal"] ?? "9"), (1...64).contains(signal),
            let session = status.withLock({ $0.session })
        else { throw GroupError(.invalidValue, "signal must be 1 to 64") }
        try GroupAgent.connect(directory).signal(SignalRequest(session: session, signal: signal))
        return try done()
    }
}
