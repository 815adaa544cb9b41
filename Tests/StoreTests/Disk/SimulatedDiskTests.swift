import Store
import StoreSimulation
import Testing

@Suite struct SimulatedDiskTests {
    private func write(_ disk: SimulatedDisk, _ byte: UInt8, count: Int = 4096, at offset: UInt64) throws {
        try [UInt8](repeating: byte, count: count).withUnsafeBytes { try disk.write([$0], at: offset) }
    }

    @Test func readsBackWhatWasWrittenAcrossPieces() throws {
        let disk = SimulatedDisk(byteCount: 1 << 20)
        try write(disk, 7, count: 6000, at: 1000)
        #expect(disk.image.bytes(at: 999, count: 2) == [0, 7])
        #expect(disk.image.bytes(at: 6999, count: 2) == [7, 0])
        try disk.discard(at: 4096, count: 4096)
        #expect(disk.image.bytes(at: 4095, count: 2) == [7, 0])
        #expect(throws: DiskError.self) { try write(disk, 7, at: (1 << 20) - 100) }
    }

    @Test func failsTheChosenOperationOnceOrForEver() throws {
        let disk = SimulatedDisk(byteCount: 1 << 20)
        disk.setFaults(FaultPlan(index: 2, kind: .code(5), isForEver: false, operations: [.write]))
        try write(disk, 1, at: 0)
        #expect(throws: DiskError.self) { try write(disk, 2, at: 0) }
        try write(disk, 3, at: 0)
        disk.setFaults(FaultPlan(index: 1, kind: .short, isForEver: true, operations: [.write]))
        for _ in 0..<3 { #expect(throws: DiskError.self) { try write(disk, 4, at: 0) } }
        #expect(disk.image.bytes(at: 2047, count: 2) == [4, 3])
    }

    @Test func aCutKeepsWhatWasFlushedAndAnyPartOfTheRest() throws {
        let disk = SimulatedDisk(byteCount: 1 << 20)
        try write(disk, 1, at: 0)
        try disk.flush()
        try write(disk, 2, at: 0)
        try write(disk, 3, at: 4096)
        var generator = SeededGenerator(seed: 1)
        var found: Set<[UInt8]> = []
        disk.trace.forEachCut(variants: 20, using: &generator) { cut, _, image in
            guard cut == 4, let one = image.bytes(at: 0, count: 1), let other = image.bytes(at: 4096, count: 1) else { return }
            found.insert(one + other)
            #expect(one != [0])
        }
        #expect(found == [[1, 0], [1, 3], [2, 0], [2, 3]])
    }

    @Test func locksExcludeEachOther() throws {
        let disk = SimulatedDisk(byteCount: 1 << 20)
        var shared = try disk.lock(.gate, exclusive: false, wait: false)
        #expect(shared != nil)
        #expect(try disk.lock(.gate, exclusive: false, wait: false) != nil)
        #expect(try disk.lock(.gate, exclusive: true, wait: false) == nil)
        shared = nil
        let exclusive = try disk.lock(.gate, exclusive: true, wait: false)
        #expect(exclusive != nil)
        #expect(try disk.lock(.gate, exclusive: false, wait: false) == nil)
        #expect(try disk.lock(.stream(slot: 1), exclusive: true, wait: false) != nil)
        withExtendedLifetime(exclusive) {}
    }
}
