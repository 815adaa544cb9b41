internal import CLinux
import Linux

/// A disk made of a base file that is only read, and an overlay file that holds the blocks written since.
///
/// A bitmap says which blocks the overlay holds. It reaches the disk only in `flush`, after the blocks it names: after a
/// power cut the disk reads as of the last flush or later, as any disk does, and never mixes up blocks.
final class CopyOnWriteFileBackend: BlockBackend {
    /// Bytes at the start of a base by which it is recognized; a file system keeps its identity there.
    private static let fingerprintBytes = 64 * 1024

    let byteCount: Int64
    let isReadOnly = false
    private let base: DiskFile
    private let overlay: DiskFile
    private let layout: OverlayLayout
    private var bitmap: BlockBitmap
    private var isDataDirty = false
    private var slice = IOVectors()
    private var rest = IOVectors()
    private let block = UnsafeMutableRawBufferPointer.allocate(byteCount: Int(OverlayLayout.blockBytes), alignment: 4096)

    /// Opens an overlay, which is made if it does not exist.
    ///
    /// - Parameter diskBytes: size of a new disk if it shall be larger than its base, in bytes.
    /// - Throws: `DiskError` naming the file.
    init(basePath: String, overlayPath: String, diskBytes: Int64? = nil) throws(DiskError) {
        base = try DiskFile(path: basePath, isReadOnly: true)
        let fingerprint = try Self.fingerprint(base)
        if access(overlayPath, F_OK) != 0 {
            let wanted = max(diskBytes ?? 0, base.byteCount)
            let rounded = (wanted + OverlayLayout.blockBytes - 1) / OverlayLayout.blockBytes * OverlayLayout.blockBytes
            guard rounded > 0 else { throw .tooSmall(path: basePath) }
            guard rounded <= OverlayLayout.diskBytesMax else { throw .badOverlay(path: overlayPath, reason: "it would be too large") }
            try OverlayFile.create(path: overlayPath, OverlayLayout(diskBytes: rounded, baseFingerprint: fingerprint))
        }
        overlay = try DiskFile(path: overlayPath, isReadOnly: false)
        layout = try OverlayFile.readHeader(overlay)
        guard layout.baseFingerprint == fingerprint else {
            throw .badOverlay(path: overlayPath, reason: "it was made over another image than \(basePath)")
        }
        guard base.byteCount <= layout.diskBytes else {
            throw .badOverlay(path: overlayPath, reason: "it is smaller than its base \(basePath)")
        }
        bitmap = try OverlayFile.readBitmap(overlay, layout)
        byteCount = layout.diskBytes
    }

    deinit {
        try? flush()
        block.deallocate()
    }

    private static func fingerprint(_ base: DiskFile) throws(DiskError) -> UInt64 {
        var bytes = [UInt8](repeating: 0, count: fingerprintBytes)
        do throws(SystemError) {
            let count = try systemCall("read", base.path) { clinux_pread(base.descriptor, &bytes, bytes.count, 0) }
            return OverlayLayout.fingerprint(Array(bytes[..<count]))
        } catch { throw .system(error) }
    }

    // MARK: - Requests

    func read(_ buffers: borrowing IOVectors, at offset: Int64) throws(SystemError) {
        var done = 0
        while done < buffers.byteCount {
            let position = offset + Int64(done)
            let (isHeld, length) = run(at: position, atMost: buffers.byteCount - done)
            slice.assign(buffers, from: done, limit: length)
            if isHeld {
                try FileTransfer.read(overlay.descriptor, overlay.path, slice, at: layout.dataOffset + position, rest: &rest)
            } else {
                try FileTransfer.read(base.descriptor, base.path, slice, at: position, rest: &rest)
            }
            done += length
        }
    }

    func write(_ buffers: borrowing IOVectors, at offset: Int64) throws(SystemError) {
        let count = Int64(buffers.byteCount)
        guard count > 0 else { return }
        try holdPartialBlocks(at: offset, count: count)
        isDataDirty = true
        try FileTransfer.write(overlay.descriptor, overlay.path, buffers, at: layout.dataOffset + offset, rest: &rest)
        hold(at: offset, count: count)
    }

    /// Data first, then the bitmap that names it.
    func flush() throws(SystemError) {
        let descriptor = overlay.descriptor
        if isDataDirty {
            try systemCall("flush", overlay.path) { clinux_fdatasync(descriptor) }
            isDataDirty = false
        }
        guard bitmap.hasChanges else { return }
        var failure: SystemError?
        bitmap.forEachChangedPage { page, bytes in
            do throws(SystemError) {
                try OverlayFile.write(overlay, bytes, at: Int64(OverlayLayout.headerBytes + page * BlockBitmap.pageBytes))
            } catch { failure = failure ?? error }
        }
        if let failure { throw failure }
        try systemCall("flush", overlay.path) { clinux_fdatasync(descriptor) }
        bitmap.didWriteChanges()
    }

    func writeZeroes(at offset: Int64, count: Int64, mayFree: Bool) throws(SystemError) {
        guard count > 0 else { return }
        try holdPartialBlocks(at: offset, count: count)
        isDataDirty = true
        try FileTransfer.writeZeroes(
            overlay.descriptor, overlay.path, at: layout.dataOffset + offset, count: count, mayFree: mayFree)
        hold(at: offset, count: count)
    }

    func discard(at offset: Int64, count: Int64) throws(SystemError) {
        try writeZeroes(at: offset, count: count, mayFree: true)
    }

    // MARK: - Blocks

    /// How far from a position on all blocks are held by the overlay, or all are not.
    private func run(at position: Int64, atMost limit: Int) -> (isHeld: Bool, length: Int) {
        let first = Int(position / OverlayLayout.blockBytes)
        let isHeld = bitmap[first]
        var end = Int64(first + 1) * OverlayLayout.blockBytes
        while end < position + Int64(limit), bitmap[Int(end / OverlayLayout.blockBytes)] == isHeld { end += OverlayLayout.blockBytes }
        return (isHeld, min(limit, Int(end - position)))
    }

    /// Copies the first and the last block of a range from the base if the range covers them only in part.
    private func holdPartialBlocks(at offset: Int64, count: Int64) throws(SystemError) {
        let size = OverlayLayout.blockBytes
        let end = offset + count
        if offset % size != 0 { try copyUp(Int(offset / size)) }
        if end % size != 0 { try copyUp(Int(end / size)) }
    }

    private func copyUp(_ number: Int) throws(SystemError) {
        guard !bitmap[number], let address = block.baseAddress else { return }
        let position = Int64(number) * OverlayLayout.blockBytes
        slice.removeAll()
        slice.append(base: address, count: block.count)
        try FileTransfer.read(base.descriptor, base.path, slice, at: position, rest: &rest)
        isDataDirty = true
        try FileTransfer.write(overlay.descriptor, overlay.path, slice, at: layout.dataOffset + position, rest: &rest)
        bitmap.insert(number)
    }

    private func hold(at offset: Int64, count: Int64) {
        let size = OverlayLayout.blockBytes
        for number in Int(offset / size)...Int((offset + count - 1) / size) { bitmap.insert(number) }
    }
}
