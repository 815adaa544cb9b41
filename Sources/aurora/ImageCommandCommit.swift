import AgentClient
import ArgumentParser
import CLinux
import Groups
import Images
import Linux
import Store

/// `aurora image commit`.
struct ImageCommitCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "commit", abstract: "Make an image of a group's root disk as it is now.",
        discussion: """
            The group needs checkpoints in the store: start it with aurora persist, or aurora attach GROUP --backend store. A running \
            group writes out what its programs have written, and is checkpointed; of one that does not run the latest checkpoint is taken. \
            Memory and volumes are not part of the image: aurora clone keeps those.
            """)

    @OptionGroup var store: StoreOptions

    @OptionGroup var progress: ProgressOptions

    @Argument(help: "The group's name.") var group: String
    @Argument(help: ArgumentHelp("The image's name.", valueName: "name"), transform: { try ImageName($0) })
    var name: ImageName

    func run() throws {
        let groupName = try GroupName(group)
        let access = try store.open(for: groupName)
        let address = try checkpoint(groupName, access)
        let context = try access.context(address)
        let reader = try access.reader(address)
        guard let bytes = context.diskBytes.first, bytes > 0 else {
            throw GroupError(.badState, "The checkpoint of group \(group) has no root disk")
        }
        var source = ImageSource(
            kind: "commit", reference: "\(address.stream)@\(address.number)", digest: "\(context.configuration.image)@\(address.number)")
        source.created = Timestamp.now()
        var process = ProcessDefaults()
        process.command = context.configuration.command
        process.environment = context.configuration.environment
        process.directory = context.configuration.directory
        process.user = context.configuration.user
        if let isolation = context.configuration.isolation { process.labels[IsolationSetting.label] = isolation.rawValue }
        let image = try progress.during { progress in
            try ImageCommand.images.commit(
                name, bytes: bytes, source: source, process: process, progress: progress,
                fill: { try Self.copy(reader, bytes: bytes, to: $0) }, check: { try DiskCheckMachine.check($0, progress: progress) })
        }
        print(image.name)
    }

    /// The checkpoint to take: a new one of a group that runs, behind all that its programs have written.
    private func checkpoint(_ groupName: GroupName, _ access: StoreAccess) throws -> CheckpointAddress {
        let stream = GroupDirectory.streamName(groupName)
        guard let directory = try? CommandContext.store.find(groupName), try directory.isLive() else {
            return try access.resolve(stream, .latest)
        }
        let control = ControlClient(try CommandContext.runningGroup(group))
        guard try control.persistence().backends.contains(where: { $0.kind == .store }) else {
            throw GroupError(
                .badState, "Group \(group) has no checkpoints in the store", remedy: "Begin with: aurora attach \(group) --backend store")
        }
        try GroupAgent.connect(directory).sync()
        return try access.resolve(stream, .number(try control.checkpoint().number))
    }

    private static func copy(_ reader: CheckpointReader, bytes: Int, to file: borrowing OwnedDescriptor) throws {
        let number = file.rawValue
        let page = UnsafeMutableRawBufferPointer.allocate(byteCount: 4096, alignment: 4096)
        defer { page.deallocate() }
        for reference in try reader.pages(inMap: ImageImport.map) {
            let offset = Int64(clamping: reference.key.page) &* 4096
            guard offset >= 0, offset < Int64(bytes) else { continue }
            try reader.read(reference, into: page)
            let count = min(page.count, bytes - Int(offset))
            try systemCall("write", "the image") { clinux_pwrite(number, page.baseAddress, count, offset) }
        }
    }
}
