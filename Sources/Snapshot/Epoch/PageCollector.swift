internal import AuroraVMM
internal import Linux

/// Copies the pages of the open epoch; a page that is copied again takes the place it has.
///
/// Used by the pipeline's thread alone.
final class PageCollector {
    let batch: PageBatch
    private let memory: GuestMemory
    /// For each page of memory: the set it was copied for, and its position there.
    private let table: Mapping
    private var generation: UInt32 = 1

    /// - Throws: `SystemError` when there is no address space.
    init(_ memory: GuestMemory, pool: PagePool) throws(SystemError) {
        self.memory = memory
        batch = PageBatch(pool)
        let bytes = memory.pageCount * MemoryLayout<UInt64>.size
        table = try .anonymous(count: max(1, (bytes + pageBytes - 1) / pageBytes) * pageBytes, what: "the table of copied pages")
    }

    /// Copies a page of memory as it is now; false when no buffer is left.
    ///
    /// A page of zeros takes no buffer. The guest may write it after it was looked at: then it is reported again.
    @inline(__always)
    func copy(page: Int) -> Bool {
        let slots = table.base.assumingMemoryBound(to: UInt64.self)
        let known = slots[page]
        if UInt32(truncatingIfNeeded: known >> 32) == generation {
            let position = Int(known & 0xffff_ffff)
            guard let buffer = batch.buffer(at: position) ?? batch.replaceZero(at: position) else { return false }
            memory.copy(page: page, to: buffer)
            return true
        }
        let position = batch.count
        let key = PageKey(map: PageKey.memory, page: page)
        if ZeroPage.matches(memory.address(page: page)) {
            batch.addZero(key)
        } else {
            guard let buffer = batch.add(key) else { return false }
            memory.copy(page: page, to: buffer)
        }
        slots[page] = UInt64(generation) << 32 | UInt64(position)
        return true
    }

    /// Forgets the pages of memory copied so far, which count as written again.
    func abandon() {
        for key in batch.keys where key.map == PageKey.memory { memory.markDirty(page: key.page) }
        _ = takeAll()
    }

    /// The pages copied so far, and a new beginning.
    func takeAll() -> PageSet {
        generation &+= 1
        if generation == 0 {
            table.bytes.initializeMemory(as: UInt8.self, repeating: 0)
            generation = 1
        }
        return batch.takeAll()
    }
}
