import Synchronization
import Testing

@testable import Snapshot

/// Requests for checkpoints, without a machine: whatever happens, each is answered once.
@Suite struct RequestLedgerTests {
    private static let backends = ["store", "memory", "remote"]
    private let store = BackendKey(name: "store", number: 1)

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
        let name = ledger.take(for: EpochNumber(5), ready: [store])
        #expect(name == "n")
        let left = ledger.left(store, .noBackend("store"), usable: []).map(\.asker)
        #expect(left == [1, 2])
        let nobody = ledger.handOver(EpochNumber(5), to: [store], attached: []).map(\.asker)
        #expect(nobody == [])
        let requests = ledger.requests.count
        #expect(requests == 0)
        // And the other way: it went, was settled, and only then somebody was taken for it.
        _ = ledger.ask(name: nil, backend: nil, 3)
        _ = ledger.take(for: EpochNumber(6), ready: [store])
        let answers = ledger.handOver(EpochNumber(6), to: [store], attached: []).map(\.result)
        #expect(answers == [.failure(.noBackend(nil))])
    }

    /// One that comes under the name of one that has gone answers for itself alone.
    @Test func aNameThatComesBack() {
        var ledger = RequestLedger<Int>()
        let again = BackendKey(name: "store", number: 2)
        _ = ledger.ask(name: nil, backend: "store", 1)
        _ = ledger.take(for: EpochNumber(5), ready: [store])
        let settled = ledger.left(store, .noBackend("store"), usable: [again]).map(\.asker)
        #expect(settled == [])
        let handed = ledger.handOver(EpochNumber(5), to: [store], attached: [again]).map(\.asker)
        #expect(handed == [])
        let stages = ledger.requests.map(\.stage)
        #expect(stages == [.asked])
        _ = ledger.take(for: EpochNumber(6), ready: [again])
        _ = ledger.handOver(EpochNumber(6), to: [again], attached: [again])
        let early = ledger.durable(EpochNumber(6), at: store).map(\.asker)
        #expect(early == [])
        let answers = ledger.durable(EpochNumber(6), at: again).map(\.result)
        #expect(answers == [.success(EpochNumber(6))])
    }

    /// An epoch that came to nothing gives its requests back, and another serves them.
    @Test func requestsAreTakenAnew() {
        var ledger = RequestLedger<Int>()
        _ = ledger.ask(name: "a", backend: nil, 1)
        _ = ledger.ask(name: "b", backend: nil, 2)
        var name = ledger.take(for: EpochNumber(1), ready: [store])
        #expect(name == "a")
        let isWanted = ledger.isWanted(ready: [store])
        #expect(isWanted)
        ledger.putBack()
        name = ledger.take(for: EpochNumber(2), ready: [store])
        #expect(name == "a")
        var answered = ledger.handOver(EpochNumber(2), to: [store], attached: [store]).map(\.asker)
        #expect(answered == [])
        answered = ledger.durable(EpochNumber(1), at: store).map(\.asker)
        #expect(answered == [])
        answered = ledger.durable(EpochNumber(3), at: store).map(\.asker)
        #expect(answered == [1])
        let stages = ledger.requests.map(\.stage)
        #expect(stages == [.asked])
        _ = ledger.end(.stopped)
    }

    /// Whoever drops an answer ends the wait.
    @Test func aForgottenAnswerIsOne() {
        let results = Mutex<[Result<EpochNumber, PipelineError>]>([])
        var ledger = RequestLedger<AnswerWay>()
        for _ in 0..<3 { _ = ledger.ask(name: nil, backend: nil, AnswerWay { result in results.withLock { $0.append(result) } }) }
        ledger.withdraw(1)?.asker.close()
        #expect(results.withLock { $0 } == [])
        for answer in ledger.end(.stopped).prefix(1) { answer.asker.give(answer.result) }
        #expect(results.withLock { $0 } == [.failure(.stopped), .failure(.forgotten)])
    }

    /// A ledger that is dropped with somebody waiting is a fault that cannot be overlooked.
    @Test func aLedgerIsNotDropped() async {
        await #expect(processExitsWith: .failure) {
            var ledger = RequestLedger<Int>()
            _ = ledger.ask(name: nil, backend: nil, 1)
        }
    }

    @Test func theLedgerIsBounded() {
        var ledger = RequestLedger<Int>()
        for number in 0..<RequestLedger<Int>.requestsMax {
            let identifier = ledger.ask(name: nil, backend: nil, number)
            #expect(identifier != nil)
        }
        let refused = ledger.ask(name: nil, backend: nil, -1)
        #expect(refused == nil)
        let count = ledger.end(.stopped).count
        #expect(count == RequestLedger<Int>.requestsMax)
    }
}

/// A pipeline and its backends, as far as requests notice them.
private struct LedgerModel: ~Copyable {
    private var ledger = RequestLedger<Int>()
    private var attached: Set<BackendKey> = []
    private var ready: Set<BackendKey> = []
    private var failed: Set<BackendKey> = []
    private var attachedEver: UInt64 = 0
    private var last = EpochNumber(0)
    /// The epoch whose stop has begun, and the backends that were ready then.
    private var stop: (number: EpochNumber, ready: Set<BackendKey>)?
    private var written: [BackendKey: EpochNumber] = [:]

    private(set) var asked = 0
    private(set) var answers: [Int: Int] = [:]
    private(set) var withdrawn: Set<Int> = []
    private(set) var successes = 0
    private(set) var complaints: [String] = []

    mutating func step(_ generator: inout SeededGenerator, _ names: [String]) {
        let name = names[generator.below(names.count)]
        switch generator.below(12) {
        case 0, 1: ask(on: generator.below(3) == 0 ? name : nil, named: generator.below(4) == 0)
        case 2: attach(name)
        case 3: if let key = key(name) { ready.insert(key) }
        case 4 where generator.below(4) == 0: if let key = key(name) { leave(key, .noBackend(name)) }
        case 5 where generator.below(8) == 0: if let key = key(name) { fail(key) }
        case 6, 7: beginStop()
        case 8: if generator.below(5) == 0 { giveUp() } else { handOver() }
        case 9: withdraw(&generator)
        default: if let key = key(name) { arrive(key) }
        }
    }

    private func key(_ name: String) -> BackendKey? { attached.first { $0.name == name } }

    private mutating func attach(_ name: String) {
        guard key(name) == nil else { return }
        attachedEver += 1
        attached.insert(BackendKey(name: name, number: attachedEver))
    }

    private mutating func ask(on backend: String?, named: Bool) {
        // As the pipeline refuses it.
        guard attached.subtracting(failed).contains(where: { backend == nil || $0.name == backend }) else { return }
        if ledger.ask(name: named ? "name \(asked)" : nil, backend: backend, asked) != nil { asked += 1 }
    }

    private mutating func leave(_ name: BackendKey, _ error: PipelineError) {
        attached.remove(name)
        ready.remove(name)
        written[name] = nil
        failed.remove(name)
        take(ledger.left(name, error, usable: attached.subtracting(failed)))
    }

    private mutating func fail(_ name: BackendKey) {
        failed.insert(name)
        ready.remove(name)
        take(ledger.left(name, .noBackend(name.name), usable: attached.subtracting(failed)))
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
                take(ledger.left(name, .noBackend(name.name), usable: attached.subtracting(failed)))
            } else if attached.contains(name) {
                written[name] = number
            }
        }
    }

    private mutating func arrive(_ name: BackendKey) {
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
                complaints.append("\(request.asker) waits for \(backends.subtracting(attached).map(\.name))")
            }
        }
    }

    mutating func finish() { take(ledger.end(.stopped)) }
}
