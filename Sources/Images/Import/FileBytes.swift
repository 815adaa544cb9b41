internal import CLinux
internal import Linux

/// A file, or a part of one, as bytes that can be read at any place.
struct FileBytes: ByteSource {
    private let file: SharedDescriptor
    private let path: String
    /// Where the part starts.
    let start: Int
    let count: Int

    /// Opens a regular file.
    init(_ path: String) throws(ImportRefusal) {
        do throws(ImageError) { count = try Files.size(path).bytes } catch { throw ImportRefusal("\(error)") }
        do throws(SystemError) { file = SharedDescriptor(try OwnedDescriptor.open(path, O_RDONLY)) } catch {
            throw ImportRefusal("\(error)")
        }
        self.path = path
        start = 0
    }

    private init(_ whole: FileBytes, start: Int, count: Int) {
        (file, path) = (whole.file, whole.path)
        self.start = start
        self.count = count
    }

    /// A part of it; nil when it does not lie inside.
    func part(at offset: Int, count: Int) -> FileBytes? {
        guard offset >= 0, count >= 0, offset <= self.count, count <= self.count - offset else { return nil }
        return FileBytes(self, start: start + offset, count: count)
    }

    func read(at offset: Int, count: Int) throws(ImportRefusal) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        // The closure's own errors lose their type.
        let failure = bytes.withUnsafeMutableBytes { buffer -> ImportRefusal? in
            do throws(ImportRefusal) { try read(at: offset, into: buffer) } catch { return error }
            return nil
        }
        if let failure { throw failure }
        return bytes
    }

    /// Fills a buffer.
    func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(ImportRefusal) {
        guard offset >= 0, offset <= count, buffer.count <= count - offset else { throw ImportRefusal("\(path) ends too early") }
        let number = file.rawValue
        var done = 0
        while done < buffer.count {
            let got: Int
            do throws(SystemError) {
                got = try systemCall("read", path) {
                    clinux_pread(number, buffer.baseAddress.map { $0 + done }, buffer.count - done, Int64(start + offset + done))
                }
            } catch { throw ImportRefusal("\(error)") }
            guard got > 0 else { throw ImportRefusal("\(path) has become shorter while it was read") }
            done += got
        }
    }
}
