internal import CLinux
import Linux
import Synchronization

/// Filling pages, on any thread.
extension LazyMemory {
    /// Fills the pages of a range that are missing.
    ///
    /// - Throws: `PageSourceError` naming the page.
    func fill(_ pages: Range<Int>, _ buffer: UnsafeMutableRawBufferPointer) throws(PageSourceError) {
        var page = pages.lowerBound
        while page < pages.upperBound {
            if present[page] {
                page += 1
                continue
            }
            let isStored = source.has(page)
            var end = page + 1
            let limit = min(pages.upperBound, endOfExtent(page), isStored ? page + buffer.count / pageBytes : .max)
            while end < limit, !present[end], source.has(end) == isStored { end += 1 }
            if isStored { try fetch(page..<end, buffer) } else { try zero(page..<end) }
            page = end
        }
    }

    private func fetch(_ pages: Range<Int>, _ buffer: UnsafeMutableRawBufferPointer) throws(PageSourceError) {
        let bytes = UnsafeMutableRawBufferPointer(rebasing: buffer[..<(pages.count * pageBytes)])
        try source.readToGoOn(page: pages.lowerBound, count: pages.count, into: bytes)
        try repeatUntilFilled(pages) { place, done throws(SystemError) in
            try faults.fill(place, with: UnsafeRawBufferPointer(rebasing: bytes[done...]))
        }
        counters.withLock { $0.statistics.pagesRead += pages.count }
    }

    func zero(_ pages: Range<Int>) throws(PageSourceError) {
        try repeatUntilFilled(pages) { place, done throws(SystemError) in
            try faults.zero(place, count: pages.count * pageBytes - done)
        }
        counters.withLock { $0.statistics.pagesZeroed += pages.count }
    }

    /// Makes sure that pages which are about to be overwritten will not be fetched any more.
    ///
    /// - Throws: `PageSourceError` when the host is out of memory.
    func forget(_ pages: Range<Int>) throws(PageSourceError) {
        var page = pages.lowerBound
        while page < pages.upperBound {
            var end = page + 1
            if !present[page] {
                while end < pages.upperBound, !present[end] { end += 1 }
                try zero(page..<end)
            }
            page = end
        }
    }

    /// Whether a page may hold, or come to hold, something else than zeros.
    func mayHold(_ page: Int) -> Bool { present[page] || source.has(page) }

    /// Drops whole pages of an extent: they read as zeros, and those that were never fetched are not fetched any more.
    func discard(extent: Int, offset: Int, count: Int) {
        let first = extents[extent].firstPage + offset / pageBytes
        guard clinux_madvise(extents[extent].mapping.base + offset, count, MADV_DONTNEED) == 0 else { return }
        // Where the host has no memory for that now the old contents come back, as if they had never been given up.
        try? zero(first..<first + count / pageBytes)
    }

    private func repeatUntilFilled(
        _ pages: Range<Int>, _ call: (UnsafeMutableRawPointer, Int) throws(SystemError) -> UserFaults.Filled
    ) throws(PageSourceError) {
        var page = pages.lowerBound
        let start = place(page)
        while page < pages.upperBound {
            let done = (page - pages.lowerBound) * pageBytes
            let result: UserFaults.Filled
            do throws(SystemError) { result = try call(start + done, done) } catch {
                throw PageSourceError(page: page, reason: "\(error)")
            }
            switch result {
            case .bytes(let count):
                present.insert(page..<page + count / pageBytes)
                page += count / pageBytes
            case .exists:
                // Another thread was faster, or this page was written before it was watched.
                present.insert(page..<page + 1)
                page += 1
            case .busy: sched_yield()
            }
        }
    }

    // MARK: - Places

    private func extent(of page: Int) -> Extent {
        for extent in extents where page < extent.firstPage + extent.pages { return extent }
        preconditionFailure("page \(page) is not guest memory")
    }

    func endOfExtent(_ page: Int) -> Int {
        let extent = extent(of: page)
        return extent.firstPage + extent.pages
    }

    func place(_ page: Int) -> UnsafeMutableRawPointer {
        let extent = extent(of: page)
        return extent.mapping.base + (page - extent.firstPage) * pageBytes
    }

    /// The page at a host address; nil outside of all extents.
    func page(at address: UInt64) -> Int? {
        for extent in extents {
            let base = UInt64(UInt(bitPattern: extent.mapping.base))
            if address >= base, address - base < UInt64(extent.mapping.count) { return extent.firstPage + Int(address - base) / pageBytes }
        }
        return nil
    }
}
