import AgentClient
import AgentProtocol
import CLinux
import FoundationEssentials
import Functions
import Groups
import Images
import Linux
import Store

/// Makes a function's snapshot: a clone of its runtime with the code unpacked and the runtime's process at rest before its first request.
struct BuildFunction {
    private static let memoryBytesMin = 64 << 20
    /// Revisions whose snapshots stay when a new one is made: instances of the last may still be started.
    private static let revisionsKept = 1

    let data: DataDirectory
    let plan: FunctionPlan
    let progress: @Sendable (BuildStep) -> Void

    /// Makes the snapshot.
    ///
    /// - Throws: `FunctionBuildError`, and what failed below it.
    func run() throws -> BuiltFunction {
        try check()
        let code = try BuildCode(plan.codePath)
        let runtime = try LambdaRuntime(plan.runtime)
        var function = plan.function
        if function.image.isEmpty { function.image = runtime.image }
        let runtimes = BuildRuntime(data: data, progress: progress)
        let image = try runtimes.image(runtime, named: function.image)
        if function.isStrict == nil, let defaults = image.manifest.process {
            function.isStrict = try IsolationSetting(ofImage: function.image, defaults).map { $0 == .strict }
        }
        let origin = try runtimes.snapshot(runtime, function, image)
        let access = try StoreAccess.openOnce(data.storePath)
        // A build of this revision that was broken off has left nothing that is of use.
        try access.removeStream(function.streamName)
        let result = Result { try make(code, runtime, function, origin) }
        guard case .success(let (bytes, log)) = result else {
            try? access.removeStream(function.streamName)
            _ = try result.get()
            throw FunctionBuildError.machine("nothing was made")
        }
        try BuildFunction.removeRevisions(of: function.name, but: function.streamName, keeping: BuildFunction.revisionsKept, access)
        return BuiltFunction(
            function: function, stream: function.streamName, runtimeStream: function.runtimeStreamName, storeBytes: bytes, log: log)
    }

    private func check() throws(FunctionBuildError) {
        let function = plan.function
        guard !function.name.isEmpty, function.name.utf8.count <= 64, function.name.utf8.allSatisfy({ BuildFunction.isPlain($0) }) else {
            throw .invalidPlan("\"\(function.name.prefix(80))\" is no name: up to 64 letters, digits, - and _")
        }
        guard !function.revision.isEmpty, function.revision.utf8.count <= 64,
            function.revision.utf8.allSatisfy({ BuildFunction.isPlain($0) })
        else { throw .invalidPlan("\"\(function.revision.prefix(80))\" is no revision: up to 64 letters, digits, - and _") }
        guard function.memoryBytes >= BuildFunction.memoryBytesMin else {
            throw .invalidPlan("\(function.memoryBytes) bytes of memory: at least 64 MiB")
        }
        for (name, value) in plan.environment {
            guard !name.isEmpty, !name.contains("="), !name.utf8.contains(0), !value.utf8.contains(0) else {
                throw .invalidPlan("the variable \"\(name.prefix(80))\" cannot be set")
            }
        }
    }

    private static func isPlain(_ byte: UInt8) -> Bool {
        (48...57).contains(byte) || (65...90).contains(byte) || (97...122).contains(byte) || byte == 45 || byte == 95
    }

    private func make(
        _ code: BuildCode, _ runtime: LambdaRuntime, _ function: DeployedFunction, _ origin: CheckpointAddress
    ) throws -> (Int, [UInt8]) {
        progress(.code)
        let wanted = try BuildRuntime.configuration(
            function, ["function", function.name, function.revision])
        let machine = try BuildMachine.clone(origin, as: wanted, stream: function.streamName, data)
        defer { machine.stop() }
        try code.unpack(in: machine)
        try BuildFunction.settle(function, machine)
        progress(.initialization)
        let channel = try machine.function()
        let log = try initialize(channel, runtime)
        let last = try machine.agent()
        try last.sync()
        last.close()
        channel.close()
        progress(.snapshot)
        return (try machine.checkpoint(), log)
    }

    /// Makes the code read-only, as Lambda has it, and leaves a function so much room on its disk as it was promised: the rest is taken by
    /// a file, so that it is told when that is full.
    ///
    /// An image without these programs has the whole disk; what instances write is bounded on the host as well.
    private static func settle(_ function: DeployedFunction, _ machine: BuildMachine) throws {
        let room = (function.scratchMiB ?? FunctionSettings.scratchMiBDefault) << 20
        let line =
            "had=$(stat -c %s $0 2>/dev/null || echo 0) && free=$(df -B1 --output=avail / | tail -n 1) && "
            + "rest=$((had + free - \(room))) && [ $rest -gt 0 ] && fallocate -l $rest $0"
        let request = StartRequest(arguments: ["sh", "-c", Text(line), "/var/runtime/reserved"])
        _ = try ExecRelay.collect(try machine.agent().start(request))
        let agent = try machine.agent()
        defer { agent.close() }
        try agent.mount(MountRequest(device: "/var/task", path: "/var/task", fileSystem: "", readOnly: true))
    }

    private func initialize(_ channel: FunctionChannel, _ runtime: LambdaRuntime) throws -> [UInt8] {
        let start = FunctionStart(
            arguments: runtime.command(handler: plan.handler).map { Text($0) }, environment: runtime.environment(plan).map { Text($0) },
            directory: "/var/task", user: Text(LambdaRuntime.user(plan)))
        do throws(FunctionError) {
            _ = try channel.attach()
            try channel.start(start)
            return try channel.waitUntilReady(timeout: .seconds(plan.initializationSeconds)).log
        } catch {
            switch error {
            case .runtime(let outcome):
                throw FunctionBuildError.initialization(
                    message: String(decoding: outcome.payload.prefix(8_192), as: UTF8.self), log: outcome.log)
            case .exited(_, let log): throw FunctionBuildError.initialization(message: error.description, log: log)
            case .timedOut(let log):
                throw FunctionBuildError.initialization(
                    message: "It did not ask for a request within \(plan.initializationSeconds) seconds.", log: log)
            case .agent(.refused(let failure)):
                throw FunctionBuildError.initialization(message: AgentError.refused(failure).description, log: [])
            case .agent(let failure): throw FunctionBuildError.machine(failure.description)
            }
        }
    }

    /// Removes the snapshots of a function's revisions, but the newest ones and one that is named.
    static func removeRevisions(of name: String, but kept: String?, keeping count: Int, _ access: StoreAccess) throws {
        let prefix = DeployedFunction.streamPrefix(name)
        let streams = try access.store.streams().filter { $0.name.hasPrefix(prefix) && $0.name != kept }
        for stream in streams.sorted(by: { ($0.latest?.time ?? 0) > ($1.latest?.time ?? 0) }).dropFirst(count) {
            try access.removeStream(stream.name)
        }
    }
}
