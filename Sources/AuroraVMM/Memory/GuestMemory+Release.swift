internal import CLinux
import Linux

/// Pages that the guest gives back to the host.
extension GuestMemory {
    /// Gives whole pages of a region back; they read as zeros from now on.
    ///
    /// Only those that may have held something else are declared written. What nobody ever touched is zeros in the last checkpoint,
    /// too, and that is most of what a guest reports as free soon after its start: 164,000 pages of 8 GiB, which made the lag of
    /// that epoch a quarter of a second.
    ///
    /// - Returns: pages given back; zero where the host refuses.
    func release(region index: Int, offset: Int, count: Int) -> Int {
        let region = regions[index]
        let pages = offset / pageBytes..<(offset + count) / pageBytes
        // Asked before anything is given back; marked after it, so that no harvest misses the change.
        let held = runsHeld(index, pages)
        if let lazy {
            for run in held { lazy.discard(extent: index, offset: run.lowerBound * pageBytes, count: run.count * pageBytes) }
        } else {
            guard clinux_madvise(region.mapping.base + offset, count, MADV_DONTNEED) == 0 else { return 0 }
        }
        for run in held { region.dirty.mark(offset: run.lowerBound * pageBytes, count: run.count * pageBytes) }
        return pages.count
    }

    /// For fewer pages the kernel is not asked: a ballooned page comes alone, reports are of 2 MiB and more, and asking takes as long
    /// as tens of entries of zeros do.
    private static let pagesWorthALook = 64

    /// The pages of a region that may hold something else than zeros, now or in the checkpoint they come from.
    private func runsHeld(_ index: Int, _ pages: Range<Int>) -> [Range<Int>] {
        if lazy == nil, pages.count < GuestMemory.pagesWorthALook { return [pages] }
        let region = regions[index]
        let populated = lazy == nil ? PopulatedPages() : nil
        let backed = backedPages
        var runs: [Range<Int>] = []
        for page in pages {
            let number = region.firstPage + page
            let isHeld =
                if let lazy { lazy.mayHold(number) } else {
                    populated?.contains(region.mapping.base + page * pageBytes) != false || backed.contains { $0.contains(number) }
                }
            guard isHeld else { continue }
            if let last = runs.last, last.upperBound == page {
                runs[runs.count - 1] = last.lowerBound..<page + 1
            } else {
                runs.append(page..<page + 1)
            }
        }
        return runs
    }
}
