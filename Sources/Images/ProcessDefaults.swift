/// How the program of an image is run when a command says nothing else.
public struct ProcessDefaults: Codable, Hashable, Sendable {
    /// What is run with the arguments in `command`; alone when that is empty.
    public var entrypoint: [String] = []
    /// The arguments, or the whole command where there is no entry point.
    public var command: [String] = []
    /// `NAME=value` entries.
    public var environment: [String] = []
    /// `user[:group]`; empty for root.
    public var user = ""
    /// Where it starts; empty for the root.
    public var directory = ""
    /// The signal that asks it to end; empty for the usual one.
    public var stopSignal = ""
    /// Ports it listens on, "80/tcp".
    public var ports: [String] = []
    /// What its maker said of it.
    public var labels: [String: String] = [:]

    /// The whole command; empty when the image names none.
    public var arguments: [String] { entrypoint + command }

    /// What a container configuration says.
    struct Foreign: Decodable {
        let entrypoint: [String]?
        let command: [String]?
        let environment: [String]?
        let user: String?
        let directory: String?
        let stopSignal: String?
        let ports: [String: Nothing]?
        let labels: [String: String]?

        /// An object whose keys alone matter.
        struct Nothing: Decodable {}

        enum CodingKeys: String, CodingKey {
            case entrypoint = "Entrypoint"
            case command = "Cmd"
            case environment = "Env"
            case user = "User"
            case directory = "WorkingDir"
            case stopSignal = "StopSignal"
            case ports = "ExposedPorts"
            case labels = "Labels"
        }
    }

    /// Nothing but what Aurora does by itself.
    public init() {}

    /// Checks what an image's configuration says: no zero bytes, bounded lists, an absolute working directory.
    init(_ foreign: Foreign) throws(ImportRefusal) {
        entrypoint = try Self.list(foreign.entrypoint, "Entrypoint")
        command = try Self.list(foreign.command, "Cmd")
        environment = try Self.list(foreign.environment, "Env")
        guard environment.allSatisfy({ $0.contains("=") && !$0.hasPrefix("=") }) else {
            throw ImportRefusal("its configuration has an environment variable that is not NAME=VALUE")
        }
        user = try Self.text(foreign.user, "User")
        directory = try Self.text(foreign.directory, "WorkingDir")
        if !directory.isEmpty, !directory.hasPrefix("/") { directory = "/\(directory)" }
        stopSignal = try Self.text(foreign.stopSignal, "StopSignal")
        ports = try Self.list(foreign.ports.map { $0.keys.sorted() }, "ExposedPorts")
        labels = foreign.labels ?? [:]
        _ = try Self.list(labels.map { "\($0)=\($1)" }, "Labels")
    }

    /// Bytes of one text.
    private static let textBytesMax = 128 << 10

    private static func list(_ texts: [String]?, _ what: String) throws(ImportRefusal) -> [String] {
        let texts = texts ?? []
        guard texts.count <= ImportLimits.listEntriesMax else { throw ImportRefusal("its configuration has too many entries in \(what)") }
        for entry in texts { _ = try text(entry, what) }
        return texts
    }

    private static func text(_ text: String?, _ what: String) throws(ImportRefusal) -> String {
        let text = text ?? ""
        guard !text.utf8.contains(0), text.utf8.count <= textBytesMax else {
            throw ImportRefusal("its configuration has a text with a zero byte, or one that is too long, in \(what)")
        }
        return text
    }
}
