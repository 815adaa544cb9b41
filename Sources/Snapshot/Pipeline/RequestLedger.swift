/// The checkpoints that somebody asked for, from the question to the answer.
///
/// A request is *asked*, then *taken* by the epoch whose stop begins, then *under way* at the backends that get the epoch, then
/// answered. It leaves the ledger as an `Answer` alone, which whoever changed the ledger has to deliver: no branch can lose one.
/// A ledger that is dropped with somebody waiting traps.
struct RequestLedger<Asker>: ~Copyable {
    /// More than can be asked at once through a group's control socket by far.
    static var requestsMax: Int { 4096 }

    enum Stage: Hashable {
        /// Waits for an epoch that can serve it.
        case asked
        /// The epoch's stop has begun.
        case taken(EpochNumber)
        /// Where the epoch still has to arrive.
        case underWay(EpochNumber, Set<BackendKey>)
    }

    struct Request {
        let identifier: UInt64
        let name: String?
        /// The backend to wait for; nil: all that get the epoch.
        let backend: String?
        let asker: Asker
        var stage: Stage
    }

    struct Answer {
        let asker: Asker
        let result: Result<EpochNumber, PipelineError>
    }

    private(set) var requests: [Request] = []
    private var next: UInt64 = 0

    init() {}

    deinit { precondition(requests.isEmpty, "\(requests.count) requests for checkpoints were dropped without an answer") }

    /// Notes a request down; nil when there are too many.
    mutating func ask(name: String?, backend: String?, _ asker: Asker) -> UInt64? {
        guard requests.count < RequestLedger.requestsMax else { return nil }
        defer { next += 1 }
        requests.append(Request(identifier: next, name: name, backend: backend, asker: asker, stage: .asked))
        return next
    }

    /// Whether an epoch would serve somebody; those who ask for a backend whose base is not complete wait for that.
    func isWanted(ready: Set<BackendKey>) -> Bool { requests.contains { RequestLedger.isServable($0, ready) } }

    private static func isServable(_ request: Request, _ ready: Set<BackendKey>) -> Bool {
        request.stage == .asked && (request.backend.map { name in ready.contains { $0.name == name } } ?? true)
    }

    /// An epoch's stop begins: takes the requests that it can serve, those without a name and the first name.
    ///
    /// - Returns: that name.
    mutating func take(for epoch: EpochNumber, ready: Set<BackendKey>) -> String? {
        let name = requests.first { RequestLedger.isServable($0, ready) && $0.name != nil }?.name
        for index in requests.indices where RequestLedger.isServable(requests[index], ready) {
            if requests[index].name == nil || requests[index].name == name { requests[index].stage = .taken(epoch) }
        }
        return name
    }

    /// The epoch that was begun came to nothing, and another will be made.
    mutating func putBack() {
        for index in requests.indices {
            if case .taken = requests[index].stage { requests[index].stage = .asked }
        }
    }

    /// The epoch is about to be handed to backends.
    ///
    /// - Parameters:
    ///   - ready: those that get it.
    ///   - attached: those there are now; one that has gone answers nobody any more.
    /// - Returns: requests that no backend will ever serve.
    mutating func handOver(_ epoch: EpochNumber, to ready: Set<BackendKey>, attached: Set<BackendKey>) -> [Answer] {
        let takers = ready.intersection(attached)
        for index in requests.indices where requests[index].stage == .taken(epoch) {
            let mine = requests[index].backend.map { name in takers.filter { $0.name == name } } ?? takers
            requests[index].stage = mine.isEmpty ? .asked : .underWay(epoch, mine)
        }
        return answer { request in
            guard request.stage == .asked, !RequestLedger.hasHope(request, attached) else { return nil }
            return .failure(.noBackend(request.backend))
        }
    }

    /// All epochs up to one are durable at a backend.
    mutating func durable(_ epoch: EpochNumber, at backend: BackendKey) -> [Answer] {
        for index in requests.indices {
            guard case .underWay(let mine, var backends) = requests[index].stage, mine <= epoch else { continue }
            backends.remove(backend)
            requests[index].stage = .underWay(mine, backends)
        }
        return answer { request in
            guard case .underWay(let epoch, let backends) = request.stage, backends.isEmpty else { return nil }
            return .success(epoch)
        }
    }

    /// A backend takes nothing any more.
    ///
    /// - Parameters:
    ///   - backend: which; nil: one that nobody waits for, but whose going may leave nobody to wait for.
    ///   - usable: the others that do.
    mutating func left(_ backend: BackendKey?, _ error: PipelineError, usable: Set<BackendKey>) -> [Answer] {
        answer { request in
            let isHopeless =
                switch request.stage {
                case .underWay(_, let backends): backend.map(backends.contains) ?? false
                case .asked, .taken: !RequestLedger.hasHope(request, usable)
                }
            return isHopeless ? .failure(error) : nil
        }
    }

    private static func hasHope(_ request: Request, _ backends: Set<BackendKey>) -> Bool {
        request.backend.map { name in backends.contains { $0.name == name } } ?? !backends.isEmpty
    }

    /// Takes a request back that was not answered yet; nil: it was.
    mutating func withdraw(_ identifier: UInt64) -> Request? {
        requests.firstIndex { $0.identifier == identifier }.map { requests.remove(at: $0) }
    }

    /// No epoch is made any more.
    mutating func end(_ error: PipelineError) -> [Answer] { answer { _ in .failure(error) } }

    private mutating func answer(_ result: (Request) -> Result<EpochNumber, PipelineError>?) -> [Answer] {
        var answers: [Answer] = []
        requests.removeAll { request in
            guard let result = result(request) else { return false }
            answers.append(Answer(asker: request.asker, result: result))
            return true
        }
        return answers
    }
}

/// A backend's time at a pipeline: attached anew, one of the same name is another.
struct BackendKey: Hashable, Sendable {
    let name: String
    let number: UInt64
}
