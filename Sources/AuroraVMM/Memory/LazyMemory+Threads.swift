internal import CLinux
import Linux
import Synchronization

/// The threads of a lazily restored memory.
extension LazyMemory {
    /// Windows around touched pages that wait to be fetched, at most: of more the oldest are of the least use.
    private static let windowsMax = 64

    /// Serves faults until `stop`: the touched pages at once, their neighbours while the guest runs on.
    func serveFaults() {
        let buffer = Buffer(pages: policy.readAheadPages)
        let addresses = UnsafeMutableBufferPointer<UInt64>.allocate(capacity: UserFaults.batchMax)
        defer { addresses.deallocate() }
        var windows: [Range<Int>] = []
        while true {
            let count = windows.isEmpty ? takeFaults(addresses) : faults.take(addresses)
            if isStopping.load(ordering: .acquiring) { return }
            for index in 0..<count {
                guard let window = serve(addresses[index], buffer.bytes) else { continue }
                if windows.count == LazyMemory.windowsMax { windows.removeFirst() }
                windows.append(window)
            }
            // The newest first: what is next to it is what the guest is likely to touch now.
            // A neighbour that cannot be had harms nobody.
            if count == 0, let window = windows.popLast() { try? fill(window, buffer.bytes) }
        }
    }

    /// Waits for faults: awake for a while, because one is often followed by another, then asleep.
    ///
    /// - Returns: zero when the memory is being stopped.
    private func takeFaults(_ addresses: UnsafeMutableBufferPointer<UInt64>) -> Int {
        while true {
            let deadline = clinux_clock_ns(CLOCK_MONOTONIC) + policy.spinNanoseconds
            repeat {
                if isStopping.load(ordering: .acquiring) { return 0 }
                let count = faults.take(addresses)
                if count > 0 { return count }
            } while clinux_clock_ns(CLOCK_MONOTONIC) < deadline
            if faults.wait(or: stopEvent) { return 0 }
        }
    }

    /// Lets go on who touched an address; answers the window of pages that is worth to be fetched next.
    private func serve(_ address: UInt64, _ buffer: UnsafeMutableRawBufferPointer) -> Range<Int>? {
        guard let page = page(at: address) else { return nil }
        var window: Range<Int>?
        let begin = clinux_clock_ns(CLOCK_MONOTONIC)
        if present[page] {
            // Filled by another thread meanwhile, or filled long ago and released since: then it reads as zeros.
            if (try? faults.zero(place(page), count: pageBytes)) == .exists { faults.wake(place(page), count: pageBytes) }
        } else if failure == nil {
            if fetch(page, buffer) { window = self.window(around: page) }
        } else {
            answerAfterFailure(page)
        }
        counters.withLock { counters in
            counters.statistics.faults += 1
            counters.statistics.faultNanoseconds += clinux_clock_ns(CLOCK_MONOTONIC) - begin
            if counters.workingSet.count < policy.workingSetMax { counters.workingSet.append(UInt32(truncatingIfNeeded: page)) }
        }
        return window
    }

    private func fetch(_ page: Int, _ buffer: UnsafeMutableRawBufferPointer) -> Bool {
        do throws(PageSourceError) {
            try fill(page..<page + 1, buffer)
            return true
        } catch {
            fail(error)
            answerAfterFailure(page)
            return false
        }
    }

    /// A touched page and its neighbours; nil when there are none.
    private func window(around page: Int) -> Range<Int>? {
        let size = policy.readAheadPages
        let first = page / size * size
        let window = max(first, firstOfExtent(page))..<min(first + size, endOfExtent(page))
        return window.count > 1 ? window : nil
    }

    private func firstOfExtent(_ page: Int) -> Int { extents.last { $0.firstPage <= page }?.firstPage ?? 0 }

    /// Lets go whoever waits for a page that cannot be had.
    ///
    /// No vCPU executes anything any more; others must not wait for ever.
    private func answerAfterFailure(_ page: Int) { try? zero(page..<page + 1) }

    // MARK: - Ahead

    /// Pages fetched before it is looked again whether the memory is being stopped; neighbours among them are read at once.
    private static let aheadPages = 32

    /// Fetches the pages that earlier restores had to wait for, in that order, while the machine is made and while it runs.
    func populateAhead() {
        let buffer = Buffer(pages: LazyMemory.aheadPages)
        var rest = policy.pagesAhead[...]
        while !rest.isEmpty, !isStopping.load(ordering: .acquiring), failure == nil {
            let pages = rest.prefix(LazyMemory.aheadPages).map { Int($0) }.filter { $0 < pageCount && !present[$0] }.sorted()
            rest = rest.dropFirst(LazyMemory.aheadPages)
            for run in LazyMemory.runs(of: pages) {
                // A page that cannot be had is reported when the guest asks for it.
                try? fill(run, buffer.bytes)
            }
            counters.withLock { $0.statistics.pagesAhead += pages.count }
        }
    }

    /// Sorted numbers as ranges of neighbours.
    private static func runs(of pages: [Int]) -> [Range<Int>] {
        pages.reduce(into: []) { runs, page in
            guard let last = runs.last, page <= last.upperBound else { return runs.append(page..<page + 1) }
            runs[runs.count - 1] = last.lowerBound..<page + 1
        }
    }

    // MARK: - Background

    /// Fetches everything, window by window, at the lowest priority.
    func populateAll() {
        _ = clinux_be_idle()
        let buffer = Buffer(pages: LazyMemory.populatePages)
        var page = 0
        while page < pageCount, !isStopping.load(ordering: .acquiring), failure == nil {
            let end = min(page + LazyMemory.populatePages, pageCount)
            // A page that cannot be had is reported when the guest asks for it.
            try? fill(page..<end, buffer.bytes)
            page = end
        }
    }

    private static let populatePages = 64
}
