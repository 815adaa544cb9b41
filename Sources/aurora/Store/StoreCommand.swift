import ArgumentParser
import Groups
import Linux
import Store

/// `aurora store`: the place where checkpoints are kept.
struct StoreCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "store", abstract: "Make, look at and check the store of checkpoints.",
        subcommands: [
            StoreInitCommand.self, StoreStatCommand.self, StoreScrubCommand.self, StoreVerifyCommand.self, GcCommand.self,
            StoreInspectCommand.self, StoreIdentityCommand.self,
        ])

    /// Tells on a terminal how far something is.
    static func progress(_ what: String) -> (StoreProgress) -> Void {
        return { step in
            let text =
                switch step {
                case .streams(let done, let all): "stream \(done) of \(all)"
                case .segments(let done, let all): "segment \(done) of \(all)"
                case .gate(let tries, let all): "waiting for checkpoints under way, try \(tries) of \(all)"
                }
            Terminal.showProgress("aurora: \(what): \(text)")
        }
    }

    /// Removes what `progress` has written.
    static func endProgress() { Terminal.endProgress() }
}

/// `aurora store init`.
struct StoreInitCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "init", abstract: "Make a store in a new file or on an empty block device.",
        discussion: "A file is sparse: its size is a limit, not a cost. aurora persist makes the usual store by itself.")

    @Option(parsing: .unconditional, help: "The size of a new file.")
    var size = MemorySize.format(Int(StoreConfiguration.fileBytesDefault))

    @Flag(help: "Overwrite what is on the block device or in the file.")
    var force = false

    @OptionGroup var store: StoreOptions

    func validate() throws {
        try CommandContext.validate { () throws(GroupError) in _ = try MemorySize.parse(size) }
    }

    func run() throws {
        let path = try store.absolutePath ?? CommandContext.data.storePath
        if SmallFile.exists(path) {
            let disk = try FileDisk.open(path)
            guard force || disk.isBlockDevice else {
                throw GroupError(.nameTaken, "\(path) exists", remedy: "Choose another path, or overwrite it with --force.")
            }
            try Store.create(on: disk, StoreConfiguration(createdAt: Timestamp.wallClockNanoseconds(), overwrites: force))
        } else {
            try StoreAccess.create(path, UInt64(max(0, try MemorySize.parse(size))))
        }
        print(path)
    }
}

/// `aurora store identity`: what tells a store from its copies.
struct StoreIdentityCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "identity", abstract: "Show what tells a store from all others, or give a copy an identity of its own.",
        discussion: """
            A copy of a store (cp --sparse=always, a snapshot of its file system) works beside the original as it is: what is shared \
            in memory goes by the file, too. Give one that is to live on by itself an identity of its own before it is used.
            """)

    @Flag(name: .customLong("new"), help: "Give the store a new identity; nobody may be using it.")
    var isNew = false
    @OptionGroup var store: StoreOptions

    func run() throws {
        let path = try store.absolutePath ?? CommandContext.data.storePath
        let identity = isNew ? try Store.renewIdentity(of: try FileDisk.open(path)) : try store.openForReading().store.identity
        print(identity)
    }
}

/// `aurora store stat`.
struct StoreStatCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "stat", abstract: "Show what the store holds.")

    @Option(parsing: .unconditional, help: "How to write it: table or json.")
    var format = ListFormat.table
    @OptionGroup var store: StoreOptions

    private struct Figures: Encodable {
        let path: String
        let limitBytes: Int
        let allocatedBytes: Int?
        let streams: [StreamSummary]
        let unreadable: [UnreadableSummary]
    }

    private struct UnreadableSummary: Encodable {
        let name: String
        let reason: String
    }

    func run() throws {
        let access = try store.openForReading()
        let listing = try access.store.listing()
        let figures = Figures(
            path: access.path, limitBytes: Int(clamping: access.disk.byteCount), allocatedBytes: SmallFile.allocatedBytes(access.path),
            streams: listing.streams.map(StreamSummary.init),
            unreadable: listing.unreadable.map { UnreadableSummary(name: $0.name, reason: $0.reason) })
        if format == .json { return print(try CommandContext.json(figures)) }
        print("store     \(figures.path)")
        print("limit     \(MemorySize.format(figures.limitBytes))")
        if let bytes = figures.allocatedBytes { print("on disk   \(MemorySize.format(bytes))") }
        Table(
            ["STREAM", "CHECKPOINTS", "LATEST", "TIME"],
            figures.streams.map {
                [$0.name, "\($0.checkpoints)", $0.latestNumber.map { "\($0)" } ?? "-", $0.latestTime ?? "-"]
            }
        ).print()
        for stream in figures.unreadable { print("unreadable: \(stream.name): \(stream.reason)".visibleLine) }
    }
}

/// `aurora store inspect`: the checkpoints of any stream, images among them.
struct StoreInspectCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "inspect", abstract: "Show the checkpoints of a stream, as JSON.")

    @OptionGroup var store: StoreOptions
    @Argument(help: "The stream, for example group/web or image/base.") var stream: String

    func run() throws { print(try CommandContext.json(try store.openForReading().history(stream))) }
}

/// `aurora gc`, also `aurora store gc`.
struct GcCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "gc", abstract: "Free what no checkpoint needs any more; groups run on meanwhile.",
        discussion: "Groups of --rm whose process was killed go first: those that can be resumed a day after they were found dead.")

    @OptionGroup var store: StoreOptions

    func run() throws {
        ForsakenGroups.collect()
        let access = try store.open()
        defer { StoreCommand.endProgress() }
        let done = try access.inTurn { try $0.collect(progress: StoreCommand.progress("collecting")) }
        StoreCommand.endProgress()
        let bytes = Int(clamping: done.blocksFreed &* UInt64(StoreFormat.blockBytes))
        print("freed \(MemorySize.format(bytes)) (\(done.blocksFreed) blocks), \(done.blocksKept) blocks in use")
        guard !done.unreadable.isEmpty else { return }
        for stream in done.unreadable { Terminal.writeError("aurora: \(stream.name) cannot be read: \(stream.reason)\n") }
        let kept = Int(clamping: done.blocksHeldBack &* UInt64(StoreFormat.blockBytes))
        Terminal.writeError(
            "aurora: \(MemorySize.format(kept)) that it may need are kept until it can be read again (aurora store scrub tells more) or is "
                + "removed\n")
    }
}

/// `aurora store scrub`: reads everything.
struct StoreScrubCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "scrub", abstract: "Read all of the store and compare it with its checksums; name what is damaged.")

    @Flag(help: "Make damaged copies of the store's own tables anew from their twins.")
    var repair = false
    @OptionGroup var store: StoreOptions

    func run() throws {
        let access = try repair ? store.open() : store.openForReading()
        defer { StoreCommand.endProgress() }
        try StoreVerifyCommand.tell(try access.inTurn { try $0.scrub(repairs: repair, progress: StoreCommand.progress("scrubbing")) })
    }
}

/// `aurora store verify`: reads the structure, not the pages.
struct StoreVerifyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify", abstract: "Check the store's structure without reading the pages; scrub reads them, too.")

    @OptionGroup var store: StoreOptions

    func run() throws {
        let access = try store.openForReading()
        defer { StoreCommand.endProgress() }
        try StoreVerifyCommand.tell(try access.inTurn { try $0.verify(progress: StoreCommand.progress("verifying")) })
    }

    /// Writes what was found; damage makes the command fail.
    static func tell(_ report: ScrubReport) throws {
        StoreCommand.endProgress()
        for finding in report.findings { print("\(finding)".visibleLine) }
        if report.findingCount > report.findings.count { print("… and \(report.findingCount - report.findings.count) more") }
        print(
            "\(report.streams) streams, \(report.checkpoints) checkpoints, \(report.pages) pages; \(report.findingCount) findings, "
                + "\(report.repairedCount) repaired")
        if !report.isClean { throw ExitCode(ExitCodes.failure) }
    }
}
