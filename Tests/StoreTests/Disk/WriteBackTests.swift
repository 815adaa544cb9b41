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

    @Test func aFileSizeLimitIsNoRoomAndIsNamed() {
        let error = StoreError.disk(DiskError(.write, "disk", offset: 0, code: EFBIG))
        #expect(error.isNoRoom)
        #expect(!StoreError.disk(DiskError(.flush, "disk", code: EFBIG)).isNoRoom)
    }
}
