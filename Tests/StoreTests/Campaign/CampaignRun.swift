import StoreSimulation
import Testing

@testable import Store

/// A fixed run of everything a store does, on a disk that may fail; the model learns only what was acknowledged.
final class CampaignRun {
    let disk: SimulatedDisk
    let store: Store
    var model = CampaignModel()
    private var writers: [String: StreamWriter] = [:]
    private var current: [String: [UInt64: UInt64]] = [:]
    private let options: WriterOptions

    private let flushEvery: Int
    private var commits = 0

    init(on disk: SimulatedDisk, compression: CompressionPolicy = .auto, flushEvery: Int = 1) throws {
        self.disk = disk
        self.flushEvery = flushEvery
        var options = WriterOptions()
        options.compression = compression
        self.options = options
        store = try Store.open(disk, memory: .alone, indexBytes: 1 << 20)
    }

    private typealias Change = (inout [String: Set<UInt64>]) -> Void
    /// What the operation under way will have done.
    private var intent: Change?

    private func perform(_ change: @escaping Change, _ body: () throws -> Void) throws {
        intent = change
        try body()
        model.acknowledge(disk.eventCount, change)
        intent = nil
    }

    /// The run has failed: the operation under way may have taken effect or not.
    func stop() {
        if let intent { model.acknowledge(.max, intent) }
        writers = [:]
    }

    func create(_ name: String, from origin: (stream: String, number: UInt64)? = nil) throws {
        var reference: CheckpointReference?
        if let origin {
            reference = CheckpointReference(stream: try store.stream(origin.stream).identity, number: origin.number)
            let pages = model.closed[origin.stream]?[origin.number] ?? [:]
            model.closed[name, default: [:]][origin.number] = pages
            current[name] = pages
        }
        try perform({ $0[name] = origin.map { [$0.number] } ?? [] }) {
            writers[name] = try store.createStream(name: name, origin: reference, time: 1, options: options)
        }
    }

    /// Closes an epoch that changes pages; a seed depends on nothing but the page and `salt`, so streams share.
    func commit(_ name: String, _ number: UInt64, pages: [UInt64], salt: UInt64, flush: Bool = true) throws {
        guard let writer = writers[name] else { return }
        try writer.begin(number)
        var seeds = current[name] ?? [:]
        let inputs = try pages.map { page in
            let seed = salt == 0 ? 0 : salt * 100 + page
            seeds[page] = seed
            return (try #require(PageKey(map: 0, page: page)), CampaignCheck.contents(seed))
        }
        try Self.add(inputs, to: writer)
        current[name] = seeds
        model.closed[name, default: [:]][number] = seeds
        try writer.close(bytes: CampaignCheck.state(number), name: "", time: number)
        commits += 1
        guard flush, commits % flushEvery == 0 else { return }
        let durable = (model.closed[name] ?? [:]).keys.filter { $0 <= number && isKept(name, $0) }
        try perform({ $0[name, default: []].formUnion(durable) }) { try writer.flush(upTo: number) }
    }

    private var dropped: [String: Set<UInt64>] = [:]
    private func isKept(_ name: String, _ number: UInt64) -> Bool { !(dropped[name] ?? []).contains(number) }

    func drop(_ name: String, _ numbers: [UInt64]) throws {
        dropped[name, default: []].formUnion(numbers)
        try perform({ $0[name, default: []].subtract(numbers) }) { try writers[name]?.drop(numbers) }
    }

    func finish(_ name: String) throws {
        try writers[name]?.finish()
        writers[name] = nil
    }

    func reopen(_ name: String) throws {
        writers[name] = nil
        writers[name] = try store.writer(for: name, options: options)
    }

    func remove(_ name: String) throws {
        writers[name] = nil
        try perform({ $0[name] = nil }) { try store.removeStream(name) }
    }

    func collect() throws { try store.collect() }

    /// Everything, in an order that makes each thing meet each other one.
    func runAll() throws {
        try create("one")
        for number in 1...9 as ClosedRange<UInt64> { try commit("one", number, pages: [number % 4, 4 + number % 3], salt: number) }
        try commit("one", 10, pages: [1, 2], salt: 30, flush: false)
        try commit("one", 64, pages: Array(0..<16), salt: 31)
        try create("two", from: ("one", 9))
        try commit("two", 65, pages: [0, 1, 2, 3], salt: 31)
        try drop("one", [2, 3, 4, 5])
        try collect()
        try commit("one", 65, pages: [3, 9], salt: 40)
        try commit("one", 66, pages: [3], salt: 0)
        try finish("one")
        try collect()
        try reopen("two")
        try commit("two", 66, pages: [5, 6], salt: 41)
        try commit("two", 72, pages: [7, 8], salt: 42)
        try reopen("one")
        try commit("one", 128, pages: [0, 15], salt: 43)
        try drop("one", [1, 6, 7, 8, 9, 10, 64])
        try remove("two")
        try collect()
        try create("three")
        try commit("three", 1, pages: Array(0..<16), salt: 50)
        try commit("one", 512, pages: [1, 2, 3], salt: 50)
        try collect()
        try commit("three", 8, pages: [0], salt: 51)
        try finish("three")
    }

    static func add(_ pages: [(key: PageKey, bytes: [UInt8])], to writer: StreamWriter) throws {
        let buffers = pages.map { page in
            let buffer = UnsafeMutableRawPointer.allocate(byteCount: 4096, alignment: 4096)
            page.bytes.withUnsafeBytes { buffer.copyMemory(from: $0.baseAddress ?? UnsafeRawPointer(buffer), byteCount: 4096) }
            return (page.key, buffer)
        }
        defer { for buffer in buffers { buffer.1.deallocate() } }
        try writer.add(buffers.map { PageInput(key: $0.0, bytes: UnsafeRawPointer($0.1)) })
    }
}
