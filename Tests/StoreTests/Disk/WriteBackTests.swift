import CLinux
import StoreSimulation
import Testing

@testable import Store

/// Linux reports a write-back that failed once to each open file: nobody may take that away from who must know.
@Suite struct WriteBackTests {
    @Test func onlyWhatIsNotSupportedTakesTheLongWay() {
        #expect(DurableWrite(result: 512, of: 512) == .isDone)
        for result in [0, 100, -Int(EOPNOTSUPP), -Int(EINVAL), -Int(EINTR), -Int(ENOSYS)] {
            #expect(DurableWrite(result: result, of: 512) == .isNotSupported)
        }
        for code in [EIO, ENOSPC, EDQUOT, EROFS, EFBIG, ESTALE] {
            #expect(DurableWrite(result: -Int(code), of: 512) == .failed(code))
        }
    }

    @Test func aFileDiskWritesDurablyAndFlushesThroughFilesOfItsOwn() throws {
        let directory = try TemporaryDirectory()
        let disk = try FileDisk.create("\(directory.path)/disk", byteCount: 1 << 20)
        let bytes = [UInt8](repeating: 7, count: 1024)
        try bytes.withUnsafeBytes { try disk.writeDurably([$0], at: 4096) }
        try disk.openFlusher().flush()
        var found = [UInt8](repeating: 0, count: 1024)
        try found.withUnsafeMutableBytes { try disk.read(at: 4096, into: $0) }
        #expect(found == bytes)
        #expect(throws: DiskError.self) { try bytes.withUnsafeBytes { try disk.writeDurably([$0], at: 1 << 20) } }
    }

    @Test func theSimulatedDiskTellsEachOpenFileOnce() throws {
        let disk = SimulatedDisk(byteCount: 1 << 20)
        let flusher = try disk.openFlusher()
        disk.failWriteBack(code: EIO)
        let later = try disk.openFlusher()
        #expect(throws: DiskError.self) { try disk.flush() }
        try disk.flush()
        #expect(throws: DiskError.self) { try flusher.flush() }
        try flusher.flush()
        #expect(throws: DiskError.self, "opened before anybody had been told") { try later.flush() }
        try disk.openFlusher().flush()
    }

    private func write(_ writer: StreamWriter, _ number: UInt64) throws {
        try writer.begin(number)
        try PageContents.add((0..<20 as Range<UInt64>).map { (PageKey(rawValue: $0), number * 1000 + $0) }, to: writer)
        try writer.close(bytes: [1], time: number)
    }

    /// Two writers of one process: the one that is told first does not take it from the other.
    @Test(arguments: 1...10) func everyWriterHearsOfAFailedWriteBack(seed: UInt64) throws {
        let disk = SimulatedDisk(byteCount: 72 << 20)
        try Store.create(on: disk, StoreConfiguration(slotCount: 8, identity: StoreIdentity(low: 1, high: 2)))
        disk.restartTrace()
        let store = try Store.open(disk, memory: .alone, indexBytes: 1 << 20)
        let writers = try ["one", "two"].map { try store.createStream(name: $0, time: 1) }
        for writer in writers {
            try write(writer, 1)
            try writer.flush()
            try write(writer, 2)
        }
        disk.failWriteBack(code: EIO)
        for writer in writers {
            #expect(throws: StoreError.self) { try writer.flush() }
            #expect(writer.isBroken && writer.durableNumber == 1)
        }
        let acknowledged = disk.eventCount
        var generator = SeededGenerator(seed: seed)
        try disk.trace.forEachCut(using: &generator) { cut, loss, image in
            guard cut >= acknowledged else { return }
            let after = try Store.open(SimulatedDisk(image), memory: .alone, indexBytes: 1 << 20)
            for name in ["one", "two"] { #expect(try after.checkpoint(stream: name).number >= 1, "seed \(seed), \(loss)") }
            #expect(try after.scrub().findingCount == 0)
        }
    }

    /// The synchronous write of a segment entry is told of pages that are lost: the writer is broken, and others share nothing of it.
    @Test func aClaimThatIsToldOfALostPageBreaksTheWriter() throws {
        let disk = SimulatedDisk(byteCount: 72 << 20)
        try Store.create(on: disk, StoreConfiguration(slotCount: 8, identity: StoreIdentity(low: 1, high: 2)))
        let ground = try Store.openGround(disk, memory: .alone, indexBytes: 1 << 20)
        let store = Store(ground: ground)
        let writer = try store.createStream(name: "one", time: 1)
        try write(writer, 1)
        let known = PageContents.bytes(1001).withUnsafeBytes { Checksum(of: $0) }
        #expect(!ground.candidates(for: known).isEmpty)
        disk.failWriteBack(code: ENOSPC)
        try writer.begin(2)
        // More than a segment, so that another one is claimed.
        let error = #expect(throws: StoreError.self) {
            for part in 0..<20 as Range<UInt64> {
                let pages = (0..<100 as Range<UInt64>).map { (PageKey(rawValue: part * 100 + $0), 100_001 + (part * 100 + $0) * 2) }
                try PageContents.add(pages, to: writer)
            }
        }
        #expect(error?.isNoRoom == false, "\(String(describing: error))")
        #expect(writer.isBroken)
        #expect(ground.candidates(for: known).isEmpty)
        #expect(throws: StoreError.self) { try writer.flush() }
        withExtendedLifetime(store) {}
    }

    /// A slot of a dead writer whose write-back failed, of which somebody else was told: readers see it, the disk has the one before.
    ///
    /// What that one needs is not freed, and a collection has the slot written once more.
    @Test(arguments: 1...10) func aSlotOfADeadWriterIsNotBelieved(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let disk = SimulatedDisk(byteCount: 72 << 20)
        try Store.create(on: disk, StoreConfiguration(slotCount: 8, identity: StoreIdentity(low: 1, high: 2)))
        let bystander = disk.openedAgain()
        let dying = disk.openedAgain()
        let slots = StoreLayout.slotTableOffset..<StoreLayout.slotTableOffset + 2 * 4096
        let first = try Store.open(dying, memory: .alone, indexBytes: 1 << 20)
        let retention = RetentionPolicy.last(UInt64.random(in: 2...40, using: &generator))
        let writer = try first.createStream(name: "one", time: 1, options: WriterOptions(retention: retention))
        // The slot of a later anchor than the first, and the content before it was written.
        var before = disk.image
        var lost: UInt64?
        for number in 1...200 as ClosedRange<UInt64> {
            try write(writer, number)
            let image = disk.image
            try writer.flush()
            let now = disk.image
            for offset in stride(from: slots.lowerBound, to: slots.upperBound, by: 512) {
                guard number > 66, now.bytes(at: offset, count: 512) != image.bytes(at: offset, count: 512) else { continue }
                (before, lost) = (image, offset)
            }
            if lost != nil { break }
        }
        let place = try #require(lost, "seed \(seed)")
        dying.kill()
        disk.loseWriteBack(code: EIO, at: place, count: 512, before: before)
        #expect(throws: DiskError.self) { try bystander.flush() }

        let collecting = disk.openedAgain()
        let store = try Store.open(collecting, memory: .alone, indexBytes: 1 << 20)
        try store.collect()
        // What was freed is used again, and all of it reaches the disk.
        let other = try store.createStream(name: "two", time: 1)
        for number in 1...40 as ClosedRange<UInt64> { try write(other, number) }
        try other.finish()
        for image in [disk.platter, disk.image] {
            let after = try Store.open(SimulatedDisk(image), memory: .alone, indexBytes: 1 << 20)
            let scrubbed = try after.scrub()
            #expect(scrubbed.findingCount == 0, "seed \(seed): \(scrubbed.findings)")
            #expect(try after.history("one").count >= 2)
            for entry in try after.history("one") {
                let reader = try after.checkpoint(stream: "one", .number(entry.number))
                for page in 0..<20 as Range<UInt64> {
                    #expect(try PageContents.read(PageKey(rawValue: page), from: reader) == PageContents.bytes(entry.number * 1000 + page))
                }
            }
        }
        try store.collect()
        #expect(disk.platter.bytes(at: place, count: 512) == disk.image.bytes(at: place, count: 512))
    }

    /// The same is found, and mended, by a scrub.
    @Test func aScrubFindsASlotThatIsBehind() throws {
        let disk = SimulatedDisk(byteCount: 72 << 20)
        try Store.create(on: disk, StoreConfiguration(slotCount: 8, identity: StoreIdentity(low: 1, high: 2)))
        let dying = disk.openedAgain()
        let writer = try Store.open(dying, memory: .alone, indexBytes: 1 << 20).createStream(name: "one", time: 1)
        try write(writer, 1)
        try writer.flush()
        let before = disk.image
        try writer.name(1, "it")
        dying.kill()
        let places = stride(from: StoreLayout.slotTableOffset, to: StoreLayout.slotTableOffset + 2 * 4096, by: 512)
        let place = try #require(places.first { disk.image.bytes(at: $0, count: 512) != before.bytes(at: $0, count: 512) })
        disk.loseWriteBack(code: EIO, at: place, count: 512, before: before)
        try? disk.openedAgain().flush()
        let store = try Store.open(disk.openedAgain(), memory: .alone, indexBytes: 1 << 20)
        #expect(try store.scrub().findings.map(\.damage.what) == ["slot"])
        let repaired = try store.scrub(repairs: true)
        #expect(repaired.findingCount == 1 && repaired.findings.map(\.damage.what) == ["slot"])
        #expect(try store.scrub().findingCount == 0)
    }

    @Test func aFileSizeLimitIsNoRoomAndIsNamed() {
        let error = StoreError.disk(DiskError(.write, "disk", offset: 0, code: EFBIG))
        #expect(error.isNoRoom)
        #expect(!StoreError.disk(DiskError(.flush, "disk", code: EFBIG)).isNoRoom)
    }
}
