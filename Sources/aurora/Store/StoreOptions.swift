import ArgumentParser
import FoundationEssentials
import Groups

/// Which store a command is about.
struct StoreOptions: ParsableArguments {
    @Option(
        name: .customLong("store"), parsing: .unconditional,
        help: "The store: a file or a block device; the group's, $AURORA_STORE or the data directory's.")
    var path: String?

    /// The store of a group, for reading; where the group does not say otherwise, the usual one.
    func open(for name: GroupName) throws -> StoreAccess {
        try StoreAccess.open(try absolutePath ?? CommandContext.storePath(of: name))
    }

    /// The store that is meant when no group is.
    func open() throws -> StoreAccess { try StoreAccess.open(try absolutePath ?? CommandContext.data.storePath) }

    /// The same for a command that only reads: it may be where nothing can be written.
    func openForReading(for name: GroupName) throws -> StoreAccess {
        try StoreAccess.openForReading(try absolutePath ?? CommandContext.storePath(of: name))
    }

    /// The store that is meant when no group is, for a command that only reads.
    func openForReading() throws -> StoreAccess { try StoreAccess.openForReading(try absolutePath ?? CommandContext.data.storePath) }

    /// The path that was given.
    var absolutePath: String? {
        get throws {
            guard let path else { return nil }
            guard !path.isEmpty else { throw ValidationError("--store needs a path.") }
            return path.hasPrefix("/") ? path : "\(FileManager.default.currentDirectoryPath)/\(path)"
        }
    }
}
