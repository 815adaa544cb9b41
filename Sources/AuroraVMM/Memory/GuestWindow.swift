import Linux
import Synchronization

/// A checked range of guest memory, resolved once and used often: a ring, or the buffer of a request.
///
/// The guest writes the same bytes at any time, so every word is read once, atomically, and only the copy is judged.
struct GuestWindow {
    /// The host address of the first byte; valid as long as the `GuestMemory` it came from.
    let base: UnsafeMutableRawPointer
    /// Length in bytes.
    let count: Int
    /// The region it lies in, and where.
    let region: Int
    let offset: Int
    private let dirty: DirtyBitmap

    init(base: UnsafeMutableRawPointer, count: Int, region: Int, offset: Int, dirty: DirtyBitmap) {
        self.base = base
        self.count = count
        self.region = region
        self.offset = offset
        self.dirty = dirty
    }

    /// Marks all pages of the window as written.
    ///
    /// Called after writing, so that no harvest misses the bytes.
    @inline(__always)
    func markDirty() { dirty.mark(offset: offset, count: count) }

    /// Marks the pages of the first `length` bytes as written.
    @inline(__always)
    func markDirty(prefix length: Int) { dirty.mark(offset: offset, count: min(length, count)) }

    /// Marks the pages of `length` bytes from `start` as written.
    @inline(__always)
    func markDirty(from start: Int, length: Int) {
        precondition(start >= 0 && length >= 0 && start <= count && length <= count - start)
        dirty.mark(offset: offset + start, count: length)
    }

    /// One word of the window that both sides use at once.
    ///
    /// The offset must be aligned and inside the window.
    @inline(__always)
    func atomic<Value: AtomicRepresentable>(_ offset: Int, as type: Value.Type) -> UnsafeMutablePointer<Atomic<Value>> {
        precondition(offset >= 0 && offset <= count - MemoryLayout<Atomic<Value>>.size)
        return (base + offset).assumingMemoryBound(to: Atomic<Value>.self)
    }
}

extension GuestMemory {
    /// Resolves a range for repeated use.
    ///
    /// - Throws: `GuestMemoryError` when the range is not wholly inside one region.
    @inline(__always)
    func window(_ address: GuestAddress, _ count: Int) throws(GuestMemoryError) -> GuestWindow {
        let (region, offset) = try reach(address, count)
        return window(region, offset, count)
    }

    /// Resolves a range whose pages need not be there yet: who uses its contents fetches them.
    ///
    /// - Throws: `GuestMemoryError` when the range is not wholly inside one region.
    @inline(__always)
    func place(_ address: GuestAddress, _ count: Int) throws(GuestMemoryError) -> GuestWindow {
        let (region, offset) = try locate(address, count)
        return window(region, offset, count)
    }

    @inline(__always)
    private func window(_ region: Int, _ offset: Int, _ count: Int) -> GuestWindow {
        GuestWindow(
            base: regions[region].mapping.base + offset, count: count, region: region, offset: offset, dirty: regions[region].dirty)
    }
}
