import Linux
import StoreSimulation
import Synchronization
import Testing

@testable import Store

@Suite struct StreamWriterTests {
    private func makeStore(_ byteCount: UInt64 = 64 << 20) throws -> (Store, SimulatedDisk) {
        let disk = SimulatedDisk(byteCount: byteCount)
        disk.restartTrace(recording: false)
        try Store.create(on: disk, StoreConfiguration(slotCount: 16, identity: StoreIdentity(low: 1, high: 2)))
        return (try Store.open(disk, memory: .alone, indexBytes: 1 << 20), disk)
    }

    private func key(_ page: UInt64, map: UInt16 = 0) throws -> PageKey { try #require(PageKey(map: map, page: page)) }

    @Test func readsBackWhatWasClosed() throws {
        let (store, _) = try makeStore()
        let writer = try store.createStream(name: "redis", time: 5, labels: [1, 2])
        try writer.begin(1)
        try PageContents.add([(try key(3), 11), (try key(4), 0), (try key(7, map: 2), 12)], to: writer)
        let state = [UInt8](repeating: 9, count: 10000)
        try writer.close(bytes: state, name: "first", time: 77)
        let reader = try store.checkpoint(stream: "redis")
        #expect(reader.number == 1 && reader.time == 77 && reader.name == "first")
        #expect(try reader.state() == state)
        #expect(try PageContents.read(try key(3), from: reader) == PageContents.bytes(11))
        #expect(try PageContents.read(try key(7, map: 2), from: reader) == PageContents.bytes(12))
        #expect(try PageContents.read(try key(5), from: reader) == PageContents.bytes(0))
        #expect(try reader.locate(try key(4)) == nil)
        #expect(try writer.flush(upTo: 1) == 1)
        let info = try store.stream("redis")
        #expect(info.labels == [1, 2] && info.created == 5 && info.latest?.number == 1 && info.origin == nil && info.checkpointCount == 1)
    }

    @Test func storesOnlyWhatIsNew() throws {
        let (store, _) = try makeStore()
        let writer = try store.createStream(name: "one", time: 1)
        try writer.begin(1)
        try PageContents.add([(try key(1), 11), (try key(2), 11), (try key(3), 13), (try key(4), 0)], to: writer, retained: true)
        let first = try writer.close()
        #expect(first.offeredPages == 4 && first.newPages + first.sharedPages == 3 && first.unchangedPages == 1)
        try writer.begin(2)
        try PageContents.add([(try key(1), 11), (try key(2), 13), (try key(3), 0), (try key(5), 15)], to: writer)
        let second = try writer.close()
        #expect(second.unchangedPages == 1 && second.sharedPages == 1 && second.zeroPages == 1 && second.newPages == 1)
        let other = try store.createStream(name: "two", time: 1)
        try other.begin(1)
        try PageContents.add([(try key(9), 15), (try key(8), 17)], to: other)
        let third = try other.close()
        #expect(third.sharedPages == 1 && third.newPages == 1)
        let places = try [store.checkpoint(stream: "one").locate(try key(5)), store.checkpoint(stream: "two").locate(try key(9))]
        #expect(places[0]?.location == places[1]?.location && places[0] != nil)
        // After opening again nothing is remembered, and everything is looked up.
        try writer.finish()
        let again = try store.writer(for: "one")
        try again.begin(3)
        try PageContents.add([(try key(1), 11), (try key(3), 0), (try key(7), 0), (try key(5), 19)], to: again)
        let fourth = try again.close()
        #expect(fourth.unchangedPages == 3 && fourth.newPages == 1)
    }

    /// A page with the same checksum and other bytes is not taken for the same: here the index is made to lie.
    @Test func aFalseHintIsNotBelieved() throws {
        let (store, _) = try makeStore()
        let writer = try store.createStream(name: "one", time: 1)
        try writer.begin(1)
        try PageContents.add([(try key(1), 11)], to: writer)
        try writer.close()
        let place = try #require(try store.checkpoint(stream: "one").locate(try key(1)))
        let other = PageContents.bytes(13).withUnsafeBytes { Checksum(of: $0) }
        store.ground.publish(other, at: place.location)
        store.ground.publish(other, at: PageLocation(rawValue: .max))
        try writer.begin(2)
        try PageContents.add([(try key(2), 13)], to: writer)
        #expect(try writer.close().newPages == 1)
        #expect(try PageContents.read(try key(2), from: store.checkpoint(stream: "one")) == PageContents.bytes(13))
    }

    @Test(arguments: [CompressionPolicy.off, .auto, .on])
    func largeEpochsAreWrittenAheadAndSettled(policy: CompressionPolicy) throws {
        let (store, disk) = try makeStore(256 << 20)
        var options = WriterOptions()
        options.compression = policy
        options.settleBytes = 8 << 20
        let writer = try store.createStream(name: "large", time: 1, options: options)
        let flushes = disk.count(of: .flush)
        try writer.begin(1)
        // Even contents are compressible.
        for start in stride(from: UInt64(0), to: 6000, by: 500) {
            try PageContents.add(try (start..<start + 500).map { (try key($0), ($0 + 1) * 2) }, to: writer)
        }
        let statistics = try writer.close()
        #expect(statistics.newPages == 6000)
        let raw: UInt64 = 6000 * 4096
        switch policy {
        case .off: #expect(statistics.newPageBytes == raw)
        case .auto: #expect(statistics.newPageBytes < raw * 2 / 3 && statistics.newPageBytes > raw / 4)
        case .on: #expect(statistics.newPageBytes < raw / 8)
        }
        if policy == .off { #expect(disk.count(of: .flush) > flushes) }
        let reader = try store.checkpoint(stream: "large")
        for page in stride(from: UInt64(0), to: 6000, by: 111) {
            #expect(try PageContents.read(try key(page), from: reader) == PageContents.bytes((page + 1) * 2))
        }
    }

    @Test func differencesAreWhatChanged() throws {
        let (store, _) = try makeStore()
        let writer = try store.createStream(name: "one", time: 1)
        for number in UInt64(1)...20 {
            try writer.begin(number)
            try PageContents.add(StreamScript.changes(number), to: writer)
            try writer.close(time: number)
        }
        for (older, newer) in [(3, 4), (4, 3), (1, 20), (7, 9), (15, 16), (5, 5)] as [(UInt64, UInt64)] {
            let one = StreamScript.pages(older)
            let other = StreamScript.pages(newer)
            let wanted = Set(one.keys).union(other.keys).filter { one[$0] != other[$0] }.sorted()
            let reader = try store.checkpoint(stream: "one", .number(newer))
            #expect(try reader.differences(from: store.checkpoint(stream: "one", .number(older))) == wanted, "\(older) to \(newer)")
        }
    }

    /// Epochs are closed by one thread while another one flushes: what is reported durable was closed before.
    @Test func flushesWhileEpochsAreClosed() throws {
        let (store, _) = try makeStore(256 << 20)
        let writer = try store.createStream(name: "one", time: 1)
        let isDone = Atomic(false)
        let seen = Mutex<[UInt64]>([])
        let thread = try Linux.Thread(name: "flusher") {
            while !isDone.load(ordering: .acquiring) {
                guard let number = try? writer.flush() else { return }
                seen.withLock { $0.append(number) }
            }
        }
        for number in UInt64(1)...200 {
            try writer.begin(number)
            try PageContents.add(StreamScript.changes(number), to: writer)
            try writer.close(bytes: StreamScript.state(number), time: number)
        }
        isDone.store(true, ordering: .releasing)
        thread.join()
        #expect(try writer.flush() == 200)
        let numbers = seen.withLock { $0 }
        #expect(numbers == numbers.sorted() && !numbers.isEmpty)
        for number in [1, 64, 100, 200] as [UInt64] { try StreamScript.check(store, "one", number, "\(number)") }
    }

    @Test func refusesWhatDoesNotFit() throws {
        let (store, _) = try makeStore()
        let writer = try store.createStream(name: "one", time: 1)
        #expect(throws: StoreError.streamExists("one")) { try store.createStream(name: "one", time: 1) }
        for name in ["", "a\nb", String(repeating: "x", count: 129)] {
            #expect(throws: StoreError.self) { try store.createStream(name: name, time: 1) }
        }
        #expect(throws: StoreError.self) { try writer.close() }
        #expect(throws: StoreError.self) { try PageContents.add([(key(1), 1)], to: writer) }
        try writer.begin(5)
        #expect(throws: StoreError.self, "an epoch is open") { try writer.begin(6) }
        try writer.close(name: "five")
        #expect(throws: StoreError.self, "numbers ascend") { try writer.begin(5) }
        try writer.begin(6)
        #expect(throws: StoreError.checkpointExists(stream: "one", name: "five")) { try writer.close(name: "five") }
        writer.abandon()
        #expect(throws: StoreError.self) { try writer.drop([5]) }
        #expect(throws: StoreError.self) { try writer.drop([4]) }
        #expect(throws: StoreError.self) { try store.checkpoint(stream: "one", .number(6)) }
        #expect(throws: StoreError.self) { try store.checkpoint(stream: "one", .name("six")) }
        #expect(throws: StoreError.noStream("two")) { try store.checkpoint(stream: "two") }
        try writer.rename(to: "uno")
        #expect(try store.streams().map(\.name) == ["uno"] && store.checkpoint(stream: "uno", .name("five")).number == 5)
        try writer.begin(6)
        try writer.close(bytes: [1, 2, 3, 4, 5])
        let reader = try store.checkpoint(stream: "uno")
        #expect(try reader.state(bytesMax: 5) == [1, 2, 3, 4, 5])
        #expect(throws: StoreError.self) { try reader.state(bytesMax: 4) }
    }

    @Test func allSlotsCanBeUsedAndUsedAgain() throws {
        let (store, _) = try makeStore()
        for round in 0..<2 {
            for index in 0..<16 { try store.createStream(name: "\(round) \(index)", time: 1).finish() }
            #expect(throws: StoreError.self) { try store.createStream(name: "more", time: 1) }
            for index in 0..<16 { try store.removeStream("\(round) \(index)") }
        }
        #expect(try store.streams().isEmpty)
    }
}
