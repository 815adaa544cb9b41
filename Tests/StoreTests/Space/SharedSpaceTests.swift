import CLinux
import Linux
import StoreSimulation
import Testing

@testable import Store

/// One store under several runtime directories: each has shared memory of its own, whose hints know nothing of the others.
@Suite struct SharedSpaceTests {
    /// Another memory's writers hold nearly all segments that the own hints call free: the few others are found.
    @Test func fullOnlyWhenTheEntriesSaySo() throws {
        let (disk, ground) = try smallStore(megabytes: 136)
        let other = try Store.openGround(disk.openedAgain(), memory: .alone, indexBytes: 1 << 20)
        let count = Int(ground.layout.segmentCount)
        #expect(try ground.freeBytes() == UInt64(count) * 4 << 20)
        let foreign = try other.makeAllocator(forSlot: 1)
        var last = Extent(offset: 0, blocks: 0)
        for _ in 0..<count - 4 { last = try foreign.allocate(blocks: SegmentBits.count, preferred: nil) }
        let own = try ground.makeAllocator(forSlot: 0)
        #expect(try own.allocate(blocks: 100, preferred: nil).blocks == 100)
        // The last one is for those who free.
        for _ in 0..<2 { _ = try own.allocate(blocks: SegmentBits.count, preferred: nil) }
        let error = #expect(throws: StoreError.self) {
            for _ in 0..<3 { _ = try own.allocate(blocks: SegmentBits.count, preferred: nil) }
        }
        #expect(error?.isNoRoom == true)
        #expect(error.map { "\($0)" }?.contains("whatever its disk has") == true)
        // What the others give back is found, too, though nobody has told this memory.
        foreign.release(last)
        try foreign.close()
        #expect(try own.allocate(blocks: SegmentBits.count, preferred: nil).blocks > 0)
    }

    private func commit(_ writer: StreamWriter, _ number: UInt64, _ pages: [(UInt64, UInt64)]) throws {
        try writer.begin(number)
        try PageContents.add(pages.map { (PageKey(rawValue: $0.0), $0.1) }, to: writer)
        try writer.close(bytes: [1], time: number)
        try writer.flush()
    }

    /// Field report S1: what another runtime directory's collection freed is not shared by hints from before.
    @Test func hintsFromBeforeAnothersCollectionAreForgotten() throws {
        let disk = SimulatedDisk(byteCount: 72 << 20)
        try Store.create(on: disk, StoreConfiguration(slotCount: 8, identity: StoreIdentity(low: 1, high: 2)))
        let (one, two) = (try TemporaryDirectory(), try TemporaryDirectory())
        let pages = (0..<40 as Range<UInt64>).filter { $0 % 8 < 5 }.map { ($0, 1001 + $0 * 2) }
        let rest = (0..<40 as Range<UInt64>).filter { $0 % 8 >= 5 }.map { ($0, 5001 + $0 * 2) }
        let numbers: [UInt32] = try {
            let process = disk.openedAgain()
            let store = try Store.open(process, memory: .directory(one.path), indexBytes: 1 << 20)
            let writer = try store.createStream(name: "one", time: 1)
            try commit(writer, 1, pages + rest)
            try commit(writer, 2, pages.map { ($0.0, 0) })
            try writer.drop([1])
            process.kill()
            return [try store.wholeGround().memory.number]
        }()
        try {
            let store = try Store.open(disk.openedAgain(), memory: .directory(two.path), indexBytes: 1 << 20)
            #expect(try store.collect().blocksFreed > 10)
            #expect(try store.wholeGround().memory.number != numbers[0])
        }()
        let process = disk.openedAgain()
        let store = try Store.open(process, memory: .directory(one.path), indexBytes: 1 << 20)
        #expect(try store.wholeGround().memory.number == numbers[0], "the same memory is used again")
        let writer = try store.writer(for: "one")
        try commit(writer, 3, pages)
        #expect(try store.scrub().findings == [])
        process.kill()
        let last = try Store.open(disk.openedAgain(), memory: .directory(two.path), indexBytes: 1 << 20)
        let filler = try last.createStream(name: "two", time: 1)
        for number in 1...3 as ClosedRange<UInt64> { try commit(filler, number, (0..<400).map { ($0, 100_001 + number * 1000 + $0) }) }
        let reader = try last.checkpoint(stream: "one", .number(3))
        for (page, seed) in pages + rest {
            #expect(try PageContents.read(PageKey(rawValue: page), from: reader) == PageContents.bytes(seed))
        }
        withExtendedLifetime((store, writer)) {}
    }

    /// The second guard, without the first: a hint to a block that is free, or in a segment that another memory's writer fills, is refused.
    @Test func whatIsSharedIsInUseByItsEntry() throws {
        let (disk, ground) = try smallStore()
        let other = try Store.openGround(disk.openedAgain(), memory: .alone, indexBytes: 1 << 20)
        let own = try ground.makeAllocator(forSlot: 0)
        let taken = try own.allocate(blocks: 1, preferred: nil)
        let stranger = try other.makeAllocator(forSlot: 1)
        let foreign = try stranger.allocate(blocks: 1, preferred: nil)
        func location(_ offset: UInt64) throws -> PageLocation { try #require(PageLocation(offset: offset, length: 4096)) }
        #expect(try ground.share(location(taken.offset)))
        #expect(try !ground.share(location(foreign.offset)))
        #expect(try !other.share(location(taken.offset)))
        #expect(try !ground.share(location(ground.layout.segmentOffset(9))))
        try own.close()
        #expect(try other.share(location(taken.offset)), "what nobody owns and is in use is everybody's")
        #expect(try !ground.share(location(taken.offset + 4096)))
        withExtendedLifetime(stranger) {}
    }

    /// A copy of a store's file, under the same runtime directory: each has memory of its own, and both live.
    @Test func aCopyAndItsOriginalLiveBesideEachOther() throws {
        let (files, runtime) = (try TemporaryDirectory(), try TemporaryDirectory())
        let path = "\(files.path)/original"
        try Store.create(on: try FileDisk.create(path, byteCount: 72 << 20), StoreConfiguration(slotCount: 8))
        func open(_ path: String) throws -> Store {
            try Store.open(try FileDisk.open(path), memory: .directory(runtime.path), indexBytes: 1 << 20)
        }
        do {
            let writer = try open(path).createStream(name: "one", time: 1)
            try commit(writer, 1, (0..<100).map { ($0, 2001 + $0 * 2) })
            try writer.finish()
        }
        let copy = "\(files.path)/copy"
        try copyFile(path, copy)
        let stores = [try open(path), try open(copy)]
        #expect(try stores[0].identity == stores[1].identity)
        #expect(try stores[0].wholeGround().memory.number != stores[1].wholeGround().memory.number)
        var writers = try stores.map { try $0.writer(for: "one") }
        for round in 2...20 as ClosedRange<UInt64> {
            for (index, writer) in writers.enumerated() {
                let seed = 10_001 + round * 1000 + UInt64(index) * 100_000
                try commit(writer, round, (0..<60).map { ($0, seed + $0 * 2) })
                if round > 3 { try writer.drop([round - 2]) }
                try writer.yieldSpace()
                try stores[index].collect()
            }
        }
        for store in stores { #expect(try store.scrub().findings == []) }
        for (index, store) in stores.enumerated() {
            let seed = UInt64(10_001 + 20_000 + index * 100_000)
            let reader = try store.checkpoint(stream: "one")
            #expect(try PageContents.read(PageKey(rawValue: 7), from: reader) == PageContents.bytes(seed + 14))
        }
        let before = try stores[0].identity
        #expect(throws: StoreError.self, "it is in use") { try Store.renewIdentity(of: try FileDisk.open(copy)) }
        writers = []
        try identityIsRenewed(copy, before, runtime.path, files.path)
    }

    private func identityIsRenewed(_ copy: String, _ before: StoreIdentity, _ runtime: String, _ files: String) throws {
        let other = "\(files)/other"
        try copyFile(copy, other)
        let identity = try Store.renewIdentity(of: try FileDisk.open(other))
        #expect(identity != before)
        let store = try Store.open(try FileDisk.open(other), memory: .directory(runtime), indexBytes: 1 << 20)
        #expect(try store.identity == identity)
        #expect(try store.scrub().findings == [])
        #expect(try store.history("one").last?.number == 20)
    }

    private func copyFile(_ from: String, _ to: String) throws {
        let source = Int32(clinux_open(from, O_RDONLY, 0))
        let target = Int32(clinux_open(to, O_RDWR | O_CREAT | O_EXCL, 0o600))
        try #require(source >= 0 && target >= 0)
        defer { for file in [source, target] { close(file) } }
        var buffer = [UInt8](repeating: 0, count: 1 << 20)
        var offset = 0
        while true {
            let count = pread(source, &buffer, buffer.count, off_t(offset))
            guard count > 0 else { break }
            try #require(pwrite(target, buffer, count, off_t(offset)) == count)
            offset += count
        }
    }

    /// A store of the version before is opened, and from then on says that collections leave stamps.
    @Test func aStoreOfTheVersionBeforeIsOpenedAndMarked() throws {
        let disk = SimulatedDisk(byteCount: 72 << 20)
        try Store.create(on: disk, StoreConfiguration(slotCount: 8, identity: StoreIdentity(low: 1, high: 2)))
        var old = try Store.readSuperblock(disk)
        old.minor = 0
        old.readOnlyCompatible = 0
        for copy in 0..<2 { disk.damage { $0.write(old.encode(copy: copy), at: StoreLayout.superblockOffsets[copy]) } }
        let store = try Store.open(disk, memory: .alone, indexBytes: 1 << 20)
        for copy in 0..<2 {
            let found = try Store.superblock(disk, copy: copy)
            #expect(found.minor == 1 && found.readOnlyCompatible == Superblock.stampFeature && found.layout == old.layout)
        }
        #expect(try CollectionStamp.read(disk, identity: StoreIdentity(low: 1, high: 2)) == CollectionStamp.none)
        try store.collect()
        let stamp = try CollectionStamp.read(disk, identity: StoreIdentity(low: 1, high: 2))
        #expect(stamp > CollectionStamp.damaged)
        disk.damage { $0.flip(bit: 1, at: CollectionStamp.offset + 9) }
        #expect(try CollectionStamp.read(disk, identity: StoreIdentity(low: 1, high: 2)) == CollectionStamp.damaged)
        #expect(try store.scrub().findingCount == 0)
    }

    /// The files of stores that are gone are removed when another one is made; those of stores that are there, or in use, are not.
    @Test func filesOfStoresThatAreGoneAreRemoved() throws {
        let (stores, runtime) = (try TemporaryDirectory(), try TemporaryDirectory())
        func files() throws -> Int { try FileTree.names(in: runtime.path).count }
        func open(_ name: String) throws -> Store {
            let path = "\(stores.path)/\(name)"
            if FileDisk.place(of: path) == nil {
                let disk = try FileDisk.create(path, byteCount: 72 << 20)
                try Store.create(on: disk, StoreConfiguration(slotCount: 8, identity: StoreIdentity(low: 1, high: 2)))
            }
            return try Store.open(try FileDisk.open(path), memory: .directory(runtime.path), indexBytes: 1 << 20)
        }
        let used = try open("used")
        for name in ["gone", "there", "replaced"] { withExtendedLifetime(try open(name)) {} }
        #expect(try files() == 4)
        for name in ["gone", "replaced", "used"] { unlink("\(stores.path)/\(name)") }
        // Another file of the same name has memory of its own.
        withExtendedLifetime(try open("replaced")) {}
        #expect(try files() == 3)
        #expect(FileDisk.place(of: "\(stores.path)/gone") == nil)
        try withExtendedLifetime(used) { withExtendedLifetime(try open("new")) {} }
        #expect(try files() == 4)
        withExtendedLifetime(try open("there")) {}
        #expect(try files() == 4)
    }
}
