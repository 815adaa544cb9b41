/// Why the catalogue did not do something.
public enum CatalogueError: Error, Hashable, Sendable, CustomStringConvertible {
    /// There is no such function.
    case notFound(String)
    /// There is a function of that name.
    case exists(String)
    /// A setting is not acceptable: which, and what would be.
    case invalid(String)
    /// The function is being changed; the change asked for must wait.
    case busy(String)
    /// The revision given is not the function's.
    case revision(String)
    /// A gateway, or another deployment, uses the directory.
    case inUse(String)
    /// Too many functions.
    case full(limit: Int)
    /// A file is damaged: which, and how.
    case damaged(String)
    /// The host refused.
    case host(String)

    /// What failed, and what to do.
    public var description: String {
        switch self {
        case .notFound(let name): "Function not found: \(FunctionName.resourceName(name))"
        case .exists(let name): "Function already exist: \(name)"
        case .invalid(let reason): reason
        case .busy(let name):
            "The operation cannot be performed at this time. An update is in progress for resource: \(FunctionName.resourceName(name))"
        case .revision(let name): "The Revision Id provided does not match the latest Revision Id of \(name). Call the GetFunction API."
        case .inUse(let path): "\(path) is in use: a gateway runs (use --endpoint), or another deployment."
        case .full(let limit): "There are \(limit) functions already: remove one."
        case .damaged(let what): what
        case .host(let reason): reason
        }
    }
}
