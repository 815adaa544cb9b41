internal import CLinux
import Linux
import Synchronization

/// Guest memory as one sequence of pages: the pages of the first region, then those of the next.
///
/// This numbering is what checkpoints use; it has no holes and depends only on `MachineState.memory`.
extension GuestMemory {
    /// Pages of all regions.
    public var pageCount: Int { regions.last.map { $0.firstPage + $0.count / pageBytes } ?? 0 }

    /// The region of a page, and its number in the region.
    @inline(__always)
    func locate(page: Int) -> (region: Int, page: Int)? {
        guard page >= 0 else { return nil }
        for index in regions.indices where page < regions[index].firstPage + regions[index].count / pageBytes {
            return (index, page - regions[index].firstPage)
        }
        return nil
    }

    /// Copies a page to a buffer of at least `pageBytes` bytes.
    ///
    /// A running guest may change it meanwhile: then the page is reported dirty again.
    ///
    /// - Precondition: `page` is below `pageCount`.
    @inline(__always)
    public func copy(page: Int, to target: UnsafeMutableRawPointer) {
        guard let place = locate(page: page) else { preconditionFailure("page \(page) is not guest memory") }
        memcpy(target, regions[place.region].mapping.base + place.page * pageBytes, pageBytes)
    }

    /// Takes all pages known to be written since they were taken last; calls `body` with each number in rising order.
    ///
    /// What vCPUs wrote is known after `Machine.harvestDirtyPages()`; what the VMM wrote is known at once.
    /// Costs time by dirty pages, not by the size of memory.
    @inline(__always)
    public func drainDirtyPages(_ body: (Int) -> Void) {
        for region in regions { region.dirty.drain { body(region.firstPage + $0) } }
    }

    /// Takes such pages from one on, in rising order, until `body` refuses one: that page and those after it still count as written.
    ///
    /// - Returns: the page that was refused; nil when there was none.
    @inline(__always)
    public func drainDirtyPages(from first: Int, while body: (Int) -> Bool) -> Int? {
        for region in regions where first < region.firstPage + region.count / pageBytes {
            let refused = region.dirty.drain(from: max(0, first - region.firstPage)) { body(region.firstPage + $0) }
            if let refused { return region.firstPage + refused }
        }
        return nil
    }

    /// Declares a page written: it belongs to the next checkpoint.
    ///
    /// - Precondition: `page` is below `pageCount`.
    public func markDirty(page: Int) {
        guard let place = locate(page: page) else { preconditionFailure("page \(page) is not guest memory") }
        regions[place.region].dirty.mark(page: place.page)
    }

    /// Pages whose contents come from a file or a checkpoint: they may have some although nobody has touched them yet.
    public var backedPages: [Range<Int>] { backing.withLock { $0 } }

    /// Declares pages to be backed by a file or a checkpoint.
    func markBacked(pages: Range<Int>) { backing.withLock { $0.append(pages) } }

    /// Declares whole pages of a checked range to be backed by a file.
    func markBacked(_ address: GuestAddress, count: Int) {
        guard let place = try? locate(address, count) else { return }
        let first = regions[place.region].firstPage + place.offset / pageBytes
        markBacked(pages: first..<first + count / pageBytes)
    }

    /// The host address of a page, for those who ask the kernel about it.
    ///
    /// - Precondition: `page` is below `pageCount`.
    public func address(page: Int) -> UnsafeRawPointer {
        guard let place = locate(page: page) else { preconditionFailure("page \(page) is not guest memory") }
        return UnsafeRawPointer(regions[place.region].mapping.base + place.page * pageBytes)
    }
}
