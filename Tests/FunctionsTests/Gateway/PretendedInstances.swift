import Foundation
import Functions
import Synchronization

/// An instance that only pretends: what it does is in the request's payload, or what the source tells all of its instances.
final class PretendedInstance: FunctionInstance {
    let identifier: String
    let privateBytes: Int? = 1 << 20
    let memoryPeakBytes: Int? = (37 << 20) - 5
    let startKind = StartKind.pooled
    private let source: PretendedSource
    private let hung = Mutex<CheckedContinuation<Void, Never>?>(nil)
    private let hasEnded = Atomic<Bool>(false)

    init(_ source: PretendedSource, _ identifier: String) {
        self.source = source
        self.identifier = identifier
    }

    var isUsable: Bool { !hasEnded.load(ordering: .relaxed) }

    func invoke(_ invocation: Invocation) async throws(InstanceError) -> InvocationResult {
        source.began(invocation)
        defer { source.finished() }
        // Words are at the beginning; to look for them in 6 MiB takes seconds in a debug build.
        let text = String(decoding: invocation.payload.prefix(4096), as: UTF8.self)
        if text.contains("crash") { throw .exited(status: 1, log: "Traceback: it crashed\n") }
        if text.contains("killed") { throw .exited(status: 137, log: "") }
        if text.contains("lost") { throw .lost("the machine has gone") }
        if text.contains("hook") { throw .restoreHook(#"{"errorMessage":"no","errorType":"ValueError"}"#) }
        if text.contains("large") { throw .responseTooLarge(limit: 6 << 20) }
        if text.contains("slow") { try? await Task.sleep(for: .milliseconds(200)) }
        if text.contains("gate") { await source.waitAtGate() }
        if text.contains("timeout") { throw .timedOut(milliseconds: 3000) }
        if text.contains("hang") { await withCheckedContinuation { continuation in hung.withLock { $0 = continuation } } }
        if text.contains("error") {
            let body = #"{"errorMessage":"wrong","errorType":"ValueError","stackTrace":[]}"#
            return InvocationResult(payload: Array(body.utf8), functionError: "Unhandled", log: Array("it went wrong\n".utf8))
        }
        return InvocationResult(payload: invocation.payload, log: Array("hello\n".utf8), duration: 1000)
    }

    func takeLog() -> [UInt8] { Array("printed without an answer\n".utf8) }

    func end() async {
        guard !hasEnded.exchange(true, ordering: .relaxed) else { return }
        hung.withLock { continuation in
            defer { continuation = nil }
            return continuation
        }?.resume()
        source.ended()
    }
}

/// Makes pretended instances, and counts.
final class PretendedSource: InstanceSource {
    struct Counts {
        /// Starts that were asked for.
        var asked = 0
        var started = 0
        var ended = 0
        var serving = 0
        var servingMax = 0
        var failuresLeft = 0
        var requests: [Invocation] = []
        var atGate: [CheckedContinuation<Void, Never>] = []
    }
    let counts = Mutex(Counts())
    /// What was to be kept, each time something was tidied: names and revisions.
    let kept = Mutex<[[String]]>([])
    let startDelay: Duration

    init(failures: Int = 0, startDelay: Duration = .zero) {
        self.startDelay = startDelay
        counts.withLock { $0.failuresLeft = failures }
    }

    var alive: Int { counts.withLock { $0.started - $0.ended } }
    var started: Int { counts.withLock { $0.started } }
    var requests: [Invocation] { counts.withLock { $0.requests } }

    func start(_ function: DeployedFunction) async throws(InstanceError) -> any FunctionInstance {
        if startDelay > .zero { try? await Task.sleep(for: startDelay) }
        let number = counts.withLock { counts -> Int? in
            counts.asked += 1
            if counts.failuresLeft > 0 {
                counts.failuresLeft -= 1
                return nil
            }
            counts.started += 1
            return counts.started
        }
        guard let number else { throw .restore("the state is damaged") }
        return PretendedInstance(self, "\(function.name)-\(number)")
    }

    func tidy(keeping functions: @escaping @Sendable () -> [DeployedFunction]) async throws(InstanceError) {
        let names = functions().map { "\($0.name) \($0.revision)" }
        kept.withLock { $0.append(names) }
    }

    /// Holds a request until the test lets it go on.
    func waitAtGate() async {
        await withCheckedContinuation { continuation in counts.withLock { $0.atGate.append(continuation) } }
    }

    func openGate() {
        let waiting = counts.withLock { counts in
            defer { counts.atGate = [] }
            return counts.atGate
        }
        for continuation in waiting { continuation.resume() }
    }

    func began(_ invocation: Invocation) {
        counts.withLock {
            $0.serving += 1
            $0.servingMax = max($0.servingMax, $0.serving)
            $0.requests.append(invocation)
        }
    }
    func finished() { counts.withLock { $0.serving -= 1 } }
    func ended() { counts.withLock { $0.ended += 1 } }
}

/// Builds nothing, and says it did; code that holds `broken` fails.
final class PretendedBuilder: FunctionBuilder {
    let removed = Mutex<[String]>([])
    let plans = Mutex<[FunctionPlan]>([])
    let delay: Duration
    /// Builds that wait for the test, which those are whose function has the variable `GATE`.
    private let atGate = Mutex<[CheckedContinuation<Void, Never>]>([])
    var atGateCount: Int { atGate.withLock { $0.count } }

    func openGate() {
        let waiting = atGate.withLock { waiting in
            defer { waiting = [] }
            return waiting
        }
        for continuation in waiting { continuation.resume() }
    }

    /// Whether code that is broken can be built all the same.
    let isMended = Atomic<Bool>(false)

    init(delay: Duration = .zero) { self.delay = delay }

    func build(
        _ plan: FunctionPlan, progress: @escaping @Sendable (BuildStep) -> Void
    ) async throws(FunctionBuildError) -> BuiltFunction {
        plans.withLock { $0.append(plan) }
        if delay > .zero { try? await Task.sleep(for: delay) }
        progress(.code)
        let text = plan.environment["GATE"]
        if text != nil { await withCheckedContinuation { continuation in atGate.withLock { $0.append(continuation) } } }
        let code = (try? Data(contentsOf: URL(filePath: plan.codePath))) ?? Data()
        if String(decoding: code, as: UTF8.self).contains("broken"), !isMended.load(ordering: .relaxed) {
            throw .initialization(message: "Unable to import module 'app'", log: Array("No module named 'app'\n".utf8))
        }
        var function = plan.function
        if function.image.isEmpty { function.image = plan.runtime }
        return BuiltFunction(
            function: function, stream: "function/\(function.name)", runtimeStream: "runtime/\(function.image)", storeBytes: 4096, log: [])
    }

    func remove(_ function: String) async throws(FunctionBuildError) { removed.withLock { $0.append(function) } }
}
