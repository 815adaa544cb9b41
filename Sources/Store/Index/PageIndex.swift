internal import Synchronization

/// Where pages with a given checksum may lie: hints, shared by all processes, without locks.
///
/// Two words an entry (half a checksum, a location) are read and written apart: a torn entry, like a stale one, names a place whose
/// bytes differ, and every hit is compared byte by byte. When a bucket is full, a new page takes the place of an older one.
struct PageIndex {
    private let memory: SharedMemory
    private let bucketMask: UInt64

    init(_ memory: SharedMemory) {
        self.memory = memory
        bucketMask = UInt64(memory.shape.bucketCount - 1)
    }

    private func bucket(_ checksum: Checksum) -> UnsafeMutablePointer<Atomic<UInt64>> {
        memory.indexWords + Int(truncatingIfNeeded: checksum.high & bucketMask) * 2 * SharedMemoryShape.bucketEntries
    }

    /// Places where such a page may lie, at most eight.
    func find(_ checksum: Checksum) -> [PageLocation] {
        let words = bucket(checksum)
        var found: [PageLocation] = []
        for entry in 0..<SharedMemoryShape.bucketEntries where words[2 * entry].load(ordering: .relaxed) == checksum.low {
            let location = PageLocation(rawValue: words[2 * entry + 1].load(ordering: .acquiring))
            if !location.isZero { found.append(location) }
        }
        return found
    }

    /// Adds a place; its bytes must have been written.
    func publish(_ checksum: Checksum, at location: PageLocation) {
        let words = bucket(checksum)
        // Without a clear choice the older half of the checksum's own bits choose whom to replace: as good as random.
        var target = Int(truncatingIfNeeded: checksum.low >> 61)
        for entry in 0..<SharedMemoryShape.bucketEntries {
            let place = words[2 * entry + 1].load(ordering: .relaxed)
            if place == location.rawValue, words[2 * entry].load(ordering: .relaxed) == checksum.low { return }
            if place == 0 {
                target = entry
                break
            }
        }
        words[2 * target + 1].store(0, ordering: .relaxed)
        words[2 * target].store(checksum.low, ordering: .releasing)
        words[2 * target + 1].store(location.rawValue, ordering: .releasing)
    }

    /// Removes all entries whose place is not wanted any more; returns how many were looked at and how many removed.
    func purge(unless isKept: (PageLocation) -> Bool) -> (entries: Int, removed: Int) {
        var entries = 0
        var removed = 0
        for index in 0..<memory.shape.bucketCount * SharedMemoryShape.bucketEntries {
            let word = memory.indexWords + (2 * index + 1)
            let place = word.pointee.load(ordering: .acquiring)
            guard place != 0 else { continue }
            entries += 1
            guard !isKept(PageLocation(rawValue: place)) else { continue }
            // Only if it still is that place: another page may have been published meanwhile.
            if word.pointee.compareExchange(expected: place, desired: 0, ordering: .acquiringAndReleasing).exchanged { removed += 1 }
        }
        return (entries, removed)
    }
}
