public import AuroraVMM
internal import CLinux
public import Linux

/// A guest's memory mapped from launch images: private copies of pages that all instances share until they write.
///
/// `@unchecked Sendable`: the mappings never change after `init`; pages are replaced only before the machine runs.
public final class LaunchMemory: @unchecked Sendable {
    /// The mappings, one for each piece of the state's memory.
    public let mappings: [Mapping]
    private let pages: Int

    /// Maps a whole launch image.
    ///
    /// - Throws: `LaunchError`.
    public init(_ image: LaunchImage, state: MachineState) throws(LaunchError) {
        guard image.manifest.base == nil else { throw .unsuitable("a derived launch image cannot be mapped by itself") }
        var mappings: [Mapping] = []
        var offset = 0
        do throws(SystemError) {
            for extent in state.memory {
                mappings.append(
                    try Mapping.file(privately: image.memory, count: extent.count, offset: offset, what: "the memory of a launch image"))
                offset += extent.count
            }
        } catch { throw .system(error) }
        guard offset == image.manifest.pages * pageBytes else { throw .unsuitable("its memory has another size than its state says") }
        self.mappings = mappings
        pages = image.manifest.pages
    }

    /// Replaces pages by those in which a derived launch image differs; nothing may have run yet.
    ///
    /// - Throws: `LaunchError`; the memory is then of no use.
    public func bind(_ image: LaunchImage) throws(LaunchError) {
        guard let runs = image.memoryRuns, image.manifest.pages == pages else {
            throw .unsuitable("it is not derived from this machine's launch image")
        }
        for run in runs.runs {
            try pieces(run.first, run.count) { (address, count, done) throws(LaunchError) in
                do throws(SystemError) {
                    try Mapping.replace(address, count: count * pageBytes, with: image.memory, offset: (run.place + done) * pageBytes)
                } catch { throw .system(error) }
            }
        }
    }

    /// Has the kernel map pages ahead of their first use: cheaper in one call than by a fault each.
    ///
    /// - Parameter writing: whether they become private copies at once.
    public func populate(_ first: Int, _ count: Int, writing: Bool) {
        guard first >= 0, count > 0, first <= pages - count else { return }
        try? pieces(first, count) { (address, count, _) throws(LaunchError) in
            _ = clinux_madvise(address, count * pageBytes, writing ? CLINUX_MADV_POPULATE_WRITE : CLINUX_MADV_POPULATE_READ)
        }
    }

    /// Whether the files' pages of some runs are in memory, as far as a few of them tell: then mapping them ahead waits for no disk.
    func isCached(_ runs: some RandomAccessCollection<WorkingSet.Run>) -> Bool {
        let step = max(1, runs.count / LaunchMemory.samples)
        for run in stride(from: 0, to: runs.count, by: step).map({ runs[runs.index(runs.startIndex, offsetBy: $0)] }) {
            var isThere = true
            try? pieces(run.first, 1) { (address, _, _) throws(LaunchError) in isThere = clinux_page_is_in_memory(address) != 0 }
            if !isThere { return false }
        }
        return true
    }

    /// Has the kernel begin to read pages that will be used, without waiting for them.
    func prefetch(_ first: Int, _ count: Int) {
        guard first >= 0, count > 0, first <= pages - count else { return }
        try? pieces(first, count) { (address, count, _) throws(LaunchError) in
            _ = clinux_madvise(address, count * pageBytes, CLINUX_MADV_WILLNEED)
        }
    }

    private static let samples = 8

    /// Calls `body` with the address, the pages, and the pages before, for each piece of memory that a run lies in.
    private func pieces(
        _ first: Int, _ count: Int, _ body: (UnsafeMutableRawPointer, Int, Int) throws(LaunchError) -> Void
    ) throws(LaunchError) {
        var start = 0
        var done = 0
        for mapping in mappings where done < count {
            let size = mapping.count / pageBytes
            let page = first + done - start
            if page < size {
                let part = min(count - done, size - page)
                try body(mapping.base + page * pageBytes, part, done)
                done += part
            }
            start += size
        }
    }
}
