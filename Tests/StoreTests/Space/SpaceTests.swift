import StoreSimulation
import Testing

@testable import Store

/// A small store in memory: 16 segments.
func smallStore(megabytes: UInt64 = 72, slots: UInt32 = 16) throws -> (disk: SimulatedDisk, ground: Ground) {
    let disk = SimulatedDisk(byteCount: megabytes << 20)
    try Store.create(on: disk, StoreConfiguration(slotCount: slots, identity: StoreIdentity(low: 1, high: 2)))
    return (disk, try Store.openGround(disk, memory: .alone, indexBytes: 1 << 20))
}

@Suite struct SpaceTests {
    @Test func aNewStoreIsEmptyAndSparse() throws {
        let (disk, ground) = try smallStore()
        #expect(ground.layout.segmentCount == 17)
        #expect(try ground.slots().isEmpty)
        #expect(try ground.freeBytes() == 17 * 4 << 20)
        #expect(disk.image.writtenBytes <= 2 * 4096)
    }

    @Test func refusesADiskWithSomethingOnIt() throws {
        let disk = SimulatedDisk(byteCount: 64 << 20)
        disk.damage { $0.write([1], at: 1000) }
        #expect(throws: StoreError.self) { try Store.create(on: disk, StoreConfiguration()) }
        try Store.create(on: disk, StoreConfiguration(slotCount: 8, overwrites: true))
        _ = try Store.openGround(disk, memory: .alone)
        #expect(throws: StoreError.self) { try Store.create(on: disk, StoreConfiguration()) }
    }

    @Test func opensWithEitherSuperblock() throws {
        let (disk, _) = try smallStore()
        for copy in 0..<2 {
            let other = SimulatedDisk(disk.image)
            other.damage { $0.flip(bit: 3, at: StoreLayout.superblockOffsets[copy] + 100) }
            #expect(try Store.openGround(other, memory: .alone).identity == StoreIdentity(low: 1, high: 2))
            other.damage { $0.flip(bit: 3, at: StoreLayout.superblockOffsets[1 - copy] + 100) }
            #expect(throws: StoreError.self) { try Store.openGround(other, memory: .alone) }
        }
    }

    @Test func slotsAlternateAndSurviveTheLossOfTheNewerCopy() throws {
        let (disk, ground) = try smallStore()
        func record(_ number: UInt64) -> SlotRecord {
            SlotRecord(
                stream: StreamIdentity(low: 5, high: 6), name: "one",
                anchor: DataReference(location: PageLocation(rawValue: number << 16 | 4096), checksum: Checksum(low: number, high: 0)))
        }
        for number in 1...5 as ClosedRange<UInt64> {
            try ground.write(record(number), toSlot: 3)
            #expect(try ground.slot(at: 3) == record(number))
        }
        #expect(try ground.slots().map(\.index) == [3])
        disk.damage { $0.flip(bit: 0, at: ground.layout.slotOffset(3, copy: 0) + 50) }
        #expect(try ground.slot(at: 3) == record(4))
        disk.damage { $0.flip(bit: 0, at: ground.layout.slotOffset(3, copy: 1) + 50) }
        #expect(throws: StoreError.self) { try ground.slot(at: 3) }
        try ground.write(nil, toSlot: 3)
        #expect(try ground.slot(at: 3) == nil)
    }

    @Test func aDamagedCopyOfAReusedSlotIsNotTakenForAFreeOne() throws {
        let (disk, ground) = try smallStore()
        let record = SlotRecord(
            stream: StreamIdentity(low: 5, high: 6), name: "one",
            anchor: DataReference(location: PageLocation(rawValue: 1 << 16 | 4096), checksum: Checksum(low: 1, high: 0)))
        try ground.write(record, toSlot: 0)
        try ground.write(nil, toSlot: 0)
        try ground.write(record, toSlot: 0)
        disk.damage { $0.flip(bit: 0, at: ground.layout.slotOffset(0, copy: 0) + 50) }
        #expect(throws: StoreError.self) { try ground.slot(at: 0) }
        #expect(try ground.allSlots().damaged.map(\.index) == [0])
        #expect(try ground.damagedSlots() == [0])
        #expect(try ground.slotDamage() != nil)
    }

    @Test func allocatorsNeverGiveABlockTwice() throws {
        let seed = UInt64.random(in: 0 ... .max)
        var generator = SeededGenerator(seed: seed)
        let (_, ground) = try smallStore()
        var allocators = try (0..<3 as Range<UInt32>).map { try ground.makeAllocator(forSlot: $0) }
        var taken: Set<UInt64> = []
        var extents: [(Int, Extent)] = []
        var isFull = false
        var released: UInt64 = 0
        for step in 0..<400 where !isFull {
            let which = Int.random(in: 0..<3, using: &generator)
            switch Int.random(in: 0..<10, using: &generator) {
            case 0 where !extents.isEmpty:
                let index = Int.random(in: 0..<extents.count, using: &generator)
                let (owner, extent) = extents[index]
                guard owner == which else { continue }
                extents.remove(at: index)
                allocators[owner].release(extent)
                released += UInt64(extent.blocks)
                for block in 0..<extent.blocks { taken.remove(extent.offset + UInt64(block) * 4096) }
            case 1:
                try allocators[which].close()
                allocators[which] = try ground.makeAllocator(forSlot: UInt32(which))
                extents.removeAll { $0.0 == which }
            default:
                do throws(StoreError) {
                    let preferred = Bool.random(using: &generator) ? extents.last?.1.end : nil
                    let wanted = Int.random(in: 1...300, using: &generator)
                    let extent = try allocators[which].allocate(blocks: wanted, preferred: preferred)
                    #expect((1...wanted).contains(extent.blocks))
                    for block in 0..<extent.blocks {
                        let isNew = taken.insert(extent.offset + UInt64(block) * 4096).inserted
                        #expect(isNew, "seed \(seed), step \(step)")
                    }
                    extents.append((which, extent))
                } catch {
                    guard case .full = error else { throw error }
                    isFull = true
                }
            }
        }
        for allocator in allocators { try allocator.close() }
        // What is free on the disk is what nobody was given.
        var free: UInt64 = 0
        for entry in try ground.table.entries(0..<ground.layout.segmentCount) {
            let entry = try #require(entry)
            #expect(entry.owner == nil)
            free += UInt64(SegmentBits.count - entry.used.setCount)
        }
        // What was released after its segment had been given back waits for a collection.
        #expect(free <= ground.layout.blockCount - UInt64(taken.count), "seed \(seed)")
        #expect(free + released >= ground.layout.blockCount - UInt64(taken.count), "seed \(seed)")
        #expect(try ground.freeBytes() == free * 4096)
    }

    @Test func aFullStoreKeepsItsReserveForThoseWhoFree() throws {
        let (_, ground) = try smallStore()
        let allocator = try ground.makeAllocator(forSlot: 0)
        var count = 0
        while (try? allocator.allocate(blocks: 512, preferred: nil)) != nil { count += 1 }
        #expect(count == 32)
        allocator.usesReserve = true
        #expect(try allocator.allocate(blocks: 1, preferred: nil).blocks == 1)
    }

    /// Exhausted segments are given back when new ones are claimed, but for those with what nothing leads to yet.
    @Test(arguments: [true, false])
    func whatIsHeldKeepsItsSegment(isHeld: Bool) throws {
        let (_, ground) = try smallStore()
        let allocator = try ground.makeAllocator(forSlot: 0)
        let anchor = try allocator.allocate(blocks: 2, preferred: nil)
        let block = try #require(ground.layout.block(at: anchor.offset))
        let segment = UInt32(block / UInt64(SegmentBits.count))
        func owner() throws -> SegmentEntry.Owner? { try #require(try ground.table.entries(segment..<segment + 1).first ?? nil).owner }
        if isHeld { allocator.hold(anchor) }
        for _ in 0..<6 { _ = try allocator.allocate(blocks: SegmentBits.count, preferred: nil) }
        #expect(try (owner() != nil) == isHeld)
        allocator.letGo()
        for _ in 0..<3 { _ = try allocator.allocate(blocks: SegmentBits.count, preferred: nil) }
        #expect(try owner() == nil)
    }

    @Test func preferredPlacesFollowOneAnother() throws {
        let (_, ground) = try smallStore()
        let allocator = try ground.makeAllocator(forSlot: 0)
        var last = try allocator.allocate(blocks: 10, preferred: nil)
        for _ in 0..<10 {
            let next = try allocator.allocate(blocks: 7, preferred: last.end)
            #expect(next.offset == last.end)
            last = next
        }
    }
}
