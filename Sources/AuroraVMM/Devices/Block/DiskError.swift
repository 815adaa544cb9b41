public import Linux

/// Why a disk could not be opened.
public enum DiskError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The host refused.
    case system(SystemError)
    /// Another process uses the file.
    case inUse(path: String)
    /// The file has no room for a single sector.
    case tooSmall(path: String)
    /// The file is not a copy-on-write overlay, or not one that fits.
    case badOverlay(path: String, reason: String)

    /// What failed, on which file, and what to do.
    public var description: String {
        switch self {
        case .system(let error): "\(error)"
        case .inUse(let path): "Cannot use \(path) as a disk: another group uses it"
        case .tooSmall(let path): "Cannot use \(path) as a disk: it is smaller than a sector"
        case .badOverlay(let path, let reason): "Cannot use \(path) as a disk: \(reason)"
        }
    }
}
