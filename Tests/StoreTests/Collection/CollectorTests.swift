import StoreSimulation
import Testing

@testable import Store

@Suite struct CollectorTests {
    private func key(_ page: UInt64) throws -> PageKey { try #require(PageKey(map: 0, page: page)) }

    /// Commits checkpoints that each change every fourth page, with contents no other checkpoint has.
    private func commit(_ writer: StreamWriter, _ numbers: ClosedRange<UInt64>, pages: UInt64 = 40, salt: UInt64 = 0) throws {
        for number in numbers {
            try writer.begin(number)
            let changed = try stride(from: number % 4, to: pages, by: 4).map { (try key($0), UInt64(1000 + salt + number * 100 + $0)) }
            try PageContents.add(changed, to: writer)
            try writer.close(bytes: [UInt8](repeating: UInt8(number % 250), count: 5000), name: "", time: number)
            try writer.flush(upTo: number)
        }
    }

    private func contents(_ store: Store, _ stream: String, _ number: UInt64, pages: UInt64 = 40) throws -> [[UInt8]] {
        let reader = try store.checkpoint(stream: stream, .number(number))
        return try (0..<pages).map { try PageContents.read(try key($0), from: reader) }
    }

    @Test func freesWhatWasDroppedAndNothingElse() throws {
        let (disk, ground) = try smallStore()
        let store = Store(ground: ground)
        let writer = try store.createStream(name: "one", time: 1)
        try commit(writer, 1...100)
        let kept = try contents(store, "one", 50)
        let newest = try contents(store, "one", 100)
        try writer.drop(Array(1...49) + Array(51...99))
        try writer.finish()
        let before = try ground.freeBytes()
        let statistics = try store.collect()
        #expect(statistics.streams == 1)
        #expect(statistics.checkpoints == 2)
        #expect(statistics.blocksFreed > 500)
        #expect(try ground.freeBytes() == before + statistics.blocksFreed * 4096)
        let again = try Store.open(SimulatedDisk(disk.image), memory: .alone)
        #expect(try contents(again, "one", 50) == kept)
        #expect(try contents(again, "one", 100) == newest)
        #expect(throws: StoreError.self) { try contents(again, "one", 49) }
        // A second collection finds nothing more.
        #expect(try store.collect().blocksFreed == 0)
    }

    @Test func aRemovedStreamLeavesNothing() throws {
        let (_, ground) = try smallStore()
        let store = Store(ground: ground)
        let all = try ground.freeBytes()
        do {
            let writer = try store.createStream(name: "one", time: 1)
            try commit(writer, 1...70)
            try writer.finish()
        }
        #expect(try ground.freeBytes() < all)
        try store.removeStream("one")
        try store.collect()
        #expect(try ground.freeBytes() == all)
    }

    @Test func aCloneKeepsWhatItsOriginDropped() throws {
        let (_, ground) = try smallStore()
        let store = Store(ground: ground)
        do {
            let writer = try store.createStream(name: "one", time: 1)
            try commit(writer, 1...30)
            try writer.finish()
        }
        let wanted = try contents(store, "one", 20)
        let origin = CheckpointReference(stream: try store.stream("one").identity, number: 20)
        let clone = try store.createStream(name: "two", origin: origin, time: 2)
        try store.removeStream("one")
        var freed = try store.collect().blocksFreed
        #expect(try contents(store, "two", 20) == wanted)
        try commit(clone, 21...25, salt: 7)
        try clone.finish()
        freed += try store.collect().blocksFreed
        #expect(freed > 0)
        #expect(try contents(store, "two", 20) == wanted)
    }

    @Test func aLivingWriterLosesNothingAndGoesOn() throws {
        let (disk, ground) = try smallStore()
        let store = Store(ground: ground)
        let writer = try store.createStream(name: "one", time: 1)
        for round in 0..<20 as Range<UInt64> {
            try commit(writer, round * 10 + 1...round * 10 + 10)
            if round > 2 { try writer.drop(Array(round * 10 - 15...round * 10 - 10)) }
            try store.collect()
            #expect(try contents(store, "one", round * 10 + 10)[2] == contents(store, "one", round * 10 + 10)[2])
        }
        let newest = try contents(store, "one", 200)
        // Killed: nothing is given back; the next collection finds what the writer left.
        let crashed = try Store.openGround(SimulatedDisk(disk.image), memory: .alone)
        let after = Store(ground: crashed)
        try after.collect()
        #expect(try contents(after, "one", 200) == newest)
        let next = try after.writer(for: "one")
        try commit(next, 201...210)
        #expect(try contents(after, "one", 200) == newest)
        withExtendedLifetime(writer) {}
    }

    @Test func refusesWhileAnotherMemoryIsInUse() throws {
        let (disk, ground) = try smallStore()
        let other = try Store.openGround(disk, memory: .alone)
        #expect(throws: StoreError.self) { try Store(ground: ground).collect() }
        withExtendedLifetime(other) {}
    }

    @Test func aDamagedStreamStopsItBeforeAnythingIsFreed() throws {
        let (disk, ground) = try smallStore()
        let store = Store(ground: ground)
        let writer = try store.createStream(name: "one", time: 1)
        try commit(writer, 1...10)
        try writer.finish()
        let anchor = try #require(try ground.slot(at: 0)?.anchor)
        disk.damage { $0.flip(bit: 1, at: anchor.location.offset + 40) }
        let before = disk.image
        let fresh = Store(ground: ground)
        #expect(throws: StoreError.self) { try fresh.collect() }
        #expect(disk.image.writtenOffsets.allSatisfy { disk.image.bytes(at: $0, count: 4096) == before.bytes(at: $0, count: 4096) })
    }
}
