@testable import AuroraVMM
@testable import Snapshot

/// The life of one group: a guest, people who ask for checkpoints and change backends, and a model of what must be true.
///
/// Everything happens on one thread, in an order that a seed decides. What is found wrong is a complaint.
///
/// `@unchecked Sendable`: one thread.
final class Simulation: @unchecked Sendable {
    /// What the guest was like in a stop.
    private struct Stop {
        var kept: SimulatedBackend.Kept
        var time: Int64
    }

    /// Somebody who asked for a checkpoint.
    private struct Asked {
        var name: String?
        var backend: String?
        var time: Int64
        var identifier: UInt64?
        var isWithdrawn = false
        var answers = 0
    }

    let seed: UInt64
    let scheduler: SimulatedScheduler
    private let machine: SimulatedMachine
    private let volume = SimulatedVolume()
    private var pipeline: EpochPipeline?
    private let policy: BackendFailurePolicy
    /// Whether the guest writes more than the buffers hold now and then.
    private let isHeavy: Bool
    /// Of a hundred calls of a backend, so many take long.
    private let stalls: Int
    /// Whether what can go wrong goes wrong.
    private let hasFaults: Bool
    /// Whether nobody calls, stalls or fails any more.
    private var isQuiet = false
    private var depth = 0

    private var stops: [EpochNumber: Stop] = [:]
    private var attached: [String: SimulatedBackend] = [:]
    private var asked: [Asked] = []
    private var names = 0
    private var stamp: UInt64 = 0
    private(set) var complaints: [String] = []
    private(set) var figures = Figures()

    /// How much has happened: a simulation in which nothing does finds nothing.
    struct Figures {
        var durable = 0
        var successes = 0
        var refusals = 0
        var failures = 0
        var losses = 0
        var vainStops = 0
        var parts = 0

        mutating func add(_ other: Figures) {
            durable += other.durable
            successes += other.successes
            refusals += other.refusals
            failures += other.failures
            losses += other.losses
            vainStops += other.vainStops
            parts += other.parts
        }
    }

    private static let backendNames = ["store", "memory", "remote"]
    private static let turns = 260
    private static let depthMax = 3

    init(seed: UInt64) throws {
        self.seed = seed
        scheduler = SimulatedScheduler(seed: seed)
        machine = try SimulatedMachine()
        policy = scheduler.generator.below(2) == 0 ? .pauseGroup : .detach
        isHeavy = scheduler.generator.below(3) == 0
        stalls = [0, 2, 10, 30][scheduler.generator.below(4)]
        hasFaults = scheduler.generator.below(3) > 0
    }

    private func complain(_ what: String) { if complaints.count < 10 { complaints.append(what) } }
    private func below(_ bound: Int) -> Int { scheduler.generator.below(bound) }
    /// Whether something that happens once in `bound` times happens now.
    private func chance(_ bound: Int) -> Bool { below(bound) == 0 }

    // MARK: - The whole life

    func run() throws {
        connect()
        var configuration = PipelineConfiguration()
        configuration.scheduler = scheduler
        configuration.poolBytesMin = 0
        configuration.poolBytes = 0
        configuration.failurePolicy = policy
        configuration.epochsInFlightMax = 1 + below(4)
        configuration.participants = [volume]
        configuration.inspectStop = { [unowned self] in witness($0) }
        configuration.report = { [unowned self] _ in meanwhile(8) }
        let pipeline = try EpochPipeline(machine, configuration)
        self.pipeline = pipeline
        for _ in 0..<Simulation.turns where complaints.isEmpty { turn() }
        comeToRest(pipeline)
        let left = pipeline.stop()
        if !left.isEmpty { complain("it does not end: \(left)") }
        for _ in 0..<1000 where scheduler.advance() {}
        for (index, one) in asked.enumerated() where one.answers != (one.isWithdrawn ? 0 : 1) {
            complain("request \(index) was answered \(one.answers) times\(one.isWithdrawn ? ", though it was taken back" : "")")
        }
        // A failure leaves the guest at rest.
        pipeline.resumeGuest()
        if machine.holders != 0 { complain("somebody still holds the guest at rest") }
        if pipeline.pool.freeChunks != pipeline.pool.chunkCount, complaints.isEmpty {
            complain("\(pipeline.pool.chunkCount - pipeline.pool.freeChunks) chunks of buffers did not come back")
        }
        for epoch in pipeline.statistics.epochs {
            figures.vainStops += epoch.vainStops
            figures.parts += epoch.stagedPages > 0 ? 1 : 0
        }
        self.pipeline = nil
    }

    // `unowned`: nothing of it lives longer than the simulation.
    private func connect() {
        scheduler.turn = { [unowned self] in turn() }
        scheduler.complain = { [unowned self] in complain($0) }
        machine.meanwhile = { [unowned self] in meanwhile(3) }
        machine.clock = { [unowned self] in scheduler.now }
        volume.meanwhile = { [unowned self] in meanwhile(3) }
        volume.complain = { [unowned self] in complain($0) }
    }

    /// Something happens: a step of the pipeline, a write of the guest, a call from outside.
    private func turn() {
        depth += 1
        defer { depth -= 1 }
        switch below(10) {
        case 0, 1: guestWrites()
        case 2: if !isQuiet { act() }
        default: scheduler.advance()
        }
    }

    /// Others go on while something takes its time.
    private func meanwhile(_ bound: Int) {
        guard depth < Simulation.depthMax, chance(bound) else { return }
        for _ in 0...below(3) { turn() }
    }

    // MARK: - The guest

    private func guestWrites() {
        guard machine.isRunning else { return }
        if chance(4) { volume.write(block: below(SimulatedVolume.blocks), stamp: nextStamp()) }
        if isHeavy, chance(12) {
            for page in 0..<SimulatedMachine.pages { machine.write(page: page, stamp: nextStamp(), byDevice: false) }
        } else {
            let isZero = chance(10)
            let first = below(SimulatedMachine.pages)
            for page in first..<min(SimulatedMachine.pages, first + 1 + below(isHeavy ? 120 : 12)) {
                machine.write(page: page, stamp: isZero ? 0 : nextStamp(), byDevice: chance(6))
            }
        }
    }

    private func nextStamp() -> UInt64 {
        stamp += 1
        return stamp
    }

    /// In the stop, when everything is copied: what the epoch must hold.
    private func witness(_ number: EpochNumber) {
        if machine.isRunning { complain("the guest runs in the stop of epoch \(number)") }
        let kept = SimulatedBackend.Kept(memory: machine.stamps, volume: volume.stamps, ticks: machine.ticks)
        if stops.updateValue(Stop(kept: kept, time: scheduler.now), forKey: number) != nil { complain("number \(number) was used twice") }
    }

    // MARK: - From outside

    private func act() {
        guard let pipeline else { return }
        let name = Simulation.backendNames[below(Simulation.backendNames.count)]
        switch below(24) {
        case 0..<8: ask(pipeline, on: chance(2) ? name : nil)
        case 8..<12: attach(pipeline, name)
        case 12, 13: detach(pipeline, name)
        case 14: pipeline.setPeriod(.fixed(nanoseconds: Int64(1 + below(20)) * 1_000_000))
        case 15: pipeline.setCheckpointsPaused(chance(2))
        case 16: pipeline.pauseGuest()
        case 17, 18: pipeline.resumeGuest()
        case 19: withdraw(pipeline)
        case 20:
            let activity = chance(3) ? "checkpoints" : "to \(name)"
            scheduler.stall(activity, nanoseconds: Int64(below(chance(4) ? 100_000 : 2_000)) * 1_000_000)
        default: if hasFaults { goWrong(name) }
        }
    }

    private func goWrong(_ name: String) {
        switch below(40) {
        case 0..<8: attached[name]?.failsAfter = below(6)
        case 8: volume.fails = true
        case 9: machine.failsToSaveAfter = below(3)
        case 10: machine.end(chance(2) ? .powerOff : .stopped)
        default: break
        }
    }

    private func ask(_ pipeline: EpochPipeline, on backend: String?) {
        var one = Asked(backend: backend, time: scheduler.now)
        if chance(4) {
            names += 1
            one.name = "name \(names)"
        }
        let index = asked.count
        asked.append(one)
        let identifier = pipeline.ask(name: one.name, on: backend) { [unowned self] in answered(index, $0) }
        asked[index].identifier = identifier
        if identifier == nil, asked[index].answers != 1 { complain("request \(index) was refused without an answer") }
    }

    private func answered(_ index: Int, _ result: Result<EpochNumber, PipelineError>) {
        asked[index].answers += 1
        guard case .success(let number) = result else {
            if result == .failure(.forgotten) { complain("request \(index) was forgotten") }
            figures.refusals += 1
            return
        }
        figures.successes += 1
        let one = asked[index]
        guard let stop = stops[number], stop.time >= one.time else {
            return complain("request \(index) was answered with epoch \(number), whose stop was not after it")
        }
        let keepers = attached.values.filter { $0.durable[number] != nil && (one.backend == nil || $0.name == one.backend) }
        if keepers.isEmpty, !gone.contains(where: { $0.durable[number] != nil && (one.backend == nil || $0.name == one.backend) }) {
            complain("request \(index) was answered with epoch \(number), which is not durable on \(one.backend ?? "any backend")")
        }
        if one.backend == nil, attached.values.contains(where: { $0.isWriting(number) && !$0.hasFailed }) {
            complain("request \(index) was answered before epoch \(number) was durable everywhere")
        }
        if let name = one.name, keepers.contains(where: { $0.durable[number]?.name != name }) {
            complain("epoch \(number) is not called \(name)")
        }
    }

    /// Backends that were attached once.
    private var gone: [SimulatedBackend] = []

    private func attach(_ pipeline: EpochPipeline, _ name: String) {
        guard attached[name] == nil else { return }
        // Now and then one whose history is longer than the group's.
        let history = chance(3) ? EpochNumber(pipeline.lastEpoch.rawValue + UInt64(below(20))) : EpochNumber(0)
        let backend = SimulatedBackend(name: name, history: history)
        backend.meanwhile = { [unowned self] in called($0) }
        backend.complain = { [unowned self] in complain($0) }
        backend.check = { [unowned self] in check($0, $1, name) }
        pipeline.advance(to: history)
        attached[name] = backend
        do { try pipeline.attach(backend) } catch {
            attached[name] = nil
            if pipeline.failure == nil { complain("\(name) cannot be attached: \(error)") }
        }
    }

    private func called(_ backend: SimulatedBackend) {
        if below(100) < stalls, !isQuiet { scheduler.stall("to \(backend.name)", nanoseconds: Int64(below(1_500)) * 1_000_000) }
        meanwhile(3)
    }

    private func check(_ number: EpochNumber, _ kept: SimulatedBackend.Kept, _ name: String) {
        figures.durable += 1
        guard var expected = stops[number]?.kept else { return complain("\(name) has an epoch \(number), which was never stopped for") }
        expected.name = kept.name
        guard kept != expected else { return }
        let page = zip(kept.memory, expected.memory).enumerated().first { $0.element.0 != $0.element.1 }
        complain(
            "\(name): epoch \(number) is not what the guest was in its stop: "
                + (page.map { "page \($0.offset) holds \($0.element.0), not \($0.element.1)" } ?? "disk or state differ"))
    }

    private func detach(_ pipeline: EpochPipeline, _ name: String) {
        guard let backend = attached[name], !scheduler.isUnderWay("to \(name)") else { return }
        attached[name] = nil
        gone.append(backend)
        if backend.hasFailed { figures.failures += 1 }
        // One that failed may have been let go already.
        do { try pipeline.detach(name, withinSeconds: chance(3) ? 0.3 : 60) } catch {
            switch error {
            case .lost: figures.losses += 1
            default: if policy == .pauseGroup { complain("\(name) cannot be detached: \(error)") }
            }
        }
    }

    private func withdraw(_ pipeline: EpochPipeline) {
        guard !asked.isEmpty else { return }
        let index = below(asked.count)
        guard let identifier = asked[index].identifier, !asked[index].isWithdrawn else { return }
        let answers = asked[index].answers
        if pipeline.withdraw(identifier) == .answered {
            if answers != 1 { complain("request \(index) is said to be answered, but was so \(answers) times") }
        } else {
            asked[index].isWithdrawn = true
        }
    }

    // MARK: - The end

    /// Nothing goes wrong any more: then everybody is answered, and checkpoints are made.
    private func comeToRest(_ pipeline: EpochPipeline) {
        isQuiet = true
        scheduler.endStalls()
        for backend in attached.values { backend.failsAfter = nil }
        for name in Simulation.backendNames where attached[name]?.hasFailed == true { detach(pipeline, name) }
        pipeline.resumeGuest()
        if attached["store"] == nil { attach(pipeline, "store") }
        let willFail = volume.fails || machine.failsToSaveAfter != nil || machine.end != nil || pipeline.failure != nil
        let last = asked.count
        ask(pipeline, on: "store")
        settle { asked.allSatisfy { $0.isWithdrawn || $0.answers > 0 } }
        let answer = asked[last].answers
        if answer == 0 { complain("nobody makes checkpoints any more: \(pipeline.progress.activity)") }
        if !willFail, let failure = pipeline.failure { complain("no more checkpoints are made: \(failure)") }
        for (index, one) in asked.enumerated() where !one.isWithdrawn && one.answers == 0 { complain("request \(index) is never answered") }
    }

    /// Nanoseconds within which everybody is to be answered when nothing holds anybody up.
    private static let settleMax: Int64 = 30_000_000_000

    private func settle(_ isDone: () -> Bool) {
        let deadline = scheduler.now + Simulation.settleMax
        var count = 0
        while !isDone(), scheduler.now < deadline, count < 20_000, complaints.isEmpty {
            count += 1
            if chance(20) { guestWrites() }
            if !scheduler.advance() { return }
        }
    }
}
