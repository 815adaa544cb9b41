/// A function with everything needed to start an instance of it.
public struct DeployedFunction: Hashable, Sendable, Codable {
    /// Its name: letters, digits, `-` and `_`, at most 64 (Lambda's rule).
    public var name: String
    /// The image its root disk and kernel come from.
    public var image: String
    /// Memory of an instance, bytes.
    public var memoryBytes: Int
    /// The longest a request may take, seconds (Lambda: 1 to 900).
    public var timeoutSeconds: Int
    /// Changes whenever code or configuration change; names the function's snapshot.
    public var revision: String

    /// A function.
    public init(name: String, image: String, memoryBytes: Int, timeoutSeconds: Int, revision: String) {
        self.name = name
        self.image = image
        self.memoryBytes = memoryBytes
        self.timeoutSeconds = timeoutSeconds
        self.revision = revision
    }
}
