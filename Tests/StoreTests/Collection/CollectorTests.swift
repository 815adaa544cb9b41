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

    /// Whatever of a stream cannot be read: nothing it may need is freed, and the others go on with what is allocated later.
    @Test(arguments: ["anchor", "slot", "table"])
    func aDamagedStreamKeepsWhatItMayNeedAndStopsNobody(what: String) throws {
        let (disk, ground) = try smallStore()
        let store = Store(ground: ground)
        do {
            let writer = try store.createStream(name: "one", time: 1)
            try commit(writer, 1...20)
            try writer.finish()
        }
        let wanted = try contents(store, "one", 20)
        let places =
            switch what {
            case "anchor": [try #require(try ground.slot(at: 0)?.anchor).location.offset + 40]
            case "slot": [ground.layout.slotOffset(0, copy: 0) + 50, ground.layout.slotOffset(0, copy: 1) + 50]
            default: [try #require(try store.checkpoint(stream: "one").block.chain.first).root.location.offset + 8]
            }
        func flip() { disk.damage { image in for place in places { image.flip(bit: 1, at: place) } } }
        flip()
        let first = try store.collect()
        #expect(first.unreadable.map(\.name) == [what == "slot" ? "slot 0" : "one"])
        #expect(first.blocksFreed == 0 && first.blocksHeldBack > 0)
        try store.createStream(name: "two", time: 1).finish()
        #expect(try ground.slots().contains { $0.record.name == "two" && $0.index == 1 }, "a damaged slot is nobody's to take")
        var freed: UInt64 = 0
        for round in 0..<5 as Range<UInt64> {
            let other = try store.writer(for: "two")
            try commit(other, round * 10 + 1...round * 10 + 10, salt: 7777)
            if round > 0 { try other.drop(Array(round * 10 - 9...round * 10)) }
            try other.finish()
            freed += try store.collect().blocksFreed
        }
        #expect(freed > 100, "what others drop is freed")
        #expect(try contents(store, "two", 50).count == 40)
        // It can be read again, and all of it is there; then nothing is kept any more.
        flip()
        let fresh = Store(ground: ground)
        #expect(try contents(fresh, "one", 20) == wanted)
        let last = try fresh.collect()
        #expect(last.unreadable.isEmpty && last.blocksHeldBack == 0)
        #expect(try contents(Store(ground: ground), "one", 20) == wanted)
        #expect(try fresh.scrub().findingCount == 0)
    }

    /// Many small pieces of garbage between free ones make one hole.
    @Test func holesAreJoinedOverWhatIsFreeAlready() {
        var runs = DiscardRuns()
        var needed = SegmentBits.none
        needed.set(100..<101, to: true)
        needed.set(110..<120, to: true)
        var freed = SegmentBits.none
        for bit in stride(from: 0, to: 100, by: 7) { freed.set(bit..<bit + 1, to: true) }
        freed.set(105..<106, to: true)
        freed.set(500..<501, to: true)
        runs.add(4, needed: needed, freed: freed)
        runs.add(5, needed: .none, freed: .none)
        runs.interrupt()
        let start: UInt64 = 4 * 1024
        // The short run of 101 to 109 stays as it is; the last one goes on into the next segment.
        #expect(
            runs.found == [
                .init(blocks: start..<start + 100, freed: 15), .init(blocks: start + 120..<start + 2048, freed: 1),
            ])
    }

    @Test func fragmentedGarbageIsGivenBackInFewPieces() throws {
        let (_, ground) = try smallStore()
        let store = Store(ground: ground)
        let writer = try store.createStream(name: "one", time: 1)
        try commit(writer, 1...200, pages: 160)
        // Every other one first, so that what the rest takes lies between free blocks.
        try writer.drop(Array(stride(from: 1, to: 199, by: 2)))
        try writer.finish()
        try store.collect()
        let again = try store.writer(for: "one")
        try again.drop(Array(stride(from: 2, to: 199, by: 2)))
        try again.finish()
        let second = try store.collect()
        #expect(second.blocksFreed > 1000 && second.discards > 0)
        #expect(second.blocksFreed / UInt64(second.discards) > 100, "\(second.discards) holes for \(second.blocksFreed) blocks")
        #expect(try store.scrub().findingCount == 0)
    }
}
