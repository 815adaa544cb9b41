internal import AuroraVMM
internal import CLinux
internal import Linux

/// The pages that a function's first runs touched: mapped ahead of the first instruction at later restores.
///
/// Kept as `working-set` with the launch image, and made anew when the touched pages drift from it.
public struct WorkingSet: Hashable, Sendable {
    /// Neighbouring pages of one kind.
    public struct Run: Hashable, Sendable {
        /// The first page.
        public var first: Int
        /// How many follow one another.
        public var count: Int
        /// Whether they were written: then they become private copies ahead.
        public var isWritten: Bool
    }
    static let fileName = "working-set"
    /// A function that touches more gains nothing by having all of it mapped ahead.
    public static let pagesMax = 65_536
    private static let magic = Array("AURWSET2".utf8)
    /// A guest has one for each of its processes; more are not worth looking at.
    static let addressSpacesMax = 256
    private static let entryBytes = 12
    private static let writtenBit: UInt32 = 1 << 31
    /// Below this share of pages in common, of both sets, a new recording takes the place of the old one.
    private static let overlapMin = 0.8

    /// The runs, by page.
    public let runs: [Run]
    /// The guest-physical addresses of the top page tables that the guest had when it was saved.
    public private(set) var addressSpaces: [UInt64] = []

    /// Makes runs of pages in rising order.
    public init(_ pages: some Sequence<(page: Int, isWritten: Bool)>) {
        var runs: [Run] = []
        for (page, isWritten) in pages {
            if let last = runs.last, last.first + last.count == page, last.isWritten == isWritten {
                runs[runs.count - 1].count += 1
            } else {
                runs.append(Run(first: page, count: 1, isWritten: isWritten))
            }
        }
        self.runs = runs
    }

    /// The same set of a guest whose top page tables are known.
    public func with(addressSpaces: [UInt64]) -> WorkingSet {
        var set = self
        set.addressSpaces = Array(addressSpaces.prefix(WorkingSet.addressSpacesMax))
        return set
    }

    /// Pages of all runs.
    public var pageCount: Int { runs.reduce(0) { $0 + $1.count } }
    /// Pages that were written.
    public var writtenCount: Int { runs.reduce(0) { $0 + ($1.isWritten ? $1.count : 0) } }
    /// All pages.
    public var pages: Set<Int> { Set(runs.flatMap { $0.first..<($0.first + $0.count) }) }

    /// Of each page: 0 when it is not in the set, 1 when it was read, 2 when it was written.
    public func uses(pages: Int) -> [UInt8] {
        var uses = [UInt8](repeating: 0, count: pages)
        for run in runs { for page in run.first..<min(pages, run.first + run.count) { uses[page] = run.isWritten ? 2 : 1 } }
        return uses
    }

    /// Pages of both.
    public func common(with other: WorkingSet) -> Int { pages.intersection(other.pages).count }

    /// Whether pages that were touched lately have so little in common with these that they should take their place.
    public func hasDrifted(from touched: WorkingSet) -> Bool {
        Double(common(with: touched)) < WorkingSet.overlapMin * Double(max(pageCount, touched.pageCount))
    }

    // MARK: - Format

    /// `AURWSET2`, number of runs, number of address spaces (each 64 bits), then first page (64 bits) and count (32 bits, the highest:
    /// written) of each run, each address space's address, then the checksum's text.
    public var encoded: [UInt8] {
        var bytes = WorkingSet.magic
        func put(_ value: UInt64, _ count: Int) {
            for shift in 0..<count { bytes.append(UInt8(truncatingIfNeeded: value >> UInt64(8 * shift))) }
        }
        put(UInt64(runs.count), 8)
        put(UInt64(addressSpaces.count), 8)
        for run in runs {
            put(UInt64(run.first), 8)
            put(UInt64(UInt32(run.count) | (run.isWritten ? WorkingSet.writtenBit : 0)), 4)
        }
        for address in addressSpaces { put(address, 8) }
        return bytes + Array(LaunchChecksum.text(of: bytes).utf8)
    }

    private static let headerBytes = 24

    /// Reads what `encoded` wrote; nil for anything else.
    ///
    /// - Parameter pages: of the machine's memory.
    public init?(encoded all: [UInt8], pages: Int) {
        guard all.count >= WorkingSet.headerBytes + 32, all.starts(with: WorkingSet.magic) else { return nil }
        let bytes = Array(all.dropLast(32))
        guard Array(all.suffix(32)) == Array(LaunchChecksum.text(of: bytes).utf8) else { return nil }
        func word(_ offset: Int, _ count: Int) -> UInt64 { (0..<count).reduce(0) { $0 | UInt64(bytes[offset + $1]) << UInt64(8 * $1) } }
        let (count, spaces) = (word(8, 8), word(16, 8))
        guard count <= UInt64(WorkingSet.pagesMax), spaces <= UInt64(WorkingSet.addressSpacesMax) else { return nil }
        let spacesOffset = WorkingSet.headerBytes + Int(count) * WorkingSet.entryBytes
        guard bytes.count == spacesOffset + Int(spaces) * 8 else { return nil }
        var runs: [Run] = []
        var end = 0
        for index in 0..<Int(count) {
            let offset = WorkingSet.headerBytes + index * WorkingSet.entryBytes
            guard let first = Int(exactly: word(offset, 8)) else { return nil }
            let length = UInt32(word(offset + 8, 4))
            let pagesOfRun = Int(length & ~WorkingSet.writtenBit)
            guard first >= end, pagesOfRun > 0, first < pages, pagesOfRun <= pages - first else { return nil }
            runs.append(Run(first: first, count: pagesOfRun, isWritten: length & WorkingSet.writtenBit != 0))
            end = first + pagesOfRun
        }
        self.runs = runs
        addressSpaces = (0..<Int(spaces)).map { word(spacesOffset + 8 * $0, 8) }
        guard pageCount <= WorkingSet.pagesMax else { return nil }
    }
}

extension LaunchImage {
    /// The working set, if one was recorded and is whole: without it a restore only takes longer.
    public func workingSet() -> WorkingSet? {
        guard let bytes = try? LaunchImage.read("\(directory)/\(WorkingSet.fileName)", bytesMax: 2 << 20) else { return nil }
        return WorkingSet(encoded: bytes, pages: manifest.pages)
    }

    /// Keeps a working set, in the place of the one there was.
    ///
    /// - Throws: `LaunchError`.
    public func keep(_ set: WorkingSet) throws(LaunchError) {
        let path = "\(directory)/\(WorkingSet.fileName)"
        let staging = "\(path).\(getpid())"
        do throws(SystemError) {
            let file = try OwnedDescriptor.open(staging, O_WRONLY | O_CREAT | O_TRUNC)
            let number = file.rawValue
            let bytes = set.encoded
            let count = try systemCall("write", staging) { clinux_write(number, bytes, bytes.count) }
            guard count == bytes.count else { throw SystemError("write", staging, errno: .noSpace) }
            try systemCall("rename", staging) { clinux_rename(staging, path) }
        } catch {
            _ = clinux_unlink(staging)
            throw .system(error)
        }
    }
}

extension LaunchMemory {
    private static let presentBit: UInt64 = 1 << 63
    private static let fileBit: UInt64 = 1 << 61
    private static let entriesAtOnce = 65_536

    /// The pages that are mapped now: those the guest or the VMM touched, with the neighbours the kernel mapped along, and those populated.
    ///
    /// A page that is no page of a file any more was written. Source: Documentation/admin-guide/mm/pagemap.rst of Linux.
    ///
    /// - Throws: `LaunchError.system`.
    public func touched() throws(LaunchError) -> WorkingSet {
        let path = "/proc/self/pagemap"
        let file: OwnedDescriptor
        do throws(SystemError) { file = try .open(path, O_RDONLY) } catch { throw .system(error) }
        let number = file.rawValue
        var found: [(page: Int, isWritten: Bool)] = []
        var entries = [UInt64](repeating: 0, count: LaunchMemory.entriesAtOnce)
        var first = 0
        for mapping in mappings {
            let pages = mapping.count / pageBytes
            var done = 0
            while done < pages {
                let count = min(pages - done, entries.count)
                let offset = Int64(UInt(bitPattern: mapping.base) / UInt(pageBytes)) * 8 + Int64(done) * 8
                let got = try launchCall("read", path) { clinux_pread(number, &entries, count * 8, offset) }
                guard got == count * 8 else { throw .system(SystemError("read all of", path, errno: .inputOutput)) }
                for index in 0..<count where entries[index] & LaunchMemory.presentBit != 0 {
                    found.append((first + done + index, entries[index] & LaunchMemory.fileBit == 0))
                }
                done += count
            }
            first += pages
        }
        return WorkingSet(found.prefix(WorkingSet.pagesMax))
    }

    /// Whether the pages of a working set that were written can be mapped ahead without waiting for a disk.
    public func isInMemory(_ set: WorkingSet) -> Bool { isCached(set.runs.filter(\.isWritten)) }

    /// Has the kernel read the pages of a working set from the disk while the guest runs; near ones by one request.
    public func prefetch(_ set: WorkingSet) {
        var pending: (first: Int, end: Int)?
        for run in set.runs {
            let end = run.first + run.count
            guard let last = pending else {
                pending = (run.first, end)
                continue
            }
            if run.first - last.end <= LaunchMemory.gapPrefetched {
                pending = (last.first, end)
            } else {
                prefetch(last.first, last.end - last.first)
                pending = (run.first, end)
            }
        }
        if let last = pending { prefetch(last.first, last.end - last.first) }
    }

    private static let gapPrefetched = 16

    /// Maps the pages of a working set ahead.
    ///
    /// - Parameter writtenOnly: leaves those that were only read, which the kernel maps sixteen at a time anyway.
    public func populate(_ set: WorkingSet, writtenOnly: Bool = false) {
        for run in set.runs where run.isWritten || !writtenOnly { populate(run.first, run.count, writing: run.isWritten) }
    }
}
