import StoreSimulation
import Synchronization

@testable import Store

/// The least a stream can stand on: slots in single sectors, space that is never freed, an index in memory.
final class BumpGround: StoreGround {
    let disk: any Disk
    let identity = StoreIdentity(low: 1, high: 2)
    let slotCount: UInt32 = 16
    private let records = Mutex<[UInt32: SlotRecord]>([:])
    private let index = Mutex<[Checksum: PageLocation]>([:])
    private let top: Mutex<UInt64>
    /// The largest extent given: small ones scatter an epoch.
    let extentBlocks: Int

    init(disk: any Disk, extentBlocks: Int = 1024) {
        self.disk = disk
        self.extentBlocks = extentBlocks
        top = Mutex(1 << 20)
    }

    func slot(at index: UInt32) throws(StoreError) -> SlotRecord? { records.withLock { $0[index] } }
    func slots() throws(StoreError) -> [(index: UInt32, record: SlotRecord)] {
        records.withLock { $0.sorted { $0.key < $1.key }.map { (index: $0.key, record: $0.value) } }
    }
    func damagedSlots() throws(StoreError) -> Set<UInt32> { [] }
    func slotDamage() throws(StoreError) -> StoreError? { nil }
    func write(_ record: SlotRecord?, toSlot index: UInt32) throws(StoreError) { records.withLock { $0[index] = record } }
    func makeAllocator(forSlot index: UInt32) throws(StoreError) -> any ExtentAllocator { Allocator(ground: self) }
    func candidates(for checksum: Checksum) -> [PageLocation] { index.withLock { $0[checksum].map { [$0] } ?? [] } }
    func publish(_ checksum: Checksum, at location: PageLocation) { index.withLock { $0[checksum] = location } }
    func forgetHints() { index.withLock { $0 = [:] } }
    func share(_ location: PageLocation) -> Bool { true }
    func enterGate() throws(StoreError) -> any DiskLockHandle {
        do throws(DiskError) {
            guard let handle = try disk.lock(.gate, exclusive: false, wait: true) else { throw DiskError(.lock, disk.name, code: 11) }
            return handle
        } catch {
            throw .disk(error)
        }
    }

    private final class Allocator: ExtentAllocator {
        let ground: BumpGround
        var usesReserve: Bool {
            get { false }
            set {}
        }
        init(ground: BumpGround) { self.ground = ground }

        func allocate(blocks: Int, preferred: UInt64?) throws(StoreError) -> Extent {
            let count = min(blocks, ground.extentBlocks)
            let bytes = UInt64(count * StoreFormat.blockBytes)
            // A gap after each extent of a scattering ground.
            let gap = UInt64(ground.extentBlocks < 1024 ? StoreFormat.blockBytes : 0)
            let offset: UInt64? = ground.top.withLock { top in
                guard top + bytes <= ground.disk.byteCount else { return nil }
                defer { top += bytes + gap }
                return top
            }
            guard let offset else { throw .full(store: ground.disk.name, bytes: bytes) }
            return Extent(offset: offset, blocks: count)
        }
        func release(_ extent: Extent) {}
        func hold(_ extent: Extent) {}
        func letGo() {}
        var pinned: Extent {
            get { Extent(offset: 0, blocks: 0) }
            set {}
        }
        func yield(keeping extent: Extent) throws(StoreError) {}
        func close() throws(StoreError) {}
    }
}
