import StoreSimulation
import Testing

@testable import Store

/// Random operations on a store, with a model beside it; the same seed does the same.
///
/// `model` knows everything that was closed; what is durable in it must survive anything.
final class Workload {
    private(set) var store: Store
    private(set) var model = StoreModel()
    private(set) var writers: [String: StreamWriter] = [:]
    private var generator: SeededGenerator
    private let options: WriterOptions
    private var clock: UInt64 = 1000
    /// How wide keys and contents are spread.
    let pagesMax: UInt64
    let contentsMax: UInt64
    private(set) var steps = 0

    init(store: Store, seed: UInt64, pagesMax: UInt64 = 400, contentsMax: UInt64 = 60, options: WriterOptions = WriterOptions()) {
        self.store = store
        self.pagesMax = pagesMax
        self.contentsMax = contentsMax
        self.options = options
        generator = SeededGenerator(seed: seed)
    }

    private func random(_ range: Range<UInt64>) -> UInt64 { .random(in: range, using: &generator) }

    private func key() -> PageKey {
        let map = UInt16(random(0..<3))
        // Map 2 is sparse, up to the last page there can be.
        return PageKey(map: map, page: map == 2 ? random(0..<pagesMax) * (PageKey.pagesMax / pagesMax) : random(0..<pagesMax))
            ?? PageKey(rawValue: 0)
    }

    /// Does one thing.
    func step() throws {
        steps += 1
        clock += 10
        switch random(0..<100) {
        case 0..<4: try create()
        case 4..<70: try epoch()
        case 70..<80: try flush()
        case 80..<84: try drop()
        case 84..<88: try name()
        case 88..<90: try rollback()
        case 90..<92: try goBack()
        case 92..<95: try reopen()
        case 95..<97: try abandon()
        case 97..<98: try remove()
        default: try checkSome()
        }
    }

    // MARK: operations

    private func anyStream() -> (name: String, writer: StreamWriter)? {
        guard !writers.isEmpty else { return nil }
        let names = writers.keys.sorted()
        let name = names[Int(random(0..<UInt64(names.count)))]
        return writers[name].map { (name, $0) }
    }

    func create() throws {
        guard writers.count < 6 else { return }
        let name = "stream-\(steps)"
        var stream = StoreModel.Stream()
        var origin: CheckpointReference?
        if let parent = anyStream(), random(0..<2) == 0, let number = anyNumber(parent.name) {
            origin = CheckpointReference(stream: parent.writer.identity, number: number)
            var checkpoint = try #require(model.streams[parent.name]?.checkpoints[number])
            stream.current = checkpoint.pages
            checkpoint.name = ""
            checkpoint.time = clock
            stream.checkpoints[number] = checkpoint
            stream.lastNumber = number
            stream.durableNumber = number
        }
        writers[name] = try store.createStream(name: name, origin: origin, time: clock, options: options)
        model.streams[name] = stream
    }

    private func anyNumber(_ name: String) -> UInt64? {
        guard let numbers = model.streams[name]?.checkpoints.keys.sorted(), !numbers.isEmpty else { return nil }
        return numbers[Int(random(0..<UInt64(numbers.count)))]
    }

    private func changes() -> [(key: PageKey, seed: UInt64)] {
        var changes: [PageKey: UInt64] = [:]
        let count = random(0..<20) == 0 ? random(100..<400) : random(0..<12)
        for _ in 0..<count { changes[key()] = random(0..<5) == 0 ? 0 : random(1..<contentsMax) }
        return changes.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
    }

    /// Closes an epoch of random pages, sometimes given in two parts of which the second counts.
    func epoch() throws {
        guard let (name, writer) = anyStream(), var stream = model.streams[name] else { return }
        let number = stream.lastNumber + (random(0..<10) == 0 ? random(1..<70) : 1)
        try writer.begin(number)
        for _ in 0..<random(1..<3) {
            let changes = changes()
            try PageContents.add(changes, to: writer)
            for change in changes { stream.current[change.key] = change.seed == 0 ? nil : change.seed }
        }
        let state = [UInt8](repeating: UInt8(truncatingIfNeeded: steps), count: Int(random(0..<3) == 0 ? random(0..<20000) : 40))
        let checkpointName = random(0..<15) == 0 ? "name-\(steps)" : ""
        try writer.close(bytes: state, name: checkpointName, time: clock)
        stream.checkpoints[number] = StoreModel.Checkpoint(pages: stream.current, state: state, name: checkpointName, time: clock)
        stream.lastNumber = number
        model.streams[name] = stream
    }

    func flush() throws {
        guard let (name, writer) = anyStream() else { return }
        try writer.flush()
        model.streams[name]?.settle()
    }

    private func drop() throws {
        guard let (name, writer) = anyStream(), let number = anyNumber(name) else { return }
        do throws(StoreError) { try writer.drop([number], force: true) } catch {
            guard case .checkpointProtected = error else { throw error }
            return
        }
        model.streams[name]?.checkpoints[number] = nil
        model.streams[name]?.settle()
    }

    private func name() throws {
        guard let (name, writer) = anyStream(), let number = anyNumber(name) else { return }
        let label = random(0..<3) == 0 ? "" : "renamed-\(steps)"
        try writer.name(number, label)
        model.streams[name]?.checkpoints[number]?.name = label
        model.streams[name]?.settle()
    }

    private func rollback() throws {
        guard let (name, writer) = anyStream(), let number = anyNumber(name) else { return }
        try writer.rebase(on: try store.checkpoint(stream: name, .number(number)))
        model.streams[name]?.rollback(to: number)
    }

    private func goBack() throws {
        guard let (name, writer) = anyStream(), let number = anyNumber(name), var stream = model.streams[name] else { return }
        let newest = try writer.goBack(to: try store.checkpoint(stream: name, .number(number)), time: clock)
        #expect(newest.number == stream.lastNumber + 1)
        stream.rollback(to: number)
        var checkpoint = try #require(stream.checkpoints[number])
        (checkpoint.name, checkpoint.time) = ("", clock)
        stream.checkpoints[newest.number] = checkpoint
        stream.lastNumber = newest.number
        stream.settle()
        model.streams[name] = stream
    }

    /// Opens a stream again, in good order or as after a crash of the process.
    private func reopen() throws {
        guard let name = anyStream()?.name, let stream = model.streams[name] else { return }
        #expect(throws: StoreError.streamInUse(name)) { try store.writer(for: name) }
        // The last reference takes the lock with it.
        if random(0..<2) == 0 { try writers[name]?.finish() }
        writers[name] = nil
        try reopened(name, stream)
    }

    private func reopened(_ name: String, _ stream: StoreModel.Stream) throws {
        writers[name] = try store.writer(for: name, options: options)
        var stream = stream
        stream.current = stream.checkpoints[stream.lastNumber]?.pages ?? [:]
        stream.durableNumber = stream.lastNumber
        model.streams[name] = stream
    }

    private func abandon() throws {
        guard let (_, writer) = anyStream() else { return }
        try writer.begin(writer.lastNumber + 1)
        try PageContents.add(changes(), to: writer)
        writer.abandon()
    }

    private func remove() throws {
        guard writers.count > 2, let name = anyStream()?.name else { return }
        #expect(throws: StoreError.streamInUse(name)) { try store.removeStream(name) }
        writers[name] = nil
        model.streams[name] = nil
        try store.removeStream(name)
        #expect(throws: StoreError.noStream(name)) { try store.checkpoint(stream: name) }
    }

    private func checkSome() throws {
        guard let (name, _) = anyStream(), let number = anyNumber(name) else { return }
        try check(name, number)
    }

    // MARK: checks

    /// Forgets all writers, as if the process had ended.
    func crash() { writers = [:] }

    /// Compares everything the model has with what the store says.
    func checkAll() throws {
        for (name, stream) in model.streams {
            #expect(try store.history(name).map(\.number) == stream.checkpoints.keys.sorted(), "\(name) after \(steps) steps")
            for number in stream.checkpoints.keys.sorted() { try check(name, number) }
        }
    }

    /// Compares one checkpoint: state, name, and every page, present and absent ones.
    func check(_ name: String, _ number: UInt64) throws {
        let wanted = try #require(model.streams[name]?.checkpoints[number])
        let reader = try store.checkpoint(stream: name, .number(number))
        #expect(try reader.state() == wanted.state, "state of \(name) \(number)")
        #expect(try store.history(name).first { $0.number == number }?.name == wanted.name)
        if !wanted.name.isEmpty { #expect(try store.checkpoint(stream: name, .name(wanted.name)).number == number) }
        var found: [PageKey] = []
        for map in 0..<UInt16(3) { found += try reader.pages(inMap: map).map(\.key) }
        #expect(found == wanted.pages.keys.sorted(), "pages of \(name) \(number) after \(steps) steps")
        for (key, seed) in wanted.pages {
            #expect(try PageContents.read(key, from: reader) == PageContents.bytes(seed), "\(key) of \(name) \(number)")
        }
        try checkRun(reader, wanted)
    }

    private func checkRun(_ reader: CheckpointReader, _ wanted: StoreModel.Checkpoint) throws {
        let first = random(0..<pagesMax)
        let start = try #require(PageKey(map: 1, page: first))
        var run = [UInt8](repeating: 0xEE, count: 16 * StoreFormat.blockBytes)
        try run.withUnsafeMutableBytes { try reader.readRun(from: start, into: $0) }
        var expected: [UInt8] = []
        for page in first..<first + 16 {
            expected += PageContents.bytes(wanted.pages[try #require(PageKey(map: 1, page: page))] ?? 0)
        }
        #expect(run == expected, "run at \(first)")
    }
}
