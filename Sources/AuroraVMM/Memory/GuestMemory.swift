internal import CLinux
public import Linux
import Synchronization

/// An access to guest memory that was refused: the range is not, or not wholly, inside one region.
public struct GuestMemoryError: Error, Hashable, Sendable, CustomStringConvertible {
    /// First byte asked for.
    public let address: GuestAddress
    /// Bytes asked for.
    public let count: Int

    /// "Guest memory has no N bytes at ADDRESS".
    public var description: String { "Guest memory has no \(count) bytes at \(address)" }
}

/// The memory of a guest as the VMM sees it: checked copies in and out, never references.
///
/// A guest writes its memory at any time, so nothing read here stays true: read a value once, check the copy, use the
/// copy. What the VMM writes is marked in a dirty bitmap because KVM's dirty ring records only what vCPUs write.
///
/// `@unchecked Sendable`: the regions never change after `init`; the bytes are shared with a running guest by nature.
public final class GuestMemory: @unchecked Sendable {
    /// A contiguous piece of guest-physical memory.
    public struct Region: Sendable {
        /// Guest-physical address of the first byte.
        public let start: GuestAddress
        /// The host memory behind it.
        public let mapping: Mapping
        /// Length in bytes.
        public var count: Int { mapping.count }
        /// One bit a page, set by writes of the VMM, and of vCPUs when they are harvested.
        let dirty: DirtyBitmap
        /// The number of the first page among the pages of all regions.
        public internal(set) var firstPage = 0

        /// Places host memory at a guest-physical address.
        public init(start: GuestAddress, mapping: Mapping) {
            self.start = start
            self.mapping = mapping
            dirty = DirtyBitmap(pages: mapping.count / pageBytes)
        }
    }

    /// All regions, by address.
    public let regions: [Region]
    /// Fetches pages that are not there yet; nil when all are.
    public let lazy: LazyMemory?

    let backing = Mutex<[Range<Int>]>([])

    /// Makes the guest-physical address space of these regions, which must not overlap.
    public convenience init(regions: [Region]) { self.init(regions: regions, lazy: nil) }

    /// Makes an address space whose pages are fetched when they are touched; its extents are the regions, by address.
    init(regions: [Region], lazy: LazyMemory?) {
        self.lazy = lazy
        var regions = regions.sorted { $0.start < $1.start }
        var firstPage = 0
        for index in regions.indices {
            regions[index].firstPage = firstPage
            firstPage += regions[index].count / pageBytes
        }
        self.regions = regions
    }

    /// The region and offset of a range that lies wholly inside one region.
    @inline(__always)
    func locate(_ address: GuestAddress, _ count: Int) throws(GuestMemoryError) -> (region: Int, offset: Int) {
        for index in regions.indices {
            let start = regions[index].start.rawValue
            guard address.rawValue >= start else { break }
            let offset = address.rawValue - start
            let size = UInt64(regions[index].count)
            if count >= 0, offset <= size, UInt64(count) <= size - offset { return (index, Int(offset)) }
        }
        throw GuestMemoryError(address: address, count: count)
    }

    /// `locate` for a range whose bytes are about to be used: fetches what is not there yet.
    @inline(__always)
    func reach(_ address: GuestAddress, _ count: Int) throws(GuestMemoryError) -> (region: Int, offset: Int) {
        let place = try locate(address, count)
        guard let lazy else { return place }
        do throws(PageSourceError) { try lazy.ensure(extent: place.region, offset: place.offset, count: count) } catch {
            throw GuestMemoryError(address: address, count: count)
        }
        return place
    }

    /// Copies guest bytes into a buffer of the host.
    ///
    /// - Throws: `GuestMemoryError` when the range is not guest memory.
    public func read(_ address: GuestAddress, into buffer: UnsafeMutableRawBufferPointer) throws(GuestMemoryError) {
        let (region, offset) = try reach(address, buffer.count)
        guard let target = buffer.baseAddress else { return }
        memcpy(target, regions[region].mapping.base + offset, buffer.count)
    }

    /// Copies host bytes into the guest and marks the pages dirty.
    ///
    /// - Throws: `GuestMemoryError` when the range is not guest memory.
    public func write(_ address: GuestAddress, _ buffer: UnsafeRawBufferPointer) throws(GuestMemoryError) {
        let (region, offset) = try reach(address, buffer.count)
        guard let source = buffer.baseAddress else { return }
        memcpy(regions[region].mapping.base + offset, source, buffer.count)
        regions[region].dirty.mark(offset: offset, count: buffer.count)
    }

    /// Reads `count` bytes as an array.
    ///
    /// - Throws: `GuestMemoryError` when the range is not guest memory.
    public func bytes(_ address: GuestAddress, count: Int) throws(GuestMemoryError) -> [UInt8] {
        _ = try reach(address, count)
        var result = [UInt8](repeating: 0, count: count)
        let pointer = try pointer(address, count)
        result.withUnsafeMutableBytes { $0.copyMemory(from: UnsafeRawBufferPointer(start: pointer, count: count)) }
        return result
    }

    /// Writes an array of bytes and marks the pages dirty.
    ///
    /// - Throws: `GuestMemoryError` when the range is not guest memory.
    public func write(_ address: GuestAddress, _ bytes: [UInt8]) throws(GuestMemoryError) {
        let (region, offset) = try reach(address, bytes.count)
        bytes.withUnsafeBytes { source in
            guard let base = source.baseAddress else { return }
            memcpy(regions[region].mapping.base + offset, base, source.count)
        }
        regions[region].dirty.mark(offset: offset, count: bytes.count)
    }

    /// Reads one little-endian integer; the guest's view of it may change at once.
    ///
    /// - Throws: `GuestMemoryError` when the range is not guest memory.
    @inline(__always)
    public func load<Value: FixedWidthInteger>(_ address: GuestAddress, as type: Value.Type = Value.self) throws(GuestMemoryError) -> Value
    {
        let (region, offset) = try reach(address, MemoryLayout<Value>.size)
        return Value(littleEndian: (regions[region].mapping.base + offset).loadUnaligned(as: Value.self))
    }

    /// Writes one little-endian integer and marks its page dirty.
    ///
    /// - Throws: `GuestMemoryError` when the range is not guest memory.
    @inline(__always)
    public func store<Value: FixedWidthInteger>(_ value: Value, at address: GuestAddress) throws(GuestMemoryError) {
        let (region, offset) = try reach(address, MemoryLayout<Value>.size)
        (regions[region].mapping.base + offset).storeBytes(of: value.littleEndian, as: Value.self)
        regions[region].dirty.mark(offset: offset, count: MemoryLayout<Value>.size)
    }

    /// The host address of a checked range, for `preadv`, `readv` and the like in the lowest layer only.
    ///
    /// The caller must call `markDirty` after the kernel wrote through it, and must not keep it beyond the call.
    ///
    /// - Throws: `GuestMemoryError` when the range is not guest memory.
    func pointer(_ address: GuestAddress, _ count: Int) throws(GuestMemoryError) -> UnsafeMutableRawPointer {
        let (region, offset) = try reach(address, count)
        return regions[region].mapping.base + offset
    }

    /// Marks pages that were written through `pointer(_:_:)`.
    ///
    /// - Throws: `GuestMemoryError` when the range is not guest memory.
    func markDirty(_ address: GuestAddress, _ count: Int) throws(GuestMemoryError) {
        let (region, offset) = try locate(address, count)
        regions[region].dirty.mark(offset: offset, count: count)
    }
}
