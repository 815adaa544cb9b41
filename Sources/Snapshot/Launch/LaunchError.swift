public import Linux

/// Why a launch image cannot be made or used.
public enum LaunchError: Error, Hashable, Sendable, CustomStringConvertible {
    /// There is none, or a file of it is missing: its path.
    case missing(String)
    /// A file is not what was written: its path, and what is wrong.
    case damaged(String, reason: String)
    /// The checkpoint cannot be launched from: why.
    case unsuitable(String)
    /// The checkpoint cannot be read from the store: why.
    case store(String)
    /// A system call failed.
    case system(SystemError)

    /// Whether making the launch image again from the store helps.
    public var isOfTheCache: Bool {
        switch self {
        case .missing, .damaged: true
        default: false
        }
    }

    /// What failed, on what, and what to do.
    public var description: String {
        switch self {
        case .missing(let path): "There is no launch file \(path); it is made again from the store when it is needed"
        case .damaged(let path, let reason): "Launch file \(path) is damaged: \(reason); it is made again from the store when it is needed"
        case .unsuitable(let reason): "Cannot launch from the checkpoint: \(reason)"
        case .store(let reason): "Cannot make a launch image: \(reason)"
        case .system(let error): error.description
        }
    }
}

/// `systemCall` with the error type of launch images.
@inline(__always) @discardableResult
func launchCall(_ operation: @autoclosure () -> String, _ subject: @autoclosure () -> String, _ body: () -> Int) throws(LaunchError) -> Int
{
    do throws(SystemError) { return try systemCall(operation(), subject(), body) } catch { throw .system(error) }
}
