import Synchronization

/// The way of an answer back to whoever asked for a checkpoint: gone once, if need be by being forgotten.
///
/// It is passed along with the request, so that whoever drops a request, or an answer, ends the wait.
final class AnswerWay: Sendable {
    typealias Asker = @Sendable (Result<EpochNumber, PipelineError>) -> Void

    private let asker: Mutex<Asker?>

    init(_ asker: @escaping Asker) { self.asker = Mutex(asker) }

    deinit { give(.failure(.forgotten)) }

    /// Answers, unless that has been done.
    func give(_ result: Result<EpochNumber, PipelineError>) { asker.withLock { $0.take() }?(result) }

    /// Nobody waits any more.
    func close() { asker.withLock { $0 = nil } }
}
