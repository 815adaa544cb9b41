internal import CLinux
import Linux

/// Making and reading the parts of an overlay file that are not blocks.
enum OverlayFile {
    /// Makes an empty overlay; it appears under its name only when it is whole and durable.
    static func create(path: String, _ layout: OverlayLayout) throws(DiskError) {
        let temporary = "\(path).new-\(getpid())"
        do throws(SystemError) {
            try write(temporary, layout)
            guard rename(temporary, path) == 0 else { throw SystemError("create", path, errno: Errno(rawValue: clinux_errno())) }
            try flushDirectory(of: path)
        } catch {
            unlink(temporary)
            throw .system(error)
        }
    }

    private static func write(_ path: String, _ layout: OverlayLayout) throws(SystemError) {
        let file = try OwnedDescriptor.open(path, O_RDWR | O_CREAT | O_TRUNC)
        let descriptor = file.rawValue
        try systemCall("size", path) { clinux_ftruncate(descriptor, layout.dataOffset) }
        let header = layout.encoded
        let written = try systemCall("write", path) { clinux_pwrite(descriptor, header, header.count, 0) }
        guard written == header.count else { throw SystemError("write", path, errno: .noSpace) }
        try systemCall("flush", path) { clinux_fsync(descriptor) }
    }

    private static func flushDirectory(of path: String) throws(SystemError) {
        let parts = path.split(separator: "/", omittingEmptySubsequences: false).dropLast()
        let directory = parts.isEmpty ? "." : parts == [""] ? "/" : parts.joined(separator: "/")
        let file = try OwnedDescriptor.open(directory, O_RDONLY | O_DIRECTORY)
        let descriptor = file.rawValue
        try systemCall("flush", directory) { clinux_fsync(descriptor) }
    }

    static func readHeader(_ overlay: DiskFile) throws(DiskError) -> OverlayLayout {
        let bytes = try read(overlay, count: OverlayLayout.headerBytes, at: 0)
        let layout: OverlayLayout
        do throws(OverlayRefusal) { layout = try OverlayLayout(decoding: bytes) } catch {
            throw .badOverlay(path: overlay.path, reason: error.reason)
        }
        guard overlay.byteCount >= layout.dataOffset else { throw .badOverlay(path: overlay.path, reason: "it is cut off") }
        return layout
    }

    static func readBitmap(_ overlay: DiskFile, _ layout: OverlayLayout) throws(DiskError) -> BlockBitmap {
        let bytes = try read(overlay, count: layout.bitmapBytes, at: Int64(OverlayLayout.headerBytes))
        guard bytes.count == layout.bitmapBytes else { throw .badOverlay(path: overlay.path, reason: "it is cut off") }
        return BlockBitmap(bytes: bytes)
    }

    /// Reads up to `count` bytes; fewer at the end of the file.
    private static func read(_ overlay: DiskFile, count: Int, at offset: Int64) throws(DiskError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        var done = 0
        do throws(SystemError) {
            while done < count {
                let got = try systemCall("read", overlay.path) {
                    bytes.withUnsafeMutableBytes { buffer in
                        clinux_pread(overlay.descriptor, buffer.baseAddress.map { $0 + done }, count - done, offset + Int64(done))
                    }
                }
                if got == 0 { break }
                done += got
            }
        } catch { throw .system(error) }
        return Array(bytes[..<done])
    }

    /// Writes a part of the bitmap.
    static func write(_ overlay: DiskFile, _ bytes: UnsafeRawBufferPointer, at offset: Int64) throws(SystemError) {
        var done = 0
        while done < bytes.count {
            let count = try systemCall("write", overlay.path) {
                clinux_pwrite(overlay.descriptor, bytes.baseAddress.map { $0 + done }, bytes.count - done, offset + Int64(done))
            }
            if count == 0 { throw SystemError("write", overlay.path, errno: .noSpace) }
            done += count
        }
    }
}
