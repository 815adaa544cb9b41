public import Linux

/// Where the epochs of a group go: the store, memory, another host.
///
/// All calls of one backend come from one thread of the pipeline, one after the other, in the order of time. A call may take
/// as long as it needs: the guest runs meanwhile, and the pipeline makes fewer checkpoints.
public protocol Backend: AnyObject, Sendable {
    /// A short name that is unique in its group, for messages and commands.
    var name: String { get }

    /// Takes pages ahead of the epoch they belong to, which is the one that the next `write` brings.
    ///
    /// Each replaces what was staged for the same key before. Pages that are in neither are as in the epoch before, or, where
    /// there is none, zero. What is staged and never followed by `write` must not become part of a checkpoint.
    ///
    /// - Throws: `BackendError`; the backend is then not used any more.
    func stage(_ pages: PageSet) throws(BackendError)

    /// Takes a closed epoch; it need not be durable on return.
    ///
    /// - Parameters:
    ///   - epoch: what changed since `previous`, but for what was staged.
    ///   - previous: the epoch that this backend wrote last, or began from; nil: none.
    /// - Throws: `BackendError`; the epoch is then not kept, and the backend not used any more.
    func write(_ epoch: Epoch, after previous: EpochNumber?) throws(BackendError)

    /// Returns when all epochs written are durable.
    ///
    /// - Throws: `BackendError`; epochs since the last flush may or may not be kept, earlier ones are.
    func flush() throws(BackendError)
}

/// Why a backend cannot take an epoch.
public struct BackendError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The backend.
    public let backend: String
    /// What failed and what to do, a sentence.
    public let reason: String
    /// The kernel's answer, where there was one.
    public let errno: Errno?

    /// Describes a failure.
    public init(backend: String, reason: String, errno: Errno? = nil) {
        self.backend = backend
        self.reason = reason
        self.errno = errno
    }

    /// Describes a failed system call.
    public init(backend: String, _ error: SystemError) {
        self.init(backend: backend, reason: "\(error)", errno: error.errno)
    }

    /// "Backend NAME failed: REASON".
    public var description: String { "Backend \(backend) failed: \(reason)" }
}

/// What becomes of a group one of whose backends has failed.
public enum BackendFailurePolicy: String, Sendable, Codable, CaseIterable {
    /// The guest stands still until somebody decides.
    case pauseGroup = "pause"
    /// The guest runs on, the backend is detached.
    case detach
}
