import AgentProtocol
import AuroraVMM
import FoundationEssentials
import Groups
import Images
import Linux

/// From a configuration to a running group: what `run`, `persist`, `restore` and `clone` share.
enum GroupStarter {
    /// Makes a group and runs its program, in the foreground unless detached.
    ///
    /// - Parameter onceDetached: called before the name is printed.
    static func start(
        _ wanted: GroupConfiguration, _ options: GroupOptions, onceDetached: (GroupDirectory) throws -> Void = { _ in }
    ) throws {
        if options.pull == .missing { try makeMissing(wanted) }
        try checkFiles(wanted)
        _ = try KVMSystem()
        if wanted.persistence?.backends.contains(.store) ?? false { try prepareStore(wanted, isNamed: options.name != nil) }
        ForsakenGroups.collect()
        let groups = CommandContext.store
        let created = options.name == nil ? try groups.createWithGeneratedName(wanted) : try groups.create(wanted)
        let directory = created.directory
        let size = wanted.terminal ? TerminalMode.size(of: 0) : nil
        let socket = try VMMLauncher.start(directory, lock: created.takeLock(), terminalSize: size)
        let outcome = try StdioClient(
            socket,
            StdioClient.Options(
                forwardsInput: options.process.forwardsInput && !options.detach, terminal: options.process.terminal,
                detachesOnceStarted: options.detach), onStarted: { tellWarnings(directory) }
        ).run()
        if options.detach, case .detached = outcome {
            try onceDetached(directory)
            return print(directory.name)
        }
        if case .failed = outcome { _ = forgetIfNothingRan(directory) }
        var lost = "The VMM process of group \(directory.name) was killed, or failed"
        if case .lost = outcome {
            let isGone = wanted.removeWhenEnded && removeDead(directory, wanted)
            lost += isGone ? "; the group was removed" : "; see \(directory.engineLogPath), and aurora ps -a"
        }
        try outcome.finish(lost: lost)
    }

    /// Makes the store at first use and copies the image into it, so that the group's first checkpoint need not wait for that.
    static func prepareStore(_ wanted: GroupConfiguration, isNamed: Bool) throws {
        let access = try StoreAccess.openOrCreate(CommandContext.data.storePath(of: wanted))
        if isNamed, try access.hasStream(GroupDirectory.streamName(wanted.name)) {
            throw GroupError(
                .nameTaken, "The store has a history of a group \(wanted.name)",
                remedy: "Resume it with: aurora restore \(wanted.name). Remove it with: aurora rm --force \(wanted.name)")
        }
        let image = try ImageCommand.images.open(try ImageName(wanted.image))
        _ = try ImageImport(access: access, image: image) { done, total in
            Terminal.showProgress("aurora: copying image \(image.name) into the store: \(done * 100 / max(1, total))%")
        }.ensure()
        Terminal.endProgress()
    }

    /// Makes the kernel and the image `base` at their first use, as container engines fetch what they have not.
    private static func makeMissing(_ wanted: GroupConfiguration) throws {
        do throws(ImageError) { _ = try ImageCommand.kernels.current() } catch {
            guard case .noKernel = error else { throw error }
            // Making it takes minutes: what no kernel helps against is told first.
            _ = try KVMSystem()
            Terminal.writeError("aurora: there is no kernel yet: making it (once)\n")
            _ = try ProgressReport.during(isQuiet: false) { try ImageCommand.kernels.ensure(progress: $0) }
        }
        guard wanted.image == ImageName.base.description else { return }
        do throws(ImageError) { _ = try ImageCommand.images.open(.base) } catch {
            guard case .notFound = error else { throw error }
            _ = try KVMSystem()
            Terminal.writeError("aurora: there is no image \(wanted.image) yet: making it (once, a minute or two)\n")
            _ = try ProgressReport.during(isQuiet: false) { try ImageCommand.images.ensureBase(progress: $0) }
        }
    }

    /// Finds out what is missing before anything is made.
    private static func checkFiles(_ wanted: GroupConfiguration) throws {
        try GroupCgroup(OwnProcess.environment)?.check()
        _ = try ImageCommand.images.open(try ImageName(wanted.image))
        _ = try ImageCommand.kernels.current()
        for volume in wanted.volumes where !FileManager.default.isReadableFile(atPath: volume.file) {
            throw GroupError(
                .host, "Cannot open volume \(volume.file): it does not exist or is not readable",
                remedy: "Make one with: truncate -s 1G FILE && mkfs.ext4 FILE")
        }
    }

    /// A group that was to go with its program goes although its process died, and could not see to it; what that left says why.
    ///
    /// One that has checkpoints stays: its program has not ended, and can go on.
    /// - Returns: whether it is gone.
    private static func removeDead(_ directory: GroupDirectory, _ wanted: GroupConfiguration) -> Bool {
        // A process that was killed is torn down yet.
        guard (try? GroupEnding.wait(directory, seconds: GroupEnding.graceSeconds)) != nil else { return false }
        let store = try? StoreAccess.openIfPresent(CommandContext.data.storePath(of: wanted))
        guard (try? store?.hasStream(GroupDirectory.streamName(directory.name))) != true else { return false }
        let said = (try? DurableFile.read(directory.engineLogPath, bytesMax: engineLogBytesMax)).flatMap { $0 } ?? []
        for line in String(decoding: said, as: UTF8.self).split(whereSeparator: \.isNewline).suffix(3) {
            Terminal.writeError("engine: \(line)\n")
        }
        return (try? CommandContext.store.remove(directory.name)) != nil
    }

    /// What is longer is not of a group that has just begun.
    private static let engineLogBytesMax = 1 << 20

    static func tellWarnings(_ directory: GroupDirectory) {
        for warning in (try? directory.status())?.warnings ?? [] { Terminal.writeError("warning: \(warning.message)\n") }
    }

    /// A group whose machine never started holds nothing to look at, and its name should be free for the next try.
    ///
    /// - Returns: whether it was one, and is gone.
    static func forgetIfNothingRan(_ directory: GroupDirectory) -> Bool {
        guard let status = try? directory.status(), status.state == .failed, status.mode == nil else { return false }
        return (try? CommandContext.store.remove(directory.name)) != nil
    }
}
