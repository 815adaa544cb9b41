import AgentClient
import AgentProtocol
import AuroraVMM
import CLinux
import FoundationEssentials
import Functions
import Groups
import Images
import Linux
import Store

/// The snapshots of booted runtimes in the store: made at first use, once for each image build and memory size.
struct BuildRuntime {
    private static let lockRetryMicroseconds: UInt32 = 50_000
    /// A step of another process that made an image and booted it.
    private static let lockSecondsMax: Int64 = 1_800

    /// What a guest is given before its runtime is started; what its processes load is the input.
    ///
    /// Each restored instance writes its own name to `/etc/hosts` before it serves its first request: in memory, because a
    /// write to the root disk takes milliseconds. An image without `mount` goes without that.
    ///
    /// The user that functions run as is there in every image. Scripts for Amazon Linux begin with `/bin/sh` and mean bash, which is
    /// what that is there.
    private static func layout(_ runtime: LambdaRuntime) -> String {
        let (user, group) = LambdaRuntime.userNumbers
        let name = FunctionPlan.userDefault
        return "mkdir -p /var/task /var/runtime && cat >\(runtime.preload.path) && chmod 755 /var/task /var/runtime && "
            + "chmod 644 \(runtime.preload.path) && "
            + "{ grep -qs '^\(name):' /etc/group || echo '\(name):x:\(group):' >>/etc/group; } && "
            + "{ grep -qs '^\(name):' /etc/passwd || echo '\(name):x:\(user):\(group)::/tmp:/bin/sh' >>/etc/passwd; } && "
            + "{ cp /etc/hosts /run/hosts && mount --bind /run/hosts /etc/hosts || :; } && mkdir -p /var/tmp && chmod 1777 /var/tmp"
            + (runtime.warmStart.isEmpty ? " && { [ \"$(readlink /bin/sh)\" != dash ] || ! [ -x /bin/bash ] || ln -sf bash /bin/sh; }" : "")
    }

    let data: DataDirectory
    let progress: @Sendable (BuildStep) -> Void

    /// Passes on what a recipe does.
    private func recipe(_ event: BuildEvent) {
        switch event {
        case .step(let step): progress(.recipe(step))
        case .written(let bytes): progress(.written(bytes))
        }
    }

    /// The image of a runtime, made if there is none of its name.
    ///
    /// - Throws: `FunctionBuildError.runtime`.
    func image(_ runtime: LambdaRuntime, named name: String) throws -> Image {
        let wanted = try ImageName(name)
        do { try ensureKernel() } catch let error as ImageError { throw FunctionBuildError.runtime(error.description) }
        if let image = try? ImageCommand.images.open(wanted) { return image }
        progress(.image(name))
        do {
            if wanted == .base { return try ImageCommand.images.ensureBase { recipe($0) } }
            guard name == runtime.image else {
                throw FunctionBuildError.invalidPlan("there is no image \(name): make it with aurora image build or aurora image import")
            }
            return try ImageCommand.images.build(wanted, packages: try runtime.packages(), pip: try runtime.wheels()) { recipe($0) }
        } catch let error as ImageError { throw FunctionBuildError.runtime(error.description) }
    }

    /// Makes the kernel at first use, as `aurora run` does.
    private func ensureKernel() throws {
        do throws(ImageError) { _ = try ImageCommand.kernels.current() } catch {
            guard case .noKernel = error else { throw error }
            progress(.image("of the kernel"))
            _ = try ImageCommand.kernels.ensure { recipe($0) }
        }
    }

    /// The checkpoint of the booted image.
    func snapshot(_ runtime: LambdaRuntime, _ function: DeployedFunction, _ image: Image) throws -> CheckpointAddress {
        let stream = function.runtimeStreamName
        let identity =
            [
                "runtime", image.manifest.rootSHA256, try ImageCommand.kernels.current().manifest.version, GuestPrograms.digest,
                "\(functionProtocolVersion)", "\(function.machineBytes)", BuildRuntime.layout(runtime), runtime.preload.text,
            ] + (function.isStrict == true ? [IsolationSetting.strict.rawValue] : [])
        if let found = current(stream, identity) { return found }
        let lock = try lock(stream)
        defer { withExtendedLifetime(lock) {} }
        if let found = current(stream, identity) { return found }
        progress(.runtime(stream))
        try boot(runtime, function, image, identity)
        guard let made = current(stream, identity) else { throw FunctionBuildError.runtime("its snapshot is not what was made") }
        return made
    }

    private func current(_ stream: String, _ identity: [String]) -> CheckpointAddress? {
        guard let access = try? StoreAccess.openOrCreate(data.storePath), let address = try? access.resolve(stream, .latest),
            let context = try? access.context(address), context.configuration.command == identity
        else { return nil }
        return address
    }

    private func boot(_ runtime: LambdaRuntime, _ function: DeployedFunction, _ image: Image, _ identity: [String]) throws {
        let access = try StoreAccess.openOrCreate(data.storePath)
        _ = try ImageImport(access: access, image: image, progress: { _, _ in }).ensure()
        let wanted = try BuildRuntime.configuration(function, identity)
        let machine = try BuildMachine.boot(wanted, stream: function.runtimeStreamName, data)
        defer { machine.stop() }
        let agent = try machine.agent()
        if let first = agent.welcome.bootFailures.first { throw FunctionBuildError.runtime("the guest started with a failure: \(first)") }
        try agent.configure(ConfigureRequest(hostname: "function", wallClockNanoseconds: UInt64(max(0, clinux_wall_nanoseconds()))))
        agent.close()
        try BuildRuntime.run(BuildRuntime.layout(runtime), Array(runtime.preload.text.utf8), machine)
        let mounting = try machine.agent()
        // What is written to `/tmp` is on the disk, not in the function's own memory.
        try mounting.mount(MountRequest(device: "/var/tmp", path: "/tmp", fileSystem: ""))
        mounting.close()
        if !runtime.warmStart.isEmpty { try warm(runtime, function, machine) }
        let last = try machine.agent()
        try last.sync()
        last.close()
        _ = try machine.checkpoint()
    }

    /// Starts the runtime's process as far as it is the same for all its functions.
    ///
    /// They share its pages, and a new one is ready sooner.
    private func warm(_ runtime: LambdaRuntime, _ function: DeployedFunction, _ machine: BuildMachine) throws {
        let channel = try machine.function()
        defer { channel.close() }
        let start = FunctionStart(
            arguments: runtime.warmCommand.map { Text($0) }, environment: LambdaRuntime.commonEnvironment.map { Text("\($0)=\($1)") },
            directory: "/var/task")
        do throws(FunctionError) {
            _ = try channel.attach()
            try channel.start(start)
            _ = try channel.waitUntilReady(timeout: .seconds(60))
        } catch {
            var said = "\(error)"
            if case .exited(_, let log) = error { said += " \(String(decoding: log.suffix(1_000), as: UTF8.self))" }
            throw FunctionBuildError.runtime("the image \(function.image) cannot serve \(runtime.name): \(said)")
        }
    }

    /// Runs a line of shell in the guest.
    private static func run(_ line: String, _ input: [UInt8], _ machine: BuildMachine) throws {
        let session = try machine.agent().start(StartRequest(arguments: ["sh", "-c", Text(line)], wantsInput: true))
        let (status, _, error) = try ExecRelay.collect(session, input: input)
        guard status == ExitStatus(.code, 0) else {
            throw FunctionBuildError.runtime("\(line) failed: \(String(decoding: error.suffix(1_000), as: UTF8.self))")
        }
    }

    private func lock(_ stream: String) throws -> BuildHold {
        let folder = "\(data.path)/functions"
        try DataDirectory.create(folder)
        let path = "\(folder)/.lock-\(stream.split(separator: "/").joined(separator: "-"))"
        let deadline = clinux_monotonic_milliseconds() + BuildRuntime.lockSecondsMax * 1_000
        while true {
            if let lock = try GroupLock.take(path) { return BuildHold(lock) }
            guard clinux_monotonic_milliseconds() < deadline else {
                throw FunctionBuildError.runtime("another process has been making it for \(BuildRuntime.lockSecondsMax) seconds")
            }
            usleep(BuildRuntime.lockRetryMicroseconds)
        }
    }

    /// What is written about a runtime's or a function's machine into its checkpoints.
    static func configuration(_ function: DeployedFunction, _ command: [String]) throws -> GroupConfiguration {
        var wanted = GroupConfiguration(
            name: try GroupName("function"), image: function.image, memoryBytes: function.machineBytes, command: command)
        wanted.isolation = function.isStrict == true ? .strict : nil
        var persistence = PersistenceSettings()
        persistence.period = .manual
        persistence.history = .latest(2)
        wanted.persistence = persistence
        return wanted
    }
}

/// Holds a lock as long as it lives.
final class BuildHold {
    private let lock: GroupLock
    init(_ lock: consuming GroupLock) { self.lock = lock }
}
