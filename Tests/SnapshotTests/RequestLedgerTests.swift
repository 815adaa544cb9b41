import Testing

@testable import Snapshot

/// Requests for checkpoints, without a machine: whatever happens, each is answered once.
@Suite struct RequestLedgerTests {
    private static let backends = ["store", "memory", "remote"]

    /// A pipeline's life at random: epochs that succeed or are given up, backends that come, lag, fail and go, at any moment.
    @Test(arguments: [1, 2, 3, 4, 5, 6, 7, 8] as [UInt64])
    func everyoneIsAnsweredOnce(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var model = LedgerModel()
        for _ in 0..<5000 { model.step(&generator, RequestLedgerTests.backends) }
        model.finish()
        #expect(model.answers.values.allSatisfy { $0 == 1 }, "seed \(seed): somebody was answered more than once")
        #expect(model.answers.count + model.withdrawn.count == model.asked, "seed \(seed): somebody was not answered")
        #expect(model.complaints == [], "seed \(seed)")
        #expect(model.successes > 40, "seed \(seed): the model hardly makes checkpoints")
    }

    /// A request that an epoch has taken is answered when its backend goes before the epoch is handed over.
    @Test func detachDuringAStop() {
        var ledger = RequestLedger<Int>()
        _ = ledger.ask(name: nil, backend: "store", 1)
        _ = ledger.ask(name: "n", backend: nil, 2)
        #expect(ledger.take(for: EpochNumber(5), ready: ["store"]) == "n")
        #expect(ledger.left("store", .noBackend("store"), usable: []).map(\.asker) == [1, 2])
        #expect(ledger.handOver(EpochNumber(5), to: ["store"], attached: []).isEmpty)
        #expect(ledger.requests.isEmpty)
        // And the other way: it went, was settled, and only then somebody was taken for it.
        _ = ledger.ask(name: nil, backend: nil, 3)
        _ = ledger.take(for: EpochNumber(6), ready: ["store"])
        #expect(ledger.handOver(EpochNumber(6), to: ["store"], attached: []).map(\.result) == [.failure(.noBackend(nil))])
    }

    /// An epoch that came to nothing gives its requests back, and another serves them.
    @Test func requestsAreTakenAnew() {
        var ledger = RequestLedger<Int>()
        _ = ledger.ask(name: "a", backend: nil, 1)
        _ = ledger.ask(name: "b", backend: nil, 2)
        #expect(ledger.take(for: EpochNumber(1), ready: ["store"]) == "a")
        #expect(ledger.isWanted(ready: ["store"]))
        ledger.putBack()
        #expect(ledger.take(for: EpochNumber(2), ready: ["store"]) == "a")
        #expect(ledger.handOver(EpochNumber(2), to: ["store"], attached: ["store"]).isEmpty)
        #expect(ledger.durable(EpochNumber(1), at: "store").isEmpty)
        #expect(ledger.durable(EpochNumber(3), at: "store").map(\.asker) == [1])
        #expect(ledger.requests.map(\.stage) == [.asked])
    }

    @Test func theLedgerIsBounded() {
        var ledger = RequestLedger<Int>()
        for number in 0..<RequestLedger<Int>.requestsMax { #expect(ledger.ask(name: nil, backend: nil, number) != nil) }
        #expect(ledger.ask(name: nil, backend: nil, -1) == nil)
        #expect(ledger.end(.stopped).count == RequestLedger<Int>.requestsMax)
    }
}

/// A pipeline and its backends, as far as requests notice them.
private struct LedgerModel {
    private var ledger = RequestLedger<Int>()
    private var attached: Set<String> = []
    private var ready: Set<String> = []
    private var failed: Set<String> = []
    private var last = EpochNumber(0)
    /// The epoch whose stop has begun, and the backends that were ready then.
    private var stop: (number: EpochNumber, ready: Set<String>)?
    private var written: [String: EpochNumber] = [:]

    private(set) var asked = 0
    private(set) var answers: [Int: Int] = [:]
    private(set) var withdrawn: Set<Int> = []
    private(set) var successes = 0
    private(set) var complaints: [String] = []

    mutating func step(_ generator: inout SeededGenerator, _ names: [String]) {
        let name = names[generator.below(names.count)]
        switch generator.below(12) {
        case 0, 1: ask(on: generator.below(3) == 0 ? name : nil, named: generator.below(4) == 0)
        case 2: if attached.insert(name).inserted { failed.remove(name) }
        case 3: if attached.contains(name) { ready.insert(name) }
        case 4 where generator.below(4) == 0: leave(name, .noBackend(name))
        case 5 where generator.below(8) == 0: if attached.contains(name) { fail(name) }
        case 6, 7: beginStop()
        case 8: if generator.below(5) == 0 { giveUp() } else { handOver() }
        case 9: withdraw(&generator)
        default: arrive(name)
        }
    }

    private mutating func ask(on backend: String?, named: Bool) {
        // As the pipeline refuses it.
        guard attached.subtracting(failed).contains(where: { backend == nil || $0 == backend }) else { return }
        if ledger.ask(name: named ? "name \(asked)" : nil, backend: backend, asked) != nil { asked += 1 }
    }

    private mutating func leave(_ name: String, _ error: PipelineError) {
        attached.remove(name)
        ready.remove(name)
        written[name] = nil
        failed.remove(name)
        take(ledger.left(name, error, usable: attached.subtracting(failed)))
    }

    private mutating func fail(_ name: String) {
        failed.insert(name)
        ready.remove(name)
        take(ledger.left(name, .noBackend(name), usable: attached.subtracting(failed)))
    }

    private mutating func beginStop() {
        guard stop == nil, !ready.isEmpty else { return }
        _ = ledger.take(for: last.next, ready: ready)
        stop = (last.next, ready)
    }

    private mutating func giveUp() {
        guard stop != nil else { return }
        ledger.putBack()
        stop = nil
    }

    private mutating func handOver() {
        guard let (number, ready) = stop else { return }
        stop = nil
        last = number
        take(ledger.handOver(number, to: ready, attached: attached))
        for name in ready {
            if failed.contains(name) {
                take(ledger.left(name, .noBackend(name), usable: attached.subtracting(failed)))
            } else if attached.contains(name) {
                written[name] = number
            }
        }
    }

    private mutating func arrive(_ name: String) {
        guard let number = written[name] else { return }
        take(ledger.durable(number, at: name))
    }

    private mutating func withdraw(_ generator: inout SeededGenerator) {
        guard !ledger.requests.isEmpty else { return }
        let request = ledger.requests[generator.below(ledger.requests.count)]
        if ledger.withdraw(request.identifier) != nil { withdrawn.insert(request.asker) }
        if ledger.withdraw(request.identifier) != nil { complaints.append("withdrawn twice") }
    }

    private mutating func take(_ list: [RequestLedger<Int>.Answer]) {
        for answer in list {
            answers[answer.asker, default: 0] += 1
            if case .success(let number) = answer.result {
                successes += 1
                if number > last { complaints.append("answered with an epoch that is not closed") }
            }
        }
        // Nobody waits for a backend that is not there.
        for request in ledger.requests {
            if case .underWay(_, let backends) = request.stage, !backends.isSubset(of: attached) {
                complaints.append("\(request.asker) waits for \(backends.subtracting(attached))")
            }
        }
    }

    mutating func finish() { take(ledger.end(.stopped)) }
}
