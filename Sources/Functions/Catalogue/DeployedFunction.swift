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
    /// Room for what it writes to its disk, MiB; nil: of a build before there was a limit.
    public var scratchMiB: Int?
    /// Whether its processes are kept apart from their kernel in a pv guest; nil: as the image says.
    public var isStrict: Bool?

    /// A function.
    public init(name: String, image: String, memoryBytes: Int, timeoutSeconds: Int, revision: String) {
        self.name = name
        self.image = image
        self.memoryBytes = memoryBytes
        self.timeoutSeconds = timeoutSeconds
        self.revision = revision
    }
}

extension DeployedFunction {
    /// The stream of the function's snapshot in the store: one for each revision, so that an older one serves until the newer is whole.
    public var streamName: String { "\(DeployedFunction.streamPrefix(name))\(revision)" }

    /// What the streams of all revisions of a function begin with; no function's name holds the full stop.
    public static func streamPrefix(_ name: String) -> String { "function/\(name)." }

    /// The stream of the runtime snapshot that the function's snapshot shares its pages with.
    public var runtimeStreamName: String { "runtime/\(image)-\(machineBytes >> 20)\(isStrict == true ? "-strict" : "")" }

    /// Memory of its machine, bytes: machines have whole pages of 2 MiB, functions any MiB.
    public var machineBytes: Int {
        let page = 2 << 20
        return memoryBytes > .max - page ? memoryBytes : (memoryBytes + page - 1) / page * page
    }
}
