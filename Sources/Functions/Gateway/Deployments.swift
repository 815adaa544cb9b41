internal import CLinux
internal import Logging
internal import Synchronization

/// Builds functions that were created or changed, a few at a time (`BuildLine`).
final class Deployments: Sendable {
    private let catalogue: Catalogue
    private let builder: any FunctionBuilder
    private let source: any InstanceSource
    private let queue: BuildQueue
    /// How far builds are, by function.
    private let steps = Mutex<[String: BuildStep]>([:])
    /// Removals are quick, and wait for no build.
    private let removals = AsyncSlots(1)
    private let retries = Mutex<[String: Task<[UInt8]?, Never>]>([:])
    private let files: FileWork
    private let logger: Logger
    /// Told of a function that serves from now on, or was built in vain.
    private let built: @Sendable (FunctionRecord, _ log: [UInt8]) -> Void
    /// Functions whose launch images are made before the catalogue has them, by revision.
    private let preparing = Mutex<[String: DeployedFunction]>([:])
    private let tidying = Mutex<(isRunning: Bool, isWanted: Bool)>((false, false))

    init(
        catalogue: Catalogue, builder: any FunctionBuilder, source: any InstanceSource, limits: BuildLimits, files: FileWork,
        logger: Logger,
        built: @escaping @Sendable (FunctionRecord, [UInt8]) -> Void
    ) {
        self.catalogue = catalogue
        self.builder = builder
        self.source = source
        self.files = files
        self.logger = logger
        self.built = built
        queue = BuildQueue(limits)
    }

    /// Builds that wait and that run.
    var counts: (waiting: Int, running: Int) { queue.counts }

    /// How far a function's build is; nil: it waits, or there is none.
    func step(_ name: String) -> BuildStep? { steps.withLock { $0[name] } }

    /// A place for a change that is going to be made.
    ///
    /// - Throws: `LambdaError.throttled` when too many wait.
    func reserve() throws(LambdaError) -> BuildQueue.Place {
        guard let place = queue.reserve() else { throw .tooManyBuilds(queue.counts.waiting) }
        return place
    }

    /// Builds what an earlier gateway left unfinished, and removes what it left lying about.
    func resume() {
        for record in catalogue.all where record.updateStatus == .inProgress { begin(record, nil) }
        tidy()
    }

    /// Builds a function in the background, in the place that was promised to it.
    func begin(_ record: FunctionRecord, _ place: BuildQueue.Place?) { Task { await build(record, place) } }

    /// Builds a function once more whose initialization failed, for a request that asks for it; requests at the same time share one build.
    ///
    /// - Returns: what became of it, and what it printed.
    /// - Throws: `LambdaError.throttled` when too many builds wait.
    func retry(_ record: FunctionRecord) async throws(LambdaError) -> (FunctionRecord?, log: [UInt8]) {
        let task = retries.withLock { retries in
            if let task = retries[record.name] { return task }
            let task = Task { () -> [UInt8]? in
                guard let place = queue.reserve() else { return nil }
                return await build(record, place, isRetry: true)
            }
            retries[record.name] = task
            return task
        }
        let log = await task.value
        retries.withLock { retries in if retries[record.name] == task { retries[record.name] = nil } }
        guard let log else { throw .tooManyBuilds(queue.counts.waiting) }
        return (catalogue[record.name], log)
    }

    /// Removes a function's snapshot in the background, while others are built.
    func remove(_ name: String) {
        Task {
            await removals.take()
            defer { removals.give() }
            // The name may be in use again.
            guard catalogue[name] == nil else { return }
            do throws(FunctionBuildError) {
                try await builder.remove(name)
            } catch {
                logger.error("snapshot not removed", metadata: ["function": "\(name)", "reason": "\(error)"])
            }
            tidy()
        }
    }

    @discardableResult
    private func build(_ record: FunctionRecord, _ place: BuildQueue.Place?, isRetry: Bool = false) async -> [UInt8] {
        await queue.run(place, isRetry: isRetry) {
            // Another change, or the removal, came while it waited.
            guard catalogue[record.name]?.revision == record.revision else { return [] }
            return await build(record)
        }
    }

    private func build(_ record: FunctionRecord) async -> [UInt8] {
        let result = await make(record)
        var log: [UInt8] = []
        if case .success(let built) = result {
            log = built.log
            preparing.withLock { $0[record.revision] = built.function }
            await prepare(built.function)
        }
        if case .failure(.initialization(_, let text)) = result { log = text }
        do throws(CatalogueError) {
            let noted = try await files.run { () throws(CatalogueError) in
                try self.catalogue.note(record.name, revision: record.revision) { Deployments.apply(result, to: &$0) }
            }
            if let noted { built(noted, log) } else { remove(record.name) }
        } catch {
            logger.error("build not noted", metadata: ["function": "\(record.name)", "reason": "\(error)"])
        }
        preparing.withLock { _ = $0.removeValue(forKey: record.revision) }
        // What archives of 50 MiB took of the heap is not given back by itself.
        _ = clinux_heap_trim()
        tidy()
        return log
    }

    private func make(_ record: FunctionRecord) async -> Result<BuiltFunction, FunctionBuildError> {
        defer { steps.withLock { $0[record.name] = nil } }
        do throws(FunctionBuildError) {
            let plan = Deployments.plan(record, codePath: catalogue.codePath(record))
            return .success(try await builder.build(plan) { [self] step in steps.withLock { $0[record.name] = step } })
        } catch { return .failure(error) }
    }

    /// Has what was made for functions that changed or went removed, in the background; one at a time.
    private func tidy() {
        let begins = tidying.withLock { state in
            defer { state = (true, state.isRunning) }
            return !state.isRunning
        }
        guard begins else { return }
        Task {
            repeat {
                do throws(InstanceError) {
                    // First those that are prepared: they go from there to the catalogue.
                    try await source.tidy { [self] in
                        preparing.withLock { Array($0.values) } + catalogue.all.compactMap(\.deployed)
                    }
                } catch {
                    logger.warning("launch images not tidied", metadata: ["reason": "\(error)"])
                }
            } while tidying.withLock { state in
                state = (state.isWanted, false)
                return state.isRunning
            }
        }
    }

    /// Makes launch images and machines before the function is said to be active: its first request would wait for them.
    private func prepare(_ function: DeployedFunction) async {
        do throws(InstanceError) {
            try await source.prepare(function)
        } catch {
            logger.warning("function not prepared", metadata: ["function": "\(function.name)", "reason": "\(error)"])
        }
    }

    /// What a builder is told of a function.
    static func plan(_ record: FunctionRecord, codePath: String) -> FunctionPlan {
        let settings = record.settings
        var function = DeployedFunction(
            name: record.name, image: settings.image, memoryBytes: settings.memoryMiB << 20, timeoutSeconds: settings.timeoutSeconds,
            revision: record.revision)
        function.scratchMiB = settings.scratchMiB ?? FunctionSettings.scratchMiBDefault
        function.isStrict = settings.isStrict
        let isPython = settings.runtime.hasPrefix("python3")
        var plan = FunctionPlan(
            function: function, runtime: isPython ? "python3" : "provided", handler: settings.handler, codePath: codePath,
            environment: settings.environment, isSnapStart: settings.isSnapStart)
        plan.user = settings.user
        let logging = settings.logging ?? LoggingSettings()
        plan.reserved = logging.environment
        plan.reserved?["AWS_LAMBDA_LOG_GROUP_NAME"] = logging.group ?? "/aws/lambda/\(record.name)"
        // Runtimes of programs that bring everything have none in Lambda either.
        if isPython {
            plan.reserved?["AWS_EXECUTION_ENV"] = "AWS_Lambda_\(settings.runtime == "python3" ? "python3.11" : settings.runtime)"
        }
        return plan
    }

    /// Writes what became of a build into the function's record.
    static func apply(_ result: Result<BuiltFunction, FunctionBuildError>, to record: inout FunctionRecord) {
        switch result {
        case .success(let built):
            record.deployed = built.function
            record.storeBytes = built.storeBytes
            record.state = .active
            record.updateStatus = .successful
            record.reason = nil
            (record.before, record.hasFailedInit) = (nil, nil)
        case .failure(let error):
            record.updateStatus = .failed
            if record.deployed == nil { record.state = .failed }
            record.reason = String(error.description.prefix(2000))
            if case .initialization = error { record.hasFailedInit = record.deployed == nil }
            guard let before = record.before else { return }
            // What is shown is what serves; what needs no build is as it is now.
            let now = record.settings
            record.settings = before.settings
            (record.settings.concurrencyMax, record.settings.tags) = (now.concurrencyMax, now.tags)
            (record.codeDigest, record.codeFile, record.codeBytes) = (before.codeDigest, before.codeFile, before.codeBytes)
            record.before = nil
        }
    }
}

/// Lets a bounded number of tasks through.
final class AsyncSlots: Sendable {
    private struct State {
        var free: Int
        var waiters: [CheckedContinuation<Void, Never>] = []
    }
    private let state: Mutex<State>

    init(_ count: Int) { state = Mutex(State(free: max(1, count))) }

    func take() async {
        await withCheckedContinuation { continuation in
            let isFree = state.withLock { state in
                if state.free > 0 {
                    state.free -= 1
                    return true
                }
                state.waiters.append(continuation)
                return false
            }
            if isFree { continuation.resume() }
        }
    }

    func give() {
        let next = state.withLock { state -> CheckedContinuation<Void, Never>? in
            if state.waiters.isEmpty {
                state.free += 1
                return nil
            }
            return state.waiters.removeFirst()
        }
        next?.resume()
    }
}
