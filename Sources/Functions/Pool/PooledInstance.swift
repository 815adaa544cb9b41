import AgentClient
import AgentProtocol
internal import CLinux
internal import FoundationEssentials
import Linux
import Synchronization

/// An instance of a function in a machine of the pool.
///
/// `attach` and `restored` go with the first request, so that a restore costs no way to the guest and back of its own.
final class PooledInstance: FunctionInstance {
    private struct State {
        var reader = FunctionMessageReader()
        var collector = FunctionAnswerCollector()
        var registration: EventLoop.Registration?
        var waiter: Waiter?
        var unsent: ArraySlice<UInt8> = []
        var failure: InstanceError?
        /// What was printed for an answer that is none.
        var log: [UInt8] = []
        /// Set when the time of a request is over: only the last measurement is waited for.
        var isLate: InstanceError?
        var wasUsed = false
        var isPaused = false
        var requests: UInt64 = 0
    }
    private struct Waiter {
        let request: Text
        let resume: @Sendable (Result<InvocationResult, InstanceError>) -> Void
    }

    /// Bytes of events that a runtime may leave unread; the next one would only be put behind them.
    private static let unsentBytesMax = FunctionLimits.payloadBytesMax

    let identifier: String
    /// How its machine was had.
    let startKind: StartKind
    /// What the restore cost.
    let times: LaunchTimes?
    private let machine: PooledMachine
    private let configuration: PoolConfiguration
    private let loop: EventLoop
    /// Keeps its launch images.
    private let lease: LaunchLease?
    /// Called when the first request was answered.
    private let afterFirst: @Sendable () -> Void
    private let state = Mutex(State())

    init(
        _ function: DeployedFunction, _ machine: PooledMachine, _ kind: StartKind, _ times: LaunchTimes?,
        _ configuration: PoolConfiguration,
        loop: EventLoop, lease: LaunchLease? = nil, afterFirst: @escaping @Sendable () -> Void = {}
    ) throws(SystemError) {
        self.lease = lease
        identifier = "\(function.name)-\(machine.process)-\(machine.link.name)"
        startKind = kind
        self.times = times
        self.machine = machine
        self.configuration = configuration
        self.loop = loop
        self.afterFirst = afterFirst
        try Socket.setNonBlocking(machine.link.channel.rawValue)
        let registration = try loop.register(machine.link.channel.rawValue, .readable) { [weak self] found in self?.ready(found) }
        state.withLock { $0.registration = registration }
        machine.whenClosed { [weak self] in self?.fail(.lost("its machine ended")) }
    }

    deinit { finish() }

    var isUsable: Bool { state.withLock { $0.failure == nil } && machine.isAlive }

    /// Whether a request waits for its answer.
    var isServing: Bool { state.withLock { $0.waiter != nil } }

    var memoryPeakBytes: Int? { state.withLock { $0.collector.memoryPeakBytes } }

    var privateBytes: Int? { PrivateMemory.anonymousBytes("\(machine.process)") }

    func takeLog() -> [UInt8] {
        state.withLock { state in
            defer { state.log = [] }
            return state.log + state.collector.takeLog()
        }
    }

    // MARK: - Requests

    func invoke(_ invocation: Invocation) async throws(InstanceError) -> InvocationResult {
        let milliseconds = Int(clamping: max(0, invocation.deadline - clinux_wall_nanoseconds() / 1_000_000))
        let limit = Alarms.shared.set(milliseconds: milliseconds) { [weak self] in self?.timeIsOver(milliseconds) }
        defer { Alarms.shared.cancel(limit) }
        let result: Result<InvocationResult, InstanceError> = await withCheckedContinuation { continuation in
            begin(invocation) { continuation.resume(returning: $0) }
        }
        if case .success = result, state.withLock({ $0.requests }) == 1 { afterFirst() }
        pauseLater()
        return try result.get()
    }

    private func begin(_ invocation: Invocation, _ answer: @escaping @Sendable (Result<InvocationResult, InstanceError>) -> Void) {
        let request = FunctionInvoke(
            requestIdentifier: Text(invocation.requestIdentifier), deadlineMilliseconds: invocation.deadline,
            functionARN: Text(invocation.functionARN), traceIdentifier: Text(invocation.traceIdentifier ?? ""),
            clientContext: Text(invocation.clientContext ?? ""), tenantIdentifier: Text(invocation.tenant ?? ""),
            payloadBytes: UInt32(clamping: invocation.payload.count))
        var bytes: [UInt8] = []
        let (failure, wasPaused) = state.withLock { state -> (InstanceError?, Bool) in
            if let failure = state.failure { return (failure, false) }
            guard state.waiter == nil else { return (.lost("it serves another request"), false) }
            if !state.wasUsed {
                FunctionCommand.attach.append(to: &bytes)
                FunctionCommand.restored(FunctionRestored(hostname: Text(String(identifier.prefix(63))))).append(to: &bytes)
            }
            FunctionCommand.invoke(request, invocation.payload).append(to: &bytes)
            // A runtime may answer before it has read its event: what is left of that goes first.
            guard state.unsent.count <= PooledInstance.unsentBytesMax else { return (.lost("its runtime does not read its events"), false) }
            state.waiter = Waiter(request: request.requestIdentifier, resume: answer)
            state.wasUsed = true
            state.requests += 1
            state.unsent += bytes
            defer { state.isPaused = false }
            return (nil, state.isPaused)
        }
        if let failure { return answer(.failure(failure)) }
        if wasPaused { machine.send(InstanceRequest(.resume)) { _ in } }
        send()
    }

    /// Ends the instance, whose request took too long; first it is asked how much memory it needed, for a moment.
    private func timeIsOver(_ milliseconds: Int) {
        let error = InstanceError.timedOut(milliseconds: milliseconds)
        let asks = state.withLock { state in
            guard state.failure == nil, state.waiter != nil, state.unsent.isEmpty else { return false }
            state.isLate = error
            var bytes: [UInt8] = []
            FunctionCommand.measure.append(to: &bytes)
            state.unsent += bytes
            return true
        }
        guard asks else { return fail(error) }
        _ = Alarms.shared.set(milliseconds: configuration.measureMilliseconds) { [weak self] in self?.fail(error) }
        send()
    }

    /// Writes what waits, as far as the socket takes it.
    private func send() {
        let isBroken = state.withLock { state -> Bool in
            while !state.unsent.isEmpty {
                let count = state.unsent.withUnsafeBytes { clinux_send(machine.link.channel.rawValue, $0.baseAddress, $0.count) }
                if count == -Int(EAGAIN) { break }
                if count == -Int(EINTR) { continue }
                guard count > 0 else { return true }
                state.unsent = state.unsent.dropFirst(count)
            }
            guard let registration = state.registration else { return false }
            try? loop.change(registration, to: state.unsent.isEmpty ? .readable : [.readable, .writable])
            return false
        }
        if isBroken { fail(.lost("the connection to its guest broke")) }
    }

    private func pauseLater() {
        let request = state.withLock { $0.requests }
        _ = Alarms.shared.set(milliseconds: configuration.pauseMilliseconds) { [weak self] in self?.pause(after: request) }
    }

    private func pause(after request: UInt64) {
        let pauses = state.withLock { state in
            guard state.requests == request, state.waiter == nil, state.failure == nil, !state.isPaused else { return false }
            state.isPaused = true
            machine.send(InstanceRequest(.pause)) { _ in }
            return true
        }
        _ = pauses
    }

    // MARK: - What the guest says

    private func ready(_ found: EventLoop.Interest) {
        if found.contains(.writable) { send() }
        guard found.contains(.readable) || found.contains(.closed) else { return }
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        let count = clinux_recv(machine.link.channel.rawValue, &buffer, buffer.count)
        if count == -Int(EAGAIN) || count == -Int(EINTR) { return }
        guard count > 0 else { return fail(.lost("the connection to its guest was closed")) }
        take(buffer.prefix(count))
    }

    private func take(_ bytes: ArraySlice<UInt8>) {
        var outcomes: [FunctionOutcome] = []
        let failure = state.withLock { state -> InstanceError? in
            state.reader.append(bytes)
            do throws(ProtocolFault) {
                while let message = try state.reader.next() {
                    if let outcome = state.collector.add(message) { outcomes.append(outcome) }
                    if case .memory = message, let late = state.isLate { return late }
                    if case .exited(let status) = message {
                        let log = String(decoding: state.collector.takeLog(), as: UTF8.self)
                        return .exited(
                            status: Int32(truncatingIfNeeded: status.kind == .code ? status.value : 128 + status.value), log: log)
                    }
                    if case .failed(let failure) = message { return .lost("the agent refused: \(failure)") }
                }
            } catch { return .lost("its agent sent what cannot be read: \(error)") }
            return nil
        }
        for outcome in outcomes { answer(outcome) }
        if let failure { fail(failure) }
    }

    private func answer(_ outcome: FunctionOutcome) {
        switch outcome.answer.kind {
        case .restoreError:
            state.withLock { $0.log = outcome.log }
            return fail(.restoreHook(String(decoding: outcome.payload.prefix(4096), as: UTF8.self)))
        case .initializationError:
            state.withLock { $0.log = outcome.log }
            return fail(.lost("its runtime failed: \(String(decoding: outcome.payload.prefix(4096), as: UTF8.self))"))
        case .response, .error: break
        }
        let waiter = state.withLock { state -> Waiter? in
            // An answer to a request that was given up is late.
            guard let waiter = state.waiter, state.isLate == nil, waiter.request == outcome.answer.requestIdentifier else { return nil }
            state.waiter = nil
            if outcome.end.outcome != .complete { state.log = outcome.log }
            return waiter
        }
        switch outcome.end.outcome {
        case .complete:
            waiter?.resume(
                .success(
                    InvocationResult(
                        payload: outcome.payload, functionError: outcome.answer.kind == .error ? "Unhandled" : nil, log: outcome.log,
                        duration: Int64(clamping: outcome.end.durationNanoseconds))))
        case .tooLarge: waiter?.resume(.failure(.responseTooLarge(limit: FunctionLimits.payloadBytesMax)))
        case .broken: waiter?.resume(.failure(.lost("its runtime broke off the answer")))
        }
    }

    // MARK: - End

    /// Notes that the instance is of no use any more; whoever waits is told.
    private func fail(_ error: InstanceError) {
        let waiter = state.withLock { state -> Waiter? in
            state.failure = state.failure ?? state.isLate ?? error
            defer { state.waiter = nil }
            return state.waiter
        }
        finish()
        waiter?.resume(.failure(state.withLock { $0.isLate } ?? error))
    }

    private func finish() {
        let registration = state.withLock { state in
            defer { state.registration = nil }
            return state.registration
        }
        if let registration { loop.unregister(registration) }
        machine.close()
    }

    func end() async {
        fail(.lost("it was ended"))
        await machine.end()
    }
}
