public import AuroraVMM
internal import CLinux
public import Linux
import Synchronization

/// The root disk of an instance: a launch image's blocks, those in which a derived one differs, and what the guest wrote since.
///
/// What is written goes to a private scratch file and is gone with the instance; a flush completes at once.
///
/// `@unchecked Sendable`: what changes is only touched under `lock`.
public final class LaunchDisk: BlockBackend, @unchecked Sendable {
    private enum Place: UInt8 {
        case image, scratch, zero
    }

    /// Bytes of the disk.
    public let byteCount: Int64
    /// The guest may write.
    public let isReadOnly = false
    private let base: LaunchImage
    private let lock = Mutex<Void>(())
    private var delta: LaunchImage?
    private let places: Mapping
    private var scratch: (any ScratchStorage)?
    private var scratchBlocks = 0
    private var scratchBlocksMax = Int.max
    private let makeScratch: @Sendable () throws(SystemError) -> any ScratchStorage
    private var slice = IOVectors()
    private var rest = IOVectors()
    private let buffer: UnsafeMutableRawBufferPointer

    /// Makes the disk of a whole launch image.
    ///
    /// - Parameter makeScratch: called at the first write.
    /// - Throws: `SystemError` when there is no address space.
    public init(
        _ base: LaunchImage, makeScratch: @escaping @Sendable () throws(SystemError) -> any ScratchStorage
    ) throws(SystemError) {
        self.base = base
        self.makeScratch = makeScratch
        byteCount = Int64(base.manifest.diskBytes)
        let blocks = base.manifest.diskBytes / pageBytes
        places = try .anonymous(count: (blocks + pageBytes - 1) / pageBytes * pageBytes, what: "the table of a disk's blocks")
        buffer = .allocate(byteCount: pageBytes, alignment: pageBytes)
    }

    deinit { buffer.deallocate() }

    /// Puts the blocks of a derived launch image over the base's; before the machine runs.
    ///
    /// - Throws: `LaunchError.unsuitable` for one that is not derived from this disk's.
    public func bind(_ image: LaunchImage) throws(LaunchError) {
        guard image.diskRuns != nil, image.manifest.diskBytes == base.manifest.diskBytes else {
            throw .unsuitable("it is not derived from this machine's launch image")
        }
        lock.withLock { _ in delta = image }
    }

    /// Bounds what the guest may have written at once; beyond it a write is an I/O error of the guest's.
    public func limitScratch(bytes: Int) { lock.withLock { _ in scratchBlocksMax = bytes / pageBytes } }

    // MARK: - Requests of the guest

    /// Fills all buffers from the disk.
    ///
    /// - Throws: `SystemError`.
    public func read(_ buffers: borrowing IOVectors, at offset: Int64) throws(SystemError) {
        try lock.withLock { (_) throws(SystemError) in
            var done = 0
            while done < buffers.byteCount {
                let position = Int(offset) + done
                let source = source(at: position)
                slice.assign(buffers, from: done, limit: min(source.count, buffers.byteCount - done))
                try read(source)
                done += slice.byteCount
            }
        }
    }

    /// Writes all buffers to the scratch file.
    ///
    /// - Throws: `SystemError`.
    public func write(_ buffers: borrowing IOVectors, at offset: Int64) throws(SystemError) {
        guard buffers.byteCount > 0 else { return }
        try lock.withLock { (_) throws(SystemError) in
            try takeRoom(Int(offset), buffers.byteCount)
            try prepare(Int(offset), buffers.byteCount)
            try storage().write(buffers, at: offset)
            mark(Int(offset), buffers.byteCount, .scratch)
        }
    }

    /// Completes at once: the disk is gone with the instance.
    public func flush() throws(SystemError) {}

    /// Makes a range read as zeros.
    ///
    /// - Throws: `SystemError`.
    public func writeZeroes(at offset: Int64, count: Int64, mayFree: Bool) throws(SystemError) {
        guard count > 0 else { return }
        try lock.withLock { (_) throws(SystemError) in
            let (start, end) = (Int(offset), Int(offset + count))
            let first = (start + pageBytes - 1) / pageBytes * pageBytes
            let last = end / pageBytes * pageBytes
            if first < last {
                if scratch != nil { try storage().zero(at: Int64(first), count: Int64(last - first)) }
                mark(first, last - first, .zero)
            }
            for (from, to) in first <= last ? [(start, first), (last, end)] : [(start, end)] where from < to {
                try takeRoom(from, to - from)
                try prepare(from, to - from)
                try storage().zero(at: Int64(from), count: Int64(to - from))
                mark(from, to - from, .scratch)
            }
        }
    }

    /// Makes a range read as zeros.
    ///
    /// - Throws: `SystemError`.
    public func discard(at offset: Int64, count: Int64) throws(SystemError) { try writeZeroes(at: offset, count: count, mayFree: true) }

    // MARK: - With the lock held

    /// Where bytes come from, and how many follow from there.
    private enum Source {
        case file(SharedDescriptor, offset: Int, count: Int)
        case scratch(offset: Int, count: Int)
        case zero(count: Int)

        var count: Int {
            switch self {
            case .file(_, _, let count), .scratch(_, let count), .zero(let count): count
            }
        }
    }

    private func place(_ block: Int) -> Place {
        Place(rawValue: places.base.load(fromByteOffset: block, as: UInt8.self)) ?? .image
    }

    private func mark(_ offset: Int, _ count: Int, _ place: Place) {
        for block in (offset / pageBytes)...((offset + count - 1) / pageBytes) {
            if self.place(block) == .scratch { scratchBlocks -= 1 }
            if place == .scratch { scratchBlocks += 1 }
            places.base.storeBytes(of: place.rawValue, toByteOffset: block, as: UInt8.self)
        }
    }

    /// Refuses a write for which there is no room left in the scratch file.
    private func takeRoom(_ offset: Int, _ count: Int) throws(SystemError) {
        guard scratchBlocksMax < .max else { return }
        let more = ((offset / pageBytes)...((offset + count - 1) / pageBytes)).count { place($0) != .scratch }
        guard scratchBlocks + more <= scratchBlocksMax else {
            throw SystemError("write", "an instance's scratch file", errno: Errno(rawValue: ENOSPC))
        }
    }

    /// Blocks looked at for neighbours of one place.
    private static let blocksMax = 256

    private func source(at position: Int) -> Source {
        let block = position / pageBytes
        let place = place(block)
        var end = block + 1
        let last = min(block + LaunchDisk.blocksMax, Int(byteCount) / pageBytes)
        while end < last, self.place(end) == place { end += 1 }
        let inside = position - block * pageBytes
        switch place {
        case .scratch: return .scratch(offset: position, count: end * pageBytes - position)
        case .zero: return .zero(count: end * pageBytes - position)
        case .image:
            guard let delta, let runs = delta.diskRuns else { return .file(base.disk, offset: position, count: end * pageBytes - position) }
            let index = runs.index(of: block)
            guard index < runs.runs.count else { return .file(base.disk, offset: position, count: end * pageBytes - position) }
            let run = runs.runs[index]
            guard run.first <= block else {
                return .file(base.disk, offset: position, count: min(end, run.first) * pageBytes - position)
            }
            let offset = (run.place + block - run.first) * pageBytes + inside
            return .file(delta.disk, offset: offset, count: min(end, run.first + run.count) * pageBytes - position)
        }
    }

    /// Fills `slice`.
    private func read(_ source: Source) throws(SystemError) {
        switch source {
        case .file(let file, let offset, _):
            try FileTransfer.read(file.rawValue, "a launch image's disk", slice, at: Int64(offset), rest: &rest)
        case .scratch(let offset, _): try storage().read(slice, at: Int64(offset))
        case .zero: slice.forEach { $0.initializeMemory(as: UInt8.self, repeating: 0) }
        }
    }

    /// Copies blocks that are about to be changed in part into the scratch file.
    private func prepare(_ offset: Int, _ count: Int) throws(SystemError) {
        let end = offset + count
        if offset % pageBytes != 0 { try copyUp(offset / pageBytes) }
        if end % pageBytes != 0 { try copyUp(end / pageBytes) }
    }

    private func copyUp(_ block: Int) throws(SystemError) {
        guard place(block) != .scratch, let address = buffer.baseAddress else { return }
        slice.removeAll()
        slice.append(base: address, count: pageBytes)
        try read(source(at: block * pageBytes))
        try storage().write(slice, at: Int64(block * pageBytes))
        mark(block * pageBytes, 1, .scratch)
    }

    private func storage() throws(SystemError) -> any ScratchStorage {
        if let scratch { return scratch }
        let made = try makeScratch()
        scratch = made
        return made
    }
}
